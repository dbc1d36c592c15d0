#pragma once

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lapidary/score.h"
#include "test_data.h"
#include "vision_fixture.h"

/// What the tests of scores share.
namespace lapidary::testing {

using Continuations = std::vector<std::vector<TokenId>>;

inline std::vector<TokenId> random_ids(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<TokenId> id(300, 1500);
  std::vector<TokenId> ids(count);
  for (TokenId& next : ids) next = id(random);
  return ids;
}

/// A text, with a picture of random features in its middle.
inline Prompt with_picture(std::size_t count, unsigned seed) {
  Prompt prompt{random_ids(count, seed), {}};
  insert_picture(prompt, count / 2, random_features(seed));
  return prompt;
}

/// What the scores must be: a session of its own for each, a token at a time.
inline std::vector<Score> scored_alone(const Prompt& prompt, const Continuations& continuations,
                                       KvType kv = KvType::kBf16) {
  std::vector<Score> scores;
  for (const std::vector<TokenId>& ids : continuations) {
    Session session(vision_model(), {.context = 2048, .threads = 1, .kv = kv});
    session.append(prompt);
    Score score;
    score.greedy = true;
    for (const TokenId id : ids) {
      score.greedy = score.greedy && session.draw({.temperature = 0}) == id;
      score.tokens.push_back(log_probability(session.logits(), id).logprob);
      score.sum += score.tokens.back();
      score.bytes += vision_model().tokenizer().piece(id).size();
      session.append({&id, 1});
    }
    scores.push_back(std::move(score));
  }
  return scores;
}

inline void expect_scores(const std::vector<Score>& got, const std::vector<Score>& expected,
                          const std::string& where) {
  ASSERT_EQ(got.size(), expected.size()) << where;
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].tokens, expected[i].tokens) << where << ", continuation " << i;
    EXPECT_EQ(got[i].sum, expected[i].sum) << where << ", continuation " << i;
    EXPECT_EQ(got[i].bytes, expected[i].bytes) << where << ", continuation " << i;
    EXPECT_EQ(got[i].greedy, expected[i].greedy) << where << ", continuation " << i;
  }
}

}  // namespace lapidary::testing
