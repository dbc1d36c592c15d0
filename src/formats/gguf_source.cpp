// What GGUF files call the engine's keys and tensors, and what they mean by them.

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>

#include "base/format.h"
#include "base/printable.h"
#include "formats/gguf.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

struct KeyName {
  Key key;
  const char* name;
  const char* other = nullptr;  // Of other converters, where `name` is absent.
};

constexpr KeyName kTextKeys[] = {
    {Key::kLayers, "gemma3.block_count"},
    {Key::kWidth, "gemma3.embedding_length"},
    {Key::kFeedForward, "gemma3.feed_forward_length"},
    {Key::kHeads, "gemma3.attention.head_count"},
    {Key::kNormEpsilon, "gemma3.attention.layer_norm_rms_epsilon"},
    {Key::kName, "general.name"},
    {Key::kKvHeads, "gemma3.attention.head_count_kv"},
    {Key::kHeadDim, "gemma3.attention.key_length"},
    {Key::kValueDim, "gemma3.attention.value_length"},
    {Key::kTrainedContext, "gemma3.context_length"},
    {Key::kSlidingWindow, "gemma3.attention.sliding_window"},
    {Key::kSlidingPattern, "gemma3.attention.sliding_window_pattern"},
    {Key::kRopeBase, "gemma3.rope.freq_base"},
    {Key::kLocalRopeBase, "gemma3.rope.freq_base_swa"},
    {Key::kRopeScaling, "gemma3.rope.scaling.type"},
    {Key::kRopeFactor, "gemma3.rope.scaling.factor", "gemma3.rope.scale_linear"},
    {Key::kLogitSoftcap, "gemma3.final_logit_softcapping"},
    {Key::kTokens, "tokenizer.ggml.tokens"},
    {Key::kTokenScores, "tokenizer.ggml.scores"},
    {Key::kTokenTypes, "tokenizer.ggml.token_type"},
    {Key::kBos, "tokenizer.ggml.bos_token_id"},
    {Key::kEos, "tokenizer.ggml.eos_token_id"},
    {Key::kEot, "tokenizer.ggml.eot_token_id"},
    {Key::kEom, "tokenizer.ggml.eom_token_id"},
    {Key::kChatTemplate, "tokenizer.chat_template"},
};

constexpr KeyName kVisionKeys[] = {
    {Key::kLayers, "clip.vision.block_count"},
    {Key::kWidth, "clip.vision.embedding_length"},
    {Key::kFeedForward, "clip.vision.feed_forward_length"},
    {Key::kHeads, "clip.vision.attention.head_count"},
    {Key::kNormEpsilon, "clip.vision.attention.layer_norm_epsilon"},
    {Key::kImageSize, "clip.vision.image_size"},
    {Key::kPatchSize, "clip.vision.patch_size"},
    {Key::kTextWidth, "clip.vision.projection_dim"},
    {Key::kPool, "clip.vision.projector.scale_factor"},
    {Key::kImageMean, "clip.vision.image_mean"},
    {Key::kImageDeviation, "clip.vision.image_std"},
};

struct PartName {
  Part part;
  const char* name;
};

constexpr PartName kTextParts[] = {
    {Part::kEmbedding, "token_embd"},
    {Part::kHead, "output"},
    {Part::kOutputNorm, "output_norm"},
    {Part::kAttentionNorm, "attn_norm"},
    {Part::kQuery, "attn_q"},
    {Part::kKey, "attn_k"},
    {Part::kValue, "attn_v"},
    {Part::kQueryNorm, "attn_q_norm"},
    {Part::kKeyNorm, "attn_k_norm"},
    {Part::kOutput, "attn_output"},
    {Part::kPostAttentionNorm, "post_attention_norm"},
    {Part::kFeedForwardNorm, "ffn_norm"},
    {Part::kGate, "ffn_gate"},
    {Part::kUp, "ffn_up"},
    {Part::kDown, "ffn_down"},
    {Part::kPostFeedForwardNorm, "post_ffw_norm"},
};

constexpr PartName kVisionParts[] = {
    {Part::kPatches, "v.patch_embd"},
    {Part::kPositions, "v.position_embd"},
    {Part::kAttentionNorm, "ln1"},
    {Part::kQuery, "attn_q"},
    {Part::kKey, "attn_k"},
    {Part::kValue, "attn_v"},
    {Part::kOutput, "attn_out"},
    {Part::kFeedForwardNorm, "ln2"},
    {Part::kUp, "ffn_up"},
    {Part::kDown, "ffn_down"},
    {Part::kPostNorm, "v.post_ln"},
    {Part::kSoftNorm, "mm.soft_emb_norm"},
    {Part::kProjection, "mm.input_projection"},
};

class GgufSource final : public WeightSource {
 public:
  GgufSource(const std::string& path, Content content)
      : file_(path, content == Content::kVision ? "v.blk." : "blk."),
        vision_(content == Content::kVision) {
    if (content == Content::kText)
      require_architecture("gemma3", "clip", " (this is the vision part of a model)");
    if (!vision_) return;
    require_architecture("clip", "gemma3",
                         " (this is the text part of a model, not its vision part)");
    // Files that hold several encoders name the projector of each.
    const char* own = "clip.vision.projector_type";
    require_text(file_.has(own) ? own : "clip.projector_type", "gemma3");
  }

  const TensorInfo* find(const TensorName& name) const override {
    return file_.find(tensor_name(name));
  }
  std::span<const TensorInfo> tensors() const override { return file_.tensors(); }
  void read(const TensorInfo& tensor, std::uint64_t offset,
            std::span<std::byte> out) const override {
    file_.read(tensor, offset, out);
  }

  std::optional<std::uint64_t> find_uint(Key key) const override {
    return file_.find_uint(name(key));
  }
  std::optional<double> find_float(Key key) const override { return file_.find_float(name(key)); }
  std::optional<std::string> find_string(Key key) const override {
    return file_.find_string(name(key));
  }
  std::optional<PagedVector<std::string>> find_strings(Key key) const override {
    return file_.find_strings(name(key));
  }
  std::optional<PagedVector<double>> find_floats(Key key) const override {
    return file_.find_floats(name(key));
  }
  std::optional<PagedVector<std::int64_t>> find_ints(Key key) const override {
    return file_.find_ints(name(key));
  }
  std::optional<ArraySize> array_size(Key key) const override {
    // GGUF's name of SentencePiece.
    if (key == Key::kTokens) require_text("tokenizer.ggml.model", "llama", " (SentencePiece)");
    return file_.array_size(name(key));
  }

  std::string name(Key key) const override;
  std::string where(Key key) const override { return file_.path() + ": key " + name(key); }
  std::string where(const TensorName& name) const override {
    return file_.path() + ": tensor " + tensor_name(name);
  }
  std::string where(const TensorInfo& tensor) const override {
    return file_.path_of(tensor) + ": tensor " + printable_value(tensor.name);
  }

  std::vector<std::string> files() const override { return file_.paths(); }
  std::uint64_t file_bytes() const override { return file_.file_bytes(); }

 private:
  /// Throws Error(kFile) unless the string at `key` is `expected`; `note` ends the message.
  void require_text(const char* key, const std::string& expected, const char* note = "") const;
  void require_architecture(const char* expected, const char* other, const char* note) const {
    constexpr const char* kKey = "general.architecture";
    require_text(kKey, expected, file_.find_string(kKey) == other ? note : "");
  }
  std::string tensor_name(const TensorName& name) const;
  bool exchanged(int layer) const;

  GgufFile file_;
  bool vision_;
};

void GgufSource::require_text(const char* key, const std::string& expected,
                              const char* note) const {
  const std::optional<std::string> found = file_.find_string(key);
  if (found == expected) return;
  const std::string is = found ? "\"" + printable_value(*found) + "\"" : "missing";
  throw Error(ErrorCode::kFile, file_.path() + ": key " + key + " is " + is + ", expected \"" +
                                    expected + "\"" + note);
}

std::string GgufSource::name(Key key) const {
  const std::span<const KeyName> keys =
      vision_ ? std::span<const KeyName>(kVisionKeys) : std::span<const KeyName>(kTextKeys);
  for (const KeyName& row : keys) {
    if (row.key != key) continue;
    return row.other != nullptr && !file_.has(row.name) && file_.has(row.other) ? row.other
                                                                                : row.name;
  }
  return {};  // What these files never say.
}

/// Older vision files call up and down by each other's names; the shape tells.
bool GgufSource::exchanged(int layer) const {
  const TensorInfo* down = file_.find(format("v.blk.{}.ffn_down.weight", layer));
  return down != nullptr && find_uint(Key::kWidth) != find_uint(Key::kFeedForward) &&
         down->columns() == find_uint(Key::kWidth);
}

std::string GgufSource::tensor_name(const TensorName& name) const {
  Part part = name.part;
  if (vision_ && (part == Part::kUp || part == Part::kDown) && exchanged(name.layer))
    part = part == Part::kUp ? Part::kDown : Part::kUp;
  const std::span<const PartName> parts =
      vision_ ? std::span<const PartName>(kVisionParts) : std::span<const PartName>(kTextParts);
  std::string text;
  if (name.layer >= 0) text = format("{}{}.", vision_ ? "v.blk." : "blk.", name.layer);
  for (const PartName& row : parts) {
    if (row.part == part) return text + row.name + (name.bias ? ".bias" : ".weight");
  }
  return {};
}

}  // namespace

std::unique_ptr<WeightSource> open_gguf(const std::string& path, Content content) {
  return std::make_unique<GgufSource>(path, content);
}

std::vector<std::string> gguf_vision_paths(const std::string& model_path) {
  namespace fs = std::filesystem;
  const fs::path model = model_path;
  const fs::path folder = model.has_parent_path() ? model.parent_path() : fs::path(".");
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename().string();
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (!name.ends_with(".gguf") || name.find("mmproj") == std::string::npos) continue;
    const fs::path path = model.has_parent_path() ? entry->path() : entry->path().filename();
    std::error_code ignored;
    if (path.filename() != model.filename() && fs::is_regular_file(path, ignored))
      found.push_back(path.string());
  }
  return found;
}

}  // namespace lapidary
