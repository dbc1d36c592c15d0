#include "formats/hf_source.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "base/format.h"
#include "base/printable.h"
#include "formats/hf_config.h"
#include "formats/hf_folder.h"
#include "formats/hf_names.h"
#include "formats/safetensors.h"
#include "formats/tokenizer_json.h"
#include "formats/tokenizer_model.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

constexpr std::size_t kMaxTensors = 65536;

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kFile, where + what);
}

/// All safetensors files of a folder, each tensor in one of them.
std::vector<SafetensorsFile> open_shards(const HfFolder& folder) {
  const HfFolder::Shards shards = folder.shards();
  std::vector<SafetensorsFile> files;
  std::unordered_map<std::string_view, std::size_t> file_of;  // Names live in `files`' entries.
  files.reserve(shards.names.size());
  for (const std::string& name : shards.names) {
    const std::optional<std::string> path = folder.find(name);
    if (!path)
      fail(folder.path() + "/" + printable_value(name),
           " is missing, though " + std::string(kIndexName) + " names it");
    files.emplace_back(*path);
    for (const SafetensorsEntry& entry : files.back().entries()) {
      const auto [other, added] = file_of.emplace(entry.name, files.size() - 1);
      if (!added)
        fail(files.back().where(entry), " lies in " + files[other->second].path() + " too");
    }
    if (file_of.size() > kMaxTensors)
      fail(folder.path(), format(" has more than {} tensors", kMaxTensors));
  }
  for (const auto& [tensor, name] : shards.weight_map.items()) {
    const auto found = file_of.find(tensor);
    const std::string& path = folder.path() + "/" + name.get_ref<const std::string&>();
    if (found == file_of.end() || files[found->second].path() != path) {
      fail(path, ": tensor " + printable_value(tensor) + " is missing, though " +
                     std::string(kIndexName) + " says that it lies there");
    }
  }
  return files;
}

/// Bytes [offset, offset + out.size()) of what the weights of an RMSNorm are once 1 is added, in
/// fp32, to those at `entry`.
void read_norm(const SafetensorsFile& file, const SafetensorsEntry& entry, std::uint64_t offset,
               std::span<std::byte> out) {
  const std::uint64_t size = find_block_traits(*entry.type)->bytes;
  const std::uint64_t begin = offset / 4;
  const std::uint64_t end = (offset + out.size() + 3) / 4;
  std::vector<std::byte> raw(static_cast<std::size_t>((end - begin) * size));
  file.read(entry, begin * size, raw);
  std::vector<float> values(static_cast<std::size_t>(end - begin));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = read_float(*entry.type, raw.data(), static_cast<int>(i)) + 1.0F;
  std::memcpy(out.data(), reinterpret_cast<const std::byte*>(values.data()) + offset % 4,
              out.size());
}

class HfSource final : public WeightSource {
 public:
  HfSource(const std::string& path, Content content)
      : folder_(path), config_(folder_, content), vision_(content == Content::kVision) {
    if (content == Content::kVocabulary) {
      count_bytes();
      return;
    }
    shards_ = open_shards(folder_);
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      for (const SafetensorsEntry& entry : shards_[i].entries()) add(i, entry);
    }
    for (std::size_t i = 0; i < tensors_.size(); ++i) index(i);
    if (vision_ && tensors_.empty())
      fail(folder_.path(), " has no tensors of a vision tower, though config.json describes one");
    if (!vision_) settle_head();
    count_bytes();
  }

  const TensorInfo* find(const TensorName& name) const override;
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, std::uint64_t offset,
            std::span<std::byte> out) const override {
    const Record& record = record_of(tensor);
    const SafetensorsFile& file = shards_[record.shard];
    if (record.norm) {
      if (offset > tensor.bytes || out.size() > tensor.bytes - offset)
        fail(where(tensor),
             format(" has {} bytes, {} were asked for at {}", tensor.bytes, out.size(), offset));
      read_norm(file, *record.entry, offset, out);
    } else {
      file.read(*record.entry, offset, out);
    }
  }

  std::optional<std::uint64_t> find_uint(Key key) const override { return config_.find_uint(key); }
  std::optional<double> find_float(Key key) const override { return config_.find_float(key); }
  std::optional<std::string> find_string(Key key) const override {
    return config_.find_string(key);
  }
  std::optional<PagedVector<std::string>> find_strings(Key key) const override;
  std::optional<PagedVector<double>> find_floats(Key key) const override;
  std::optional<PagedVector<std::int64_t>> find_ints(Key key) const override;
  std::optional<ArraySize> array_size(Key key) const override;

  std::string name(Key key) const override;
  std::string where(Key key) const override;
  std::string where(const TensorName& name) const override {
    return folder_.path() + ": tensor " + prefix_ + hf_name(name, vision_);
  }
  std::string where(const TensorInfo& tensor) const override {
    const Record& record = record_of(tensor);
    return shards_[record.shard].where(*record.entry);
  }

  std::vector<std::string> files() const override;
  std::uint64_t file_bytes() const override { return file_bytes_; }

 private:
  struct Record {
    std::size_t shard;
    const SafetensorsEntry* entry;
    HfName name;  // Points into the entry.
    bool norm;
  };

  const Record& record_of(const TensorInfo& tensor) const {
    return records_[static_cast<std::size_t>(&tensor - tensors_.data())];
  }
  void add(std::size_t shard, const SafetensorsEntry& entry);
  void index(std::size_t i);
  void settle_head();
  bool same_bytes(const TensorInfo& a, const TensorInfo& b) const;
  void count_bytes();
  std::string tokenizer_path() const;
  const TokenTable& tokens() const;

  HfFolder folder_;
  HfConfig config_;
  bool vision_;
  std::vector<SafetensorsFile> shards_;
  std::vector<TensorInfo> tensors_;
  std::vector<Record> records_;  // [tensors_]
  std::unordered_map<std::string_view, std::size_t> by_name_;
  // Tensors of types that hold no weights: an error where one is wanted.
  std::unordered_map<std::string_view, std::string> unreadable_;
  std::string prefix_;  // What stands in front of the names.
  bool own_head_ = true;
  std::uint64_t file_bytes_ = 0;
  mutable std::once_flag tokens_read_;
  mutable TokenTable tokens_;
};

void HfSource::add(std::size_t shard, const SafetensorsEntry& entry) {
  const HfName name = split_hf_name(entry.name);
  if (name.vision != vision_) return;
  if (!entry.type) {
    unreadable_.emplace(name.name, shards_[shard].where(entry) + " is of dtype " + entry.dtype);
    return;
  }
  Record record{shard, &entry, name, is_rms_norm(name)};
  TensorInfo info{.name = entry.name, .type = *entry.type, .shape = entry.shape};
  info.bytes = entry.bytes;
  if (record.norm) {
    info.type = BlockType::kF32;
    info.bytes = entry.bytes / find_block_traits(*entry.type)->bytes * 4;
  }
  info.of_layer = is_of_layer(name);
  info.ends_file = entry.ends_file;
  tensors_.push_back(std::move(info));
  records_.push_back(record);
}

void HfSource::index(std::size_t i) {
  const HfName& name = records_[i].name;
  const auto [other, added] = by_name_.emplace(name.name, i);
  if (!added) {
    fail(where(tensors_[i]),
         " is what " + printable_value(tensors_[other->second].name) + " is, too");
  }
  if (prefix_.empty())
    prefix_ = tensors_[i].name.substr(0, tensors_[i].name.size() - name.name.size());
}

const TensorInfo* HfSource::find(const TensorName& name) const {
  if (name.part == Part::kHead && !own_head_) return nullptr;
  const std::string wanted = hf_name(name, vision_);
  if (const auto found = by_name_.find(wanted); found != by_name_.end())
    return &tensors_[found->second];
  if (const auto found = unreadable_.find(wanted); found != unreadable_.end())
    fail(found->second, ", expected F32, F16 or BF16");
  return nullptr;
}

/// Where the head is the embedding, a folder may hold it twice, as it is also a tensor of a module
/// of its own. What differs is a head of its own, whatever the configuration says.
void HfSource::settle_head() {
  const TensorInfo* const head = find({Part::kHead});
  if (head == nullptr) {
    if (!config_.tied())
      fail(folder_.path(),
           ": tensor lm_head.weight is missing, though key tie_word_embeddings "
           "of config.json is false");
    return;
  }
  const TensorInfo* const embedding = find({Part::kEmbedding});
  own_head_ = !config_.tied() || embedding == nullptr || !same_bytes(*head, *embedding);
  if (own_head_) return;
  // Then it is none of the model's, and not unused either.
  const auto at = head - tensors_.data();
  tensors_.erase(tensors_.begin() + at);
  records_.erase(records_.begin() + at);
  by_name_.clear();
  for (std::size_t i = 0; i < tensors_.size(); ++i) index(i);
}

bool HfSource::same_bytes(const TensorInfo& a, const TensorInfo& b) const {
  if (a.type != b.type || a.shape != b.shape) return false;
  constexpr std::uint64_t kStep = std::uint64_t{1} << 20;
  std::vector<std::byte> left(kStep), right(kStep);
  for (std::uint64_t at = 0; at < a.bytes; at += kStep) {
    const auto count = static_cast<std::size_t>(std::min(kStep, a.bytes - at));
    read(a, at, std::span(left).first(count));
    read(b, at, std::span(right).first(count));
    if (std::memcmp(left.data(), right.data(), count) != 0) return false;
  }
  return true;
}

std::vector<std::string> HfSource::files() const {
  std::set<std::size_t> used;
  for (const Record& record : records_) used.insert(record.shard);
  std::vector<std::string> paths;
  for (const char* name : {"config.json", "preprocessor_config.json", "processor_config.json"}) {
    if (!vision_ && paths.size() == 1) break;
    if (std::optional<std::string> path = folder_.find(name)) paths.push_back(*std::move(path));
  }
  for (const std::size_t shard : used) paths.push_back(shards_[shard].path());
  if (!vision_) paths.push_back(tokenizer_path());
  return paths;
}

/// Of the folder: what stands in it may be read, whatever it is opened for.
void HfSource::count_bytes() {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder_.path(), error), end;
       !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool ours = name.ends_with(".json") || name.ends_with(".safetensors") ||
                      name == "tokenizer.model" || name == "chat_template.jinja";
    std::error_code none;
    if (!ours || !entry->is_regular_file(none)) continue;
    const std::uint64_t bytes = entry->file_size(none);
    if (!none) file_bytes_ += bytes;
  }
}

std::string HfSource::tokenizer_path() const {
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    if (std::optional<std::string> path = folder_.find(name)) return *std::move(path);
  }
  fail(folder_.path(), ": has neither tokenizer.model nor tokenizer.json");
}

const TokenTable& HfSource::tokens() const {
  std::call_once(tokens_read_, [this] {
    const std::string path = tokenizer_path();
    tokens_ = path.ends_with(".json") ? read_tokenizer_json(path) : read_tokenizer_model(path);
  });
  return tokens_;
}

std::optional<PagedVector<std::string>> HfSource::find_strings(Key key) const {
  if (key != Key::kTokens || vision_) return {};
  const TokenTable& table = tokens();
  PagedVector<std::string> texts;
  texts.reserve(table.pieces.size());
  for (const TokenTable::Piece& piece : table.pieces) texts.emplace_back(table.text_of(piece));
  return texts;
}

std::optional<PagedVector<double>> HfSource::find_floats(Key key) const {
  if (key != Key::kTokenScores || vision_) return config_.find_floats(key);
  const TokenTable& table = tokens();
  PagedVector<double> scores;
  scores.reserve(table.pieces.size());
  for (const TokenTable::Piece& piece : table.pieces) scores.push_back(piece.score);
  return scores;
}

std::optional<PagedVector<std::int64_t>> HfSource::find_ints(Key key) const {
  if (key != Key::kTokenTypes || vision_) return config_.find_ints(key);
  const TokenTable& table = tokens();
  PagedVector<std::int64_t> types;
  types.reserve(table.pieces.size());
  for (const TokenTable::Piece& piece : table.pieces)
    types.push_back(static_cast<std::int64_t>(piece.type));
  return types;
}

std::optional<ArraySize> HfSource::array_size(Key key) const {
  const bool of_tokens = key == Key::kTokens || key == Key::kTokenScores || key == Key::kTokenTypes;
  if (!of_tokens || vision_) return config_.array_size(key);
  const TokenTable& table = tokens();
  return ArraySize{table.pieces.size(),
                   key == Key::kTokens ? table.text.size() : 8 * table.pieces.size()};
}

std::string HfSource::name(Key key) const {
  if (vision_) return config_.name(key);
  if (key == Key::kTokens) return tokens().tokens;
  if (key == Key::kTokenScores) return tokens().tokens + " (scores)";
  if (key == Key::kTokenTypes) return tokens().tokens + " (types)";
  return config_.name(key);
}

std::string HfSource::where(Key key) const {
  const bool of_tokens = key == Key::kTokens || key == Key::kTokenScores || key == Key::kTokenTypes;
  return of_tokens && !vision_ ? tokens().file + ": key " + name(key) : config_.where(key);
}

}  // namespace

bool is_folder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

std::unique_ptr<WeightSource> open_hf(const std::string& path, Content content) {
  return std::make_unique<HfSource>(path, content);
}

FileInfo list_hf(const std::string& path) {
  const HfFolder folder(path);
  FileInfo info = HfConfig::list(folder);
  for (const SafetensorsFile& file : open_shards(folder)) {
    for (const SafetensorsEntry& entry : file.entries()) {
      info.tensors.push_back(
          {printable_value(entry.name), entry.dtype, entry.shape, entry.offset, entry.bytes});
    }
  }
  return info;
}

}  // namespace lapidary
