#include "formats/hf_names.h"

#include "base/format.h"

namespace lapidary {
namespace {

struct PartName {
  Part part;
  const char* name;
};

constexpr PartName kTextParts[] = {
    {Part::kEmbedding, "embed_tokens"},
    {Part::kHead, "lm_head"},
    {Part::kOutputNorm, "norm"},
    {Part::kAttentionNorm, "input_layernorm"},
    {Part::kQuery, "self_attn.q_proj"},
    {Part::kKey, "self_attn.k_proj"},
    {Part::kValue, "self_attn.v_proj"},
    {Part::kQueryNorm, "self_attn.q_norm"},
    {Part::kKeyNorm, "self_attn.k_norm"},
    {Part::kOutput, "self_attn.o_proj"},
    {Part::kPostAttentionNorm, "post_attention_layernorm"},
    {Part::kFeedForwardNorm, "pre_feedforward_layernorm"},
    {Part::kGate, "mlp.gate_proj"},
    {Part::kUp, "mlp.up_proj"},
    {Part::kDown, "mlp.down_proj"},
    {Part::kPostFeedForwardNorm, "post_feedforward_layernorm"},
};

constexpr PartName kVisionParts[] = {
    {Part::kPatches, "embeddings.patch_embedding"},
    {Part::kPositions, "embeddings.position_embedding"},
    {Part::kAttentionNorm, "layer_norm1"},
    {Part::kQuery, "self_attn.q_proj"},
    {Part::kKey, "self_attn.k_proj"},
    {Part::kValue, "self_attn.v_proj"},
    {Part::kOutput, "self_attn.out_proj"},
    {Part::kFeedForwardNorm, "layer_norm2"},
    {Part::kUp, "mlp.fc1"},
    {Part::kDown, "mlp.fc2"},
    {Part::kPostNorm, "post_layernorm"},
    {Part::kSoftNorm, "multi_modal_projector.mm_soft_emb_norm"},
};

constexpr std::string_view kProjector = "multi_modal_projector.";
constexpr const char* kProjection = "multi_modal_projector.mm_input_projection_weight";

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

HfName split_hf_name(std::string_view whole) {
  std::string_view rest = whole;
  take(rest, "model.");
  if (take(rest, "vision_tower.")) {
    take(rest, "vision_model.");
    return {true, rest};
  }
  if (rest.starts_with(kProjector)) return {true, rest};
  if (take(rest, "language_model.")) take(rest, "model.");
  return {false, rest};
}

std::string hf_name(const TensorName& name, bool vision) {
  if (vision && name.part == Part::kProjection) return kProjection;
  std::string text;
  if (name.layer >= 0) text = format("{}layers.{}.", vision ? "encoder." : "", name.layer);
  const std::span<const PartName> parts =
      vision ? std::span<const PartName>(kVisionParts) : std::span<const PartName>(kTextParts);
  for (const PartName& row : parts) {
    if (row.part == name.part) return text + row.name + (name.bias ? ".bias" : ".weight");
  }
  return {};
}

bool is_rms_norm(const HfName& name) {
  return name.name.ends_with("norm.weight") && (!name.vision || name.name.starts_with(kProjector));
}

bool is_of_layer(const HfName& name) {
  // A table that old releases saved with every layer, and that follows from the configuration.
  if (name.name.ends_with(".rotary_emb.inv_freq")) return false;
  return name.name.starts_with(name.vision ? "encoder.layers." : "layers.");
}

}  // namespace lapidary
