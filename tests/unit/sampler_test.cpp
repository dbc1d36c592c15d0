#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <new>
#include <numeric>
#include <random>

#include "lapidary/error.h"

namespace {
std::atomic<long> allocations{0};
}

// Every allocation of this program is counted.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace lapidary {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Choice {
  TokenId id;
  double probability;
};

/// The distribution that the options describe, in the plainest way: everything sorted, everything
/// in double precision.
std::vector<Choice> reference(std::vector<float> logits, std::vector<TokenId> recent,
                              const SamplingOptions& options) {
  if (recent.size() > 64) recent.erase(recent.begin(), recent.end() - 64);
  std::ranges::sort(recent);
  recent.erase(std::unique(recent.begin(), recent.end()), recent.end());
  for (const TokenId id : recent) {
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = logit > 0 ? logit / options.repeat_penalty : logit * options.repeat_penalty;
  }
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit_of = [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; };
  std::ranges::sort(order, [&](TokenId a, TokenId b) {
    return logit_of(a) > logit_of(b) || (logit_of(a) == logit_of(b) && a < b);
  });
  if (options.temperature == 0) return {{order[0], 1.0}};
  if (options.top_k > 0)
    order.resize(std::min(order.size(), static_cast<std::size_t>(options.top_k)));
  std::vector<Choice> choices;
  double sum = 0;
  for (const TokenId id : order) {
    const double x = (static_cast<double>(logit_of(id)) - logit_of(order[0])) / options.temperature;
    choices.push_back({id, std::exp(x)});
    sum += choices.back().probability;
  }
  if (options.top_p < 1) {
    double reached = 0;
    std::size_t kept = 0;
    while (kept < choices.size() && (kept == 0 || reached < options.top_p * sum))
      reached += choices[kept++].probability;
    choices.resize(kept);
  }
  std::erase_if(choices, [&](const Choice& c) {
    return c.probability < options.min_p * choices[0].probability;
  });
  sum = 0;
  for (const Choice& choice : choices) sum += choice.probability;
  for (Choice& choice : choices) choice.probability /= sum;
  return choices;
}

TokenId draw(const std::vector<Choice>& choices, double random) {
  double sum = 0;
  for (const Choice& choice : choices) {
    sum += choice.probability;
    if (sum > random) return choice.id;
  }
  return choices.back().id;
}

std::vector<float> random_logits(std::size_t count, unsigned seed, float spread = 3.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

SamplingOptions options_of(float temperature, int top_k, float top_p, float min_p,
                           float penalty = 1.0F) {
  return {.temperature = temperature,
          .top_k = top_k,
          .top_p = top_p,
          .min_p = min_p,
          .repeat_penalty = penalty,
          .seed = 11};
}

const SamplingOptions kMixes[] = {
    options_of(1.0F, 64, 0.95F, 0),       options_of(1.0F, 0, 1.0F, 0),
    options_of(1.0F, 0, 0.9F, 0),         options_of(0.7F, 0, 1.0F, 0.05F),
    options_of(1.5F, 300, 1.0F, 0),       options_of(0.3F, 5, 0.5F, 0.2F),
    options_of(1.0F, 64, 0.95F, 0, 1.3F), options_of(0.0F, 64, 0.95F, 0, 1.3F),
    options_of(2.0F, 1, 0.95F, 0),        options_of(1.0F, 100000, 0.999F, 0),
    options_of(100.0F, 0, 0.99F, 0),      options_of(1.0F, 0, 0.0F, 0),
    options_of(1.0F, 0, 1.0F, 1.0F),      options_of(1.0F, 64, 0.9F, 0.1F, 0.5F),
};

TEST(Sampler, DrawsAsThePlainReferenceDoes) {
  for (const std::size_t size : {1UL, 2UL, 15UL, 16UL, 63UL, 64UL, 65UL, 1000UL, 5003UL}) {
    Sampler sampler(static_cast<TokenId>(size));
    for (unsigned round = 0; round < 3; ++round) {
      const std::vector<float> logits = random_logits(size, round + 1);
      std::vector<TokenId> recent;
      for (std::size_t i = 0; i < 100; ++i) recent.push_back(static_cast<TokenId>(i * 7 % size));
      for (const SamplingOptions& options : kMixes) {
        const auto choices = reference(logits, recent, options);
        for (std::uint64_t position = 0; position < 20; ++position) {
          const TokenId expected = draw(choices, counter_random(options.seed, position));
          ASSERT_EQ(sampler.sample(logits, recent, options, position), expected)
              << "size " << size << " k " << options.top_k << " p " << options.top_p << " position "
              << position;
        }
      }
    }
  }
}

TEST(Sampler, FindsTheBestOfAFullVocabularyInAnyOrder) {
  std::vector<float> logits = random_logits(262144, 5, 1.0F);
  Sampler sampler(262144);
  for (const int arrangement : {0, 1, 2}) {
    if (arrangement == 1) std::ranges::sort(logits);
    if (arrangement == 2) std::ranges::reverse(logits);
    for (const SamplingOptions& options :
         {options_of(1.0F, 64, 0.95F, 0), options_of(1.0F, 1000, 1.0F, 0),
          options_of(1.0F, 0, 0.99F, 0), options_of(1.0F, 0, 1.0F, 0)}) {
      const auto choices = reference(logits, {}, options);
      for (std::uint64_t position = 0; position < 10; ++position) {
        ASSERT_EQ(sampler.sample(logits, {}, options, position),
                  draw(choices, counter_random(11, position)));
      }
    }
  }
}

TEST(Sampler, GivesTiesToTheLowestId) {
  std::vector<float> logits(1000, 1.5F);
  Sampler sampler(1000);
  EXPECT_EQ(sampler.sample(logits, {}, options_of(0, 0, 1, 0), 0), 0);
  EXPECT_EQ(sampler.sample(logits, {}, options_of(1, 1, 1, 0), 0), 0);
  for (std::uint64_t position = 0; position < 200; ++position) {
    EXPECT_LT(sampler.sample(logits, {}, options_of(1, 7, 1, 0), position), 7);
    EXPECT_LT(sampler.sample(logits, {}, options_of(1, 0, 0.0105F, 0), position), 11);
  }
  logits[500] = logits[700] = 2.0F;
  EXPECT_EQ(sampler.sample(logits, {}, options_of(0, 0, 1, 0), 0), 500);
  logits[3] = -0.0F;
  EXPECT_EQ(sampler.sample(logits, {}, options_of(0, 0, 1, 0), 0), 500);
}

TEST(Sampler, DrawsWithTheRightFrequencies) {
  const std::vector<float> logits = random_logits(40, 9, 1.0F);
  Sampler sampler(40);
  for (const SamplingOptions& options : {options_of(1, 0, 1, 0), options_of(0.8F, 20, 0.95F, 0)}) {
    const auto choices = reference(logits, {}, options);
    std::map<TokenId, double> counts;
    constexpr int kDraws = 200'000;
    for (std::uint64_t position = 0; position < kDraws; ++position) {
      counts[sampler.sample(logits, {}, options, position)] += 1;
    }
    double chi_square = 0;
    double seen = 0;
    for (const Choice& choice : choices) {
      const double expected = choice.probability * kDraws;
      chi_square += std::pow(counts[choice.id] - expected, 2) / expected;
      seen += counts[choice.id];
    }
    EXPECT_EQ(seen, kDraws);  // Nothing else was drawn.
    // Mean n, variance 2n: five deviations.
    const double freedom = static_cast<double>(choices.size()) - 1;
    EXPECT_LT(chi_square, freedom + 5 * std::sqrt(2 * freedom));
  }
}

TEST(Sampler, DependsOnSeedAndPositionAlone) {
  const std::vector<float> logits = random_logits(5000, 3);
  Sampler one(5000);
  Sampler other(6000);
  SamplingOptions options = options_of(1, 64, 0.95F, 0);
  std::vector<TokenId> forwards;
  for (std::uint64_t position = 0; position < 100; ++position)
    forwards.push_back(one.sample(logits, {}, options, position));
  for (std::uint64_t position = 100; position-- > 0;) {
    EXPECT_EQ(other.sample(logits, {}, options, position), forwards[position]);
  }
  options.seed = 12;
  int equal = 0;
  for (std::uint64_t position = 0; position < 100; ++position) {
    equal += one.sample(logits, {}, options, position) == forwards[position] ? 1 : 0;
  }
  EXPECT_LT(equal, 60);
}

TEST(Sampler, PenalisesEachRecentIdOnce) {
  const std::vector<float> logits = {2.0F, 1.9F, -1.0F, -1.1F};
  Sampler sampler(4);
  const SamplingOptions options = options_of(0, 0, 1, 0, 1.04F);
  const std::vector<TokenId> twice = {0, 0};
  EXPECT_EQ(sampler.sample(logits, twice, options, 0), 0);  // 2 / 1.04 = 1.92; twice would be 1.85.
  const SamplingOptions strong = options_of(0, 0, 1, 0, 1.1F);
  EXPECT_EQ(sampler.sample(logits, twice, strong, 0), 1);
  const std::vector<float> negative = {-1.0F, -1.05F, -3.0F, -3.0F};
  EXPECT_EQ(sampler.sample(negative, twice, strong, 0), 1);  // -1 × 1.1
  std::vector<TokenId> long_ago(65, 3);
  long_ago[0] = 0;
  EXPECT_EQ(sampler.sample(logits, long_ago, strong, 0), 0);
  long_ago[1] = 0;
  EXPECT_EQ(sampler.sample(logits, long_ago, strong, 0), 1);
  const std::vector<TokenId> outside = {-1, 4, 1 << 30};
  EXPECT_EQ(sampler.sample(logits, outside, strong, 0), 0);
}

TEST(Sampler, NeverDrawsNanOrMinusInfinity) {
  std::vector<float> logits(300, -kInfinity);
  for (std::size_t i = 0; i < logits.size(); i += 3) logits[i] = kNan;
  logits[100] = -std::numeric_limits<float>::max();
  logits[200] = logits[100];
  Sampler sampler(300);
  for (const SamplingOptions& options : kMixes) {
    for (std::uint64_t position = 0; position < 30; ++position) {
      const TokenId id = sampler.sample(logits, {}, options, position);
      EXPECT_TRUE(id == 100 || id == 200) << id;
    }
  }
  logits[100] = kNan;
  logits[200] = -kInfinity;
  for (const SamplingOptions& options : kMixes) {
    try {
      sampler.sample(logits, {}, options, 0);
      ADD_FAILURE() << "something was drawn";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFailed);
    }
  }
}

TEST(Sampler, StandsExtremes) {
  Sampler sampler(4);
  const float most = std::numeric_limits<float>::max();
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(sampler.sample(std::vector<float>{-most, most, 0, 1}, {}, options_of(1, 0, 1, 0), 1),
            1);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, 1, 2, kInfinity}, {}, options_of(1, 0, 1, 0), 1),
            3);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, 1, 2, 1.9F}, {}, options_of(tiny, 0, 1, 0), 1), 2);
  const std::vector<TokenId> recent = {1};
  EXPECT_EQ(
      sampler.sample(std::vector<float>{0, most, 0, 1}, recent, options_of(0, 0, 1, 0, tiny), 1),
      1);
  std::map<TokenId, int> drawn;
  for (std::uint64_t position = 0; position < 200; ++position) {
    ++drawn[sampler.sample(std::vector<float>{most, kInfinity, 0, kInfinity}, {},
                           options_of(most, 0, 1, 0), position)];
  }
  EXPECT_EQ(drawn.size(), 2U);  // Infinities share everything.
  EXPECT_GT(drawn[1], 0);
  EXPECT_GT(drawn[3], 0);
}

TEST(Sampler, RefusesAWrongNumberOfLogits) {
  Sampler sampler(4);
  EXPECT_THROW(sampler.sample({}, {}, {}, 0), Error);
  EXPECT_THROW(sampler.sample(std::vector<float>(5), {}, {}, 0), Error);
}

TEST(Sampler, AllocatesNothing) {
  const std::vector<float> logits = random_logits(262144, 2, 0.5F);
  const std::vector<TokenId> recent = {1, 2, 3};
  Sampler sampler(262144);
  const long before = allocations;
  for (const SamplingOptions& options : kMixes) sampler.sample(logits, recent, options, 3);
  EXPECT_EQ(allocations, before);
}

TEST(CounterRandom, IsPhilox) {
  // Known answers of Random123's philox4x32-10: the first 53 bits of counter 0, key 0.
  EXPECT_EQ(counter_random(0, 0), static_cast<double>(0x6627E8D5E169C58DULL >> 11) * 0x1p-53);
  double sum = 0;
  for (std::uint64_t position = 0; position < 100'000; ++position) {
    const double value = counter_random(1, position);
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
  }
  EXPECT_NEAR(sum / 100'000, 0.5, 5 / std::sqrt(12.0 * 100'000));
  EXPECT_NE(counter_random(0, 1), counter_random(1, 0));
  EXPECT_NE(counter_random(0, 1ULL << 32), counter_random(0, 0));
  EXPECT_NE(counter_random(1ULL << 32, 0), counter_random(0, 0));
}

TEST(Validate, NamesFieldAndValue) {
  EXPECT_NO_THROW(validate({}));
  for (const SamplingOptions& options : kMixes) EXPECT_NO_THROW(validate(options));
  const auto refused = [](const SamplingOptions& options, const std::string& part) {
    try {
      validate(options);
      ADD_FAILURE() << "was accepted; expected: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  refused({.temperature = -0.5F}, "temperature is -0.5");
  refused({.temperature = kNan}, "temperature is nan");
  refused({.temperature = kInfinity}, "temperature is inf");
  refused({.top_k = -1}, "top_k is -1");
  refused({.top_p = 1.5F}, "top_p is 1.5");
  refused({.top_p = kNan}, "top_p is nan");
  refused({.min_p = -0.1F}, "min_p is -0.1");
  refused({.repeat_penalty = 0.0F}, "repeat_penalty is 0");
  refused({.repeat_penalty = kInfinity}, "repeat_penalty is inf");
}

}  // namespace
}  // namespace lapidary
