#include "ops/head.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "test_head.h"

namespace lapidary {
namespace {

constexpr int kRows = 4 * kernels::kPanelRows + 5;  // The last panel is not full.
constexpr int kColumns = 256;
constexpr int kTokens = 19;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// [tokens][kRows], and behind them a row that nobody may touch.
std::vector<float> logits(const Head& head, const HeadInput& input, int tokens, int threads) {
  std::vector<float> out(static_cast<std::size_t>((tokens + 1) * kRows), -7.0F);
  Team team(threads);
  std::vector<TestScratch> scratch;
  for (int i = 0; i < threads; ++i) scratch.emplace_back(kColumns);
  auto body = [&](Worker& worker) {
    worker.for_each(tokens, [&](int t) { head.quantize(input.view, t); });
    head.logits(worker, input.view, tokens, {out.data(), kRows},
                scratch[static_cast<std::size_t>(worker.index())].data);
  };
  team.run(body);
  for (int r = 0; r < kRows; ++r)
    EXPECT_EQ(out[static_cast<std::size_t>(tokens * kRows + r)], -7.0F);
  out.resize(static_cast<std::size_t>(tokens * kRows));
  return out;
}

class Heads : public ::testing::TestWithParam<BlockType> {
 protected:
  TestHead searchable_{GetParam(), kRows, kColumns, 3};
  TestHead plain_{GetParam(), kRows, kColumns, 3, false, 0, false};

  HeadInput input(int tokens) {
    std::vector<std::vector<float>> x;
    for (int t = 0; t < tokens; ++t) x.push_back(searchable_.input(4.0F));
    return {x, kColumns};
  }

  /// The logits of a token are products with the rows of the embedding, to within the rounding of
  /// the input to 16 bits, 8.8e-5 of the lengths, and of sums in fp32.
  static void check_row(const std::vector<float>& logits, const Head& head, const HeadInput& x,
                        int token) {
    std::vector<float> row(kColumns);
    for (int r = 0; r < kRows; ++r) {
      head.copy_row(r, row.data());
      double sum = 0.0, of_row = 0.0, of_x = 0.0;
      for (int k = 0; k < kColumns; ++k) {
        const double w = row[static_cast<std::size_t>(k)], v = x.view.dense[token][k];
        sum += w * v;
        of_row += w * w;
        of_x += v * v;
      }
      ASSERT_NEAR(logits[static_cast<std::size_t>(token * kRows + r)], sum,
                  2e-4 * std::sqrt(of_row * of_x))
          << "token " << token << " row " << r;
    }
  }
};

TEST_P(Heads, LogitsAreTheSameHoweverTheMatrixLies) {
  const kernels::Kernels& table = *kernels::best();
  const Head searchable(searchable_.weights(), 0, table), plain(plain_.weights(), 0, table);
  ASSERT_TRUE(searchable.searchable());
  ASSERT_FALSE(plain.searchable());
  ASSERT_FALSE(plain_.weights().in_planes());
  for (const int tokens : {1, 3, kTokens}) {
    const HeadInput x = input(tokens);
    const std::vector<float> want = logits(plain, x, tokens, 1);
    for (const int threads : {1, 3})
      EXPECT_TRUE(same_bits(logits(searchable, x, tokens, threads), want)) << tokens;
    for (int t = 0; t < tokens; ++t) check_row(want, plain, x, t);
  }
}

TEST_P(Heads, RowsAreTheSameHoweverTheMatrixLies) {
  const Head searchable(searchable_.weights(), 0, *kernels::best()),
      plain(plain_.weights(), 0, *kernels::best());
  std::vector<float> got(kColumns), want(kColumns);
  for (const int row : {0, 17, kRows - 1}) {
    searchable.copy_row(row, got.data());
    plain.copy_row(row, want.data());
    EXPECT_TRUE(same_bits(got, want));
    for (int k = 0; k < kColumns; ++k) {
      const float value = searchable_.value(row, k);
      if (std::fabs(value) > 0.12F) continue;  // It does not fit the test's scales.
      EXPECT_NEAR(got[static_cast<std::size_t>(k)], value, 0.01F);
    }
  }
}

TEST_P(Heads, RowsComeFromAnEmbeddingOfItsOwn) {
  const TestHead other(GetParam(), kRows, kColumns, 4, false, 0, false);
  HeadWeights weights = searchable_.weights();
  weights.embedding = other.weights().panels;
  std::vector<float> got(kColumns), want(kColumns);
  Head(weights, 0, *kernels::best()).copy_row(kRows - 1, got.data());
  copy_row(other.weights(), kRows - 1, want.data());
  EXPECT_TRUE(same_bits(got, want));
}

TEST_P(Heads, ASoftCapBendsAllLogitsAndEndsTheSearch) {
  constexpr float kCap = 3.0F;
  const kernels::Kernels& table = *kernels::best();
  const HeadInput x = input(kTokens);
  const Head bent(searchable_.weights(), kCap, table), straight(searchable_.weights(), 0, table);
  EXPECT_FALSE(bent.searchable());
  std::vector<float> want = logits(straight, x, kTokens, 2);
  for (float& v : want) v = kCap * std::tanh(v / kCap);
  EXPECT_TRUE(same_bits(logits(bent, x, kTokens, 2), want));
}

INSTANTIATE_TEST_SUITE_P(Types, Heads,
                         ::testing::Values(BlockType::kQ8_0, BlockType::kQ6_K, BlockType::kF32),
                         [](const auto& type) {
                           return type.param == BlockType::kQ8_0   ? "Q8_0"
                                  : type.param == BlockType::kQ6_K ? "Q6_K"
                                                                   : "Float";
                         });

}  // namespace
}  // namespace lapidary
