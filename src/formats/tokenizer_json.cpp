// Reads the tokenizers library's files, in which byte pairs are a list of merges. They have tens of
// megabytes, so that vocabulary and merges are taken as they come; only the rest becomes values.

#include "formats/tokenizer_json.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/format.h"
#include "base/printable.h"
#include "formats/json.h"
#include "lapidary/error.h"
#include "lapidary/utf8.h"

namespace lapidary {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{128} << 20;
// Tokens that a file may have beside one in sixty bytes: they take no more memory than that allows
// (docs/decisions/0020-memory-goes-back.md).
constexpr std::size_t kFreePieces = 600'000;
// What stands beside vocabulary and merges: values, and bytes of texts and names.
constexpr std::size_t kMaxKept = 200'000, kMaxKeptBytes = std::size_t{8} << 20;
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

bool is_one_character(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return !is_continuation(c); }) == 1;
}

/// Ids by the texts of tokens: open addressing, four bytes a place.
class TextIndex {
 public:
  explicit TextIndex(const TokenTable& table) : table_(table) {
    std::size_t size = 16;
    while (size < 2 * table.pieces.size()) size *= 2;
    places_.assign(size, kNone);
  }

  /// False where the text is there already.
  bool add(std::uint32_t id) {
    const std::size_t place = place_of(table_.text_of(table_.pieces[id]));
    if (places_[place] != kNone) return false;
    places_[place] = id;
    return true;
  }
  /// The id of `text`, or kNone.
  std::uint32_t find(std::string_view text) const { return places_[place_of(text)]; }
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

 private:
  std::size_t place_of(std::string_view text) const {
    const std::size_t mask = places_.size() - 1;
    std::size_t place = std::hash<std::string_view>()(text) & mask;
    while (places_[place] != kNone && table_.text_of(table_.pieces[places_[place]]) != text)
      place = (place + 1) & mask;
    return place;
  }

  const TokenTable& table_;
  PagedVector<std::uint32_t> places_;
};

class Reader final : public nlohmann::json_sax<Json> {
 public:
  explicit Reader(TokenTable& table) : table_(table) {}

  void read(std::string_view text) {
    const JsonLimits limits{.values = text.size()};
    phase_ = Phase::kTokens;
    // Only what is used of it takes memory. A token of a vocabulary has five characters at least.
    most_pieces_ = text.size() / 60 + kFreePieces;
    const std::size_t room = std::min(most_pieces_, text.size() / 5 + 1);
    table_.pieces.reserve(room);
    ids_.reserve(room);
    table_.text.reserve(text.size());
    parse_json(text, table_.file, limits, *this);
    if (!kept_.is_object()) fail(" holds ", std::string(kind_of(kept_)) + ", expected an object");
    settle();
    phase_ = Phase::kMerges;
    kept_count_ = kept_bytes_ = 0;
    // Only what is used of it takes memory. A merge has six characters at least, and a token can be
    // made in as many ways as it has bytes.
    most_merges_ = std::min(table_.text.size(), text.size() / 6);
    merges_.reserve(most_merges_);
    parse_json(text, table_.file, limits, *this);
    if (!merges_seen_) fail(": key model.merges ", "is missing");
    set_aside();
  }

  bool start_object(std::size_t /*size*/) override {
    if (at_ == At::kKept && opens("vocab")) {
      at_ = At::kVocab;
      if (std::exchange(vocab_seen_, true) && phase_ == Phase::kTokens)
        fail(": key model.vocab ", "is there twice");
      return true;
    }
    if (at_ != At::kKept) fail_inside();
    open(Json::object());
    return true;
  }
  bool end_object() override {
    if (std::exchange(at_, At::kKept) == At::kKept) open_.pop_back();
    return true;
  }
  bool start_array(std::size_t /*size*/) override {
    if (at_ == At::kKept && opens("merges")) {
      at_ = At::kMerges;
      at_merge_ = 0;
      merges_seen_ = true;
      return true;
    }
    if (at_ == At::kVocab || (at_ == At::kMerges && std::exchange(in_pair_, true))) fail_inside();
    if (at_ == At::kKept) open(Json::array());
    return true;
  }
  bool end_array() override {
    if (at_ == At::kKept) {
      open_.pop_back();
    } else if (std::exchange(in_pair_, false)) {
      if (pair_.size() != 2) fail_inside();
      merge(pair_[0], pair_[1]);
      pair_.clear();
    } else {
      at_ = At::kKept;
    }
    return true;
  }
  bool key(std::string& name) override {
    if (at_ == At::kMerges) fail_inside();
    if (at_ == At::kKept) kept_bytes_ += name.size();
    key_ = std::move(name);
    return true;
  }
  bool string(std::string& value) override {
    if (at_ == At::kKept) {
      kept_bytes_ += value.size();
      return keep(std::move(value));
    }
    if (at_ == At::kVocab) fail_inside();
    if (in_pair_) {
      if (pair_.size() == 2) fail_inside();
      pair_.push_back(std::move(value));
      return true;
    }
    const std::size_t space = value.find(' ');
    if (space == std::string::npos) fail_inside();
    merge(std::string_view(value).substr(0, space), std::string_view(value).substr(space + 1));
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (at_ == At::kKept) return keep(value);
    if (at_ == At::kMerges) fail_inside();
    if (phase_ == Phase::kTokens) add(key_, value, TokenType::kNormal);
    return true;
  }
  bool null() override { return other(nullptr); }
  bool boolean(bool value) override { return other(value); }
  bool number_integer(number_integer_t value) override { return other(value); }
  bool number_float(number_float_t value, const std::string& /*text*/) override {
    return other(value);
  }
  bool binary(binary_t& /*value*/) override { return false; }
  bool parse_error(std::size_t byte, const std::string& /*token*/,
                   const Json::exception& /*error*/) override {
    throw Error(ErrorCode::kFile, format("{}: is no valid JSON at byte {}", table_.file, byte));
  }

 private:
  enum class Phase { kTokens, kMerges };     // Merges may stand in front of the vocabulary.
  enum class At { kKept, kVocab, kMerges };  // What a value is part of.

  [[noreturn]] void fail(const std::string& where, const std::string& what) const {
    throw Error(ErrorCode::kFile, table_.file + where + what);
  }
  [[noreturn]] void fail_inside() const {
    if (at_ == At::kVocab) fail(": key model.vocab ", "holds another thing than tokens and ids");
    fail(": key model.merges ",
         format("holds another thing than pairs of texts, at merge {}", at_merge_));
  }

  /// Whether a value that begins here is the model's member `name`.
  bool opens(const char* name) const {
    return open_.size() == 2 && in_model_ && open_.back()->is_object() && key_ == name;
  }
  /// The place of a value that is kept.
  Json& place(Json value) {
    if (kept_bytes_ > kMaxKeptBytes)
      fail(" has more than ", format("{} bytes beside its vocabulary and merges", kMaxKeptBytes));
    if (++kept_count_ > kMaxKept)
      fail(" has more than ", format("{} values beside its vocabulary and merges", kMaxKept));
    if (open_.empty()) return kept_ = std::move(value);
    Json& in = *open_.back();
    if (in.is_array()) {
      in.push_back(std::move(value));
      return in.back();
    }
    if (phase_ == Phase::kTokens && in.contains(key_))
      fail(" has \"", printable_value(key_) + "\" twice in one object");
    return in[key_] = std::move(value);
  }
  void open(Json value) {
    if (open_.size() == 1) in_model_ = open_.back()->is_object() && key_ == "model";
    open_.push_back(&place(std::move(value)));
  }
  bool keep(Json value) {
    place(std::move(value));
    return true;
  }
  bool other(Json value) {
    if (at_ != At::kKept) fail_inside();
    return keep(std::move(value));
  }

  void add(std::string_view text, std::uint64_t id, TokenType type) {
    if (id > 0xFFFFFFFF || table_.pieces.size() >= most_pieces_)
      fail(": token ", format("\"{}\" has id {}, expected less than {}", printable_value(text), id,
                              most_pieces_));
    table_.pieces.push_back({static_cast<std::uint32_t>(table_.text.size()),
                             static_cast<std::uint32_t>(text.size()), 0, type});
    table_.text += text;
    ids_.push_back(static_cast<std::uint32_t>(id));
  }

  // Between the phases.
  void settle();
  void check_settings() const;
  void check_normalizer() const;
  void add_added();
  void sort_by_id();
  void set_types();

  /// The token `whole` made of `left`, an id, and of what then is left of it.
  struct Merge {
    std::uint32_t whole, left;
  };
  void merge(std::string_view left, std::string_view right);
  void set_aside();

  TokenTable& table_;
  PagedVector<std::uint32_t> ids_;  // Of table_.pieces, until these are in order.
  std::vector<std::pair<std::uint32_t, TokenType>> added_;  // Ids of tokens that are no merges'.
  std::optional<TextIndex> index_;
  PagedVector<Merge> merges_;
  std::size_t most_pieces_ = 0, most_merges_ = 0;
  Json kept_;
  std::vector<Json*> open_;
  std::string key_;
  std::vector<std::string> pair_;
  std::string whole_;
  std::size_t kept_count_ = 0, kept_bytes_ = 0;
  Phase phase_ = Phase::kTokens;
  At at_ = At::kKept;
  std::size_t at_merge_ = 0;
  bool in_model_ = false;
  bool in_pair_ = false;
  bool vocab_seen_ = false;
  bool merges_seen_ = false;
};

void Reader::settle() {
  check_settings();
  check_normalizer();
  add_added();
  sort_by_id();
  index_.emplace(table_);
  for (std::uint32_t id = 0; id < table_.pieces.size(); ++id) {
    if (!index_->add(id)) fail(": token ", format("{} is spelt like one before it", id));
  }
  set_types();
}

void Reader::check_settings() const {
  const auto found = kept_.find("model");
  if (found == kept_.end() || !found->is_object()) fail(": key model ", "is missing");
  const auto expect = [&](const char* name, const Json& value, bool may_lack) {
    const Json is = found->value(name, Json());
    if (is == value || (may_lack && is.is_null())) return;
    fail(std::string(": key model.") + name,
         " is " + printable_value(is.dump(-1, ' ', false, Json::error_handler_t::replace)) +
             ", expected " + value.dump());
  };
  expect("type", "BPE", true);
  expect("byte_fallback", true, false);
  expect("ignore_merges", false, true);
  expect("dropout", nullptr, true);
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (found->value(name, Json()) != "") expect(name, nullptr, true);
  }
  if (!vocab_seen_) fail(": key model.vocab ", "is missing");
}

/// Spaces become U+2581, and nothing else changes.
void Reader::check_normalizer() const {
  const Json mark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMark}};
  const Json found = kept_.value("normalizer", Json());
  if (found == mark) return;
  if (found.is_object() && found.value("type", Json()) == "Sequence" &&
      found.value("normalizers", Json()) == Json::array({mark}))
    return;
  fail(": key normalizer ",
       "is " + printable_value(found.dump(-1, ' ', false, Json::error_handler_t::replace)) +
           ", expected to replace spaces by U+2581 and nothing else");
}

void Reader::add_added() {
  const Json added = kept_.value("added_tokens", Json::array());
  if (!added.is_array()) fail(": key added_tokens ", "is no list");
  // By id, to see which the vocabulary has already.
  PagedVector<std::uint32_t> there(ids_);
  std::ranges::sort(there);
  for (const Json& token : added) {
    const auto is = [&](const char* name) {
      return token.is_object() && token.value(name, Json()) == true;
    };
    const Json id = token.is_object() ? token.value("id", Json()) : Json();
    const Json content = token.is_object() ? token.value("content", Json()) : Json();
    if (!id.is_number_unsigned() || !content.is_string())
      fail(": key added_tokens ", "holds another thing than tokens with an id and a content");
    const auto& text = content.get_ref<const std::string&>();
    const bool special = is("special");
    for (const char* name : {"single_word", "lstrip", "rstrip"}) {
      if (is(name) && !special)
        fail(": key added_tokens ", "has \"" + printable_value(text) + "\" with " + name);
    }
    const auto number = id.get<std::uint64_t>();
    const TokenType type = special ? TokenType::kControl : TokenType::kUserDefined;
    if (number > 0xFFFFFFFF ||
        !std::ranges::binary_search(there, static_cast<std::uint32_t>(number)))
      add(text, number, type);
    added_.emplace_back(static_cast<std::uint32_t>(number), type);
  }
}

void Reader::sort_by_id() {
  const std::size_t count = table_.pieces.size();
  if (count == 0) fail(": key model.vocab ", "is empty");
  PagedVector<TokenTable::Piece> sorted(count);
  PagedVector<std::uint8_t> filled(count, 0);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t id = ids_[i];
    if (id >= count)
      fail(": token ", format("\"{}\" has id {}, expected less than the {} of all tokens",
                              printable_value(table_.text_of(table_.pieces[i])), id, count));
    if (std::exchange(filled[id], std::uint8_t{1}) != 0)
      fail(": id ", format("{} is that of two tokens", id));
    sorted[id] = table_.pieces[i];
  }
  table_.pieces = std::move(sorted);
  ids_ = {};
}

/// Bytes, and what is no merges'.
void Reader::set_types() {
  for (TokenTable::Piece& piece : table_.pieces) {
    const std::string_view text = table_.text_of(piece);
    if (text.size() == 6 && text.starts_with("<0x") && text.ends_with('>'))
      piece.type = TokenType::kByte;
  }
  for (const auto& [id, type] : added_) table_.pieces[id].type = type;
  const Json unknown = kept_["model"].value("unk_token", Json());
  if (!unknown.is_string()) fail(": key model.unk_token ", "is missing");
  const std::uint32_t id = index_->find(unknown.get_ref<const std::string&>());
  if (id == TextIndex::kNone) fail(": key model.unk_token ", "is no token");
  table_.pieces[id].type = TokenType::kUnknown;
}

/// The earliest merge of a token gives it its score.
void Reader::merge(std::string_view left, std::string_view right) {
  ++at_merge_;
  if (phase_ == Phase::kTokens) return;
  whole_ = left;
  whole_ += right;
  const std::uint32_t whole = index_->find(whole_), part = index_->find(left);
  constexpr std::uint32_t kNone = TextIndex::kNone;
  if (left.empty() || right.empty() || whole == kNone || part == kNone ||
      index_->find(right) == kNone) {
    fail(": key model.merges ",
         format("has \"{}\" and \"{}\" at merge {}, which are no tokens, or "
                "make none",
                printable_value(left), printable_value(right), merges_.size()));
  }
  if (merges_.size() == most_merges_)
    fail(": key model.merges ", "has more merges than its tokens can be made in");
  merges_.push_back({whole, part});
  TokenTable::Piece& piece = table_.pieces[whole];
  if (piece.score == 0) piece.score = -static_cast<float>(merges_.size());
}

/// Tokens that no merges lead to: SentencePiece would make them of whatever two parts. As unused
/// ones with the lowest score it takes them apart again once it has done all else.
void Reader::set_aside() {
  const auto bytes_of = [this](const Merge& merge) { return table_.pieces[merge.whole].bytes; };
  // Parts are shorter than what they make.
  std::ranges::sort(merges_, {}, bytes_of);
  PagedVector<std::uint8_t> made(table_.pieces.size(), 0);
  for (std::size_t id = 0; id < made.size(); ++id)
    made[id] = is_one_character(table_.text_of(table_.pieces[id])) ? 1 : 0;
  for (const Merge& merge : merges_) {
    const std::string_view whole = table_.text_of(table_.pieces[merge.whole]);
    const std::uint32_t right = index_->find(whole.substr(table_.pieces[merge.left].bytes));
    if (made[merge.left] != 0 && made[right] != 0) made[merge.whole] = 1;
  }
  for (std::size_t id = 0; id < made.size(); ++id) {
    TokenTable::Piece& piece = table_.pieces[id];
    if (piece.type != TokenType::kNormal || made[id] != 0) continue;
    piece.type = TokenType::kUnused;
    piece.score = -static_cast<float>(merges_.size() + 1);
  }
}

}  // namespace

TokenTable read_tokenizer_json(const std::string& path) {
  TokenTable table;
  table.file = path;
  table.tokens = "model.vocab";
  const File file(path);
  if (file.size() > kMaxBytes) {
    throw Error(ErrorCode::kFile,
                format("{} has {} bytes, expected at most {}", path, file.size(), kMaxBytes));
  }
  PagedString text(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  Reader(table).read(text);
  return table;
}

}  // namespace lapidary
