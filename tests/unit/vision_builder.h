#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "gguf_builder.h"

namespace lapidary::test {

/// The shape of a vision file made by hand; random weights. The default has one patch a soft token
/// and is encoded in milliseconds.
struct TinyVision {
  std::uint32_t image = 224;
  std::uint32_t pool = 1;
  std::uint32_t width = 64;
  std::uint32_t feed_forward = 160;
  std::uint32_t layers = 2;
  std::uint32_t heads = 4;
  std::uint32_t text_width = 64;
  BlockType type = BlockType::kF32;  // Of the matrices: F32 or Q8_0.
  std::uint64_t seed = 1;
};

inline GgufBuilder tiny_vision(const TinyVision& s = {}) {
  constexpr std::uint32_t kPatch = 14;
  GgufBuilder file;
  file.set_string("general.architecture", "clip").set_string("clip.projector_type", "gemma3");
  file.set_u32("clip.vision.image_size", s.image).set_u32("clip.vision.patch_size", kPatch);
  file.set_u32("clip.vision.projector.scale_factor", s.pool);
  file.set_u32("clip.vision.embedding_length", s.width);
  file.set_u32("clip.vision.feed_forward_length", s.feed_forward);
  file.set_u32("clip.vision.block_count", s.layers);
  file.set_u32("clip.vision.attention.head_count", s.heads);
  file.set_u32("clip.vision.projection_dim", s.text_width);
  TinyRandom random(s.seed);
  const auto tensor = [&](const std::string& name, std::vector<std::uint64_t> shape, BlockType type,
                          float scale, float shift = 0) {
    std::uint64_t values = 1;
    for (const std::uint64_t n : shape) values *= n;
    std::string data = random_tensor(random, type, values, shift, scale);
    file.add_tensor(name, std::move(shape), type, std::move(data));
  };
  const std::uint64_t d = s.width, ff = s.feed_forward, side = s.image / kPatch;
  const auto biased = [&](const std::string& name, std::uint64_t columns, std::uint64_t rows) {
    tensor(name + ".weight", {columns, rows}, s.type,
           1.7F / std::sqrt(static_cast<float>(columns)));
    tensor(name + ".bias", {rows}, BlockType::kF32, 0.1F);
  };
  const auto norm = [&](const std::string& name) {
    tensor(name + ".weight", {d}, BlockType::kF32, 0.2F, 1.0F);
    tensor(name + ".bias", {d}, BlockType::kF32, 0.1F);
  };
  tensor("v.patch_embd.weight", {kPatch, kPatch, 3, d}, BlockType::kF32, 0.07F);
  tensor("v.patch_embd.bias", {d}, BlockType::kF32, 0.1F);
  tensor("v.position_embd.weight", {d, side * side}, BlockType::kF32, 0.5F);
  for (std::uint32_t i = 0; i < s.layers; ++i) {
    const std::string prefix = "v.blk." + std::to_string(i) + ".";
    norm(prefix + "ln1");
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_out"}) biased(prefix + name, d, d);
    norm(prefix + "ln2");
    biased(prefix + "ffn_up", d, ff);
    biased(prefix + "ffn_down", ff, d);
  }
  norm("v.post_ln");
  tensor("mm.soft_emb_norm.weight", {d}, BlockType::kF32, 0.2F, 1.0F);
  tensor("mm.input_projection.weight", {s.text_width, d}, s.type, 0.2F);
  return file;
}

}  // namespace lapidary::test
