// A model whose matrices all have one type, for each type of a file.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "block_scales.h"
#include "gguf_builder.h"
#include "model_fixture.h"

namespace lapidary::testing {
namespace {

using test::GgufBuilder;
using test::TempFile;
using test::TinyRandom;

/// Rows of a multiple of 256 values fit every type.
constexpr std::uint32_t kWidth = 256;

/// Random blocks whose values are small, as those of models are.
std::string random_blocks(const BlockTraits& type, std::size_t values, TinyRandom& random) {
  std::string data(values / type.values * type.bytes, '\0');
  for (char& byte : data) byte = static_cast<char>(random.next());
  for (std::size_t at = 0; at < data.size(); at += type.bytes) {
    set_scales(type, reinterpret_cast<std::byte*>(data.data() + at), [&] {
      return static_cast<std::uint16_t>((random.next() & 0x83FFU) | 2U << 10);  // About 2^-13.
    });
  }
  return data;
}

GgufBuilder model_of(const BlockTraits& type) {
  GgufBuilder file = test::tiny_model({.layers = 2,
                                       .width = kWidth,
                                       .feed_forward = 2 * kWidth,
                                       .query_heads = 4,
                                       .kv_heads = 2,
                                       .head_dim = 64});
  TinyRandom random(5);
  for (GgufBuilder::Tensor& tensor : file.tensors) {
    if (tensor.shape.size() != 2) continue;
    tensor.type = static_cast<std::uint32_t>(type.type);
    tensor.data = random_blocks(type, tensor.shape[0] * tensor.shape[1], random);
  }
  return file;
}

std::vector<BlockTraits> quantized_types() {
  std::vector<BlockTraits> types;
  for (const BlockTraits& type : kBlockTraits) {
    if (type.read != nullptr) types.push_back(type);
  }
  return types;
}

class ModelOfType : public ::testing::TestWithParam<BlockTraits> {};

// On every instruction set, in whatever pieces, with any number of threads.
TEST_P(ModelOfType, HasTheSameBitsHoweverItIsComputed) {
  const TempFile file(model_of(GetParam()).build());
  std::vector<TokenId> ids(24);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>(264 + i % 27);
  std::vector<std::uint64_t> expected;
  for (const char* isa : {"scalar", ""}) {
    const Model model = Model::load(file.path(), {.threads = 2, .isa = isa});
    for (const auto& [threads, chunk] : {std::pair{1, 512}, std::pair{2, 7}, std::pair{2, 1}}) {
      Session session(model, {.context = 64, .chunk = chunk, .threads = threads});
      const std::vector<std::uint64_t> hashes = hash_positions(session, ids);
      ASSERT_EQ(hashes.size(), ids.size());
      if (expected.empty()) expected = hashes;
      EXPECT_EQ(hashes, expected) << isa << " threads " << threads << " chunk " << chunk;
    }
  }
}

TEST_P(ModelOfType, WithAScaleThatIsNotFiniteIsRefusedByTheTensorsName) {
  GgufBuilder builder = model_of(GetParam());
  auto* block = reinterpret_cast<std::byte*>(builder.tensor("blk.1.ffn_up.weight").data.data());
  set_scales(GetParam(), block, [] { return std::uint16_t{0x7E00}; });
  if (GetParam().type == BlockType::kMXFP4) block[0] = std::byte{255};
  const TempFile file(builder.build());
  const Error error = thrown_error([&] { Model::load(file.path()); });
  EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
  EXPECT_TRUE(contains(error.what(), "blk.1.ffn_up.weight")) << error.what();
}

TEST_P(ModelOfType, RowsThatAreNoWholeBlocksAreRefused) {
  GgufBuilder builder = model_of(GetParam());
  builder.tensor("blk.1.ffn_up.weight").shape = {GetParam().values / 2, 4 * kWidth};
  const TempFile file(builder.build());
  const Error error = thrown_error([&] { Model::load(file.path()); });
  EXPECT_TRUE(contains(error.what(), "blk.1.ffn_up.weight")) << error.what();
  EXPECT_TRUE(contains(error.what(), "for type " + std::string(GetParam().name))) << error.what();
}

INSTANTIATE_TEST_SUITE_P(Types, ModelOfType, ::testing::ValuesIn(quantized_types()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace lapidary::testing
