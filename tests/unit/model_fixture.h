#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/lapidary.h"
#include "test_data.h"

/// What the tests of models and sessions share. The models are loaded once a process.
namespace lapidary::testing {

/// 8 layers, window 64, vocabulary 1,763; random weights.
inline const Model& tiny_model() {
  static const Model model = Model::load(test_data("tiny-gemma3-text-bf16.gguf"));
  return model;
}

/// The path of the real 270M model, or nullptr.
inline const char* real_model_path() { return std::getenv("LAPIDARY_TEST_MODEL"); }

inline const Model& real_model() {
  static const Model model = Model::load(real_model_path());
  return model;
}

/// The line of a JSONL file under tests/data whose `name` is `name`.
inline nlohmann::json golden_case(const std::string& file, const std::string& name) {
  std::ifstream in(test_data(file));
  for (std::string line; std::getline(in, line);) {
    nlohmann::json object = nlohmann::json::parse(line);
    if (object.value("name", "") == name) return object;
  }
  ADD_FAILURE() << "no case " << name << " in " << file;
  return {};
}

inline std::vector<TokenId> golden_ids(const std::string& file, const std::string& name) {
  return golden_case(file, name).at("ids").get<std::vector<TokenId>>();
}

inline const std::vector<TokenId>& tiny_ids() {
  static const std::vector<TokenId> ids = golden_ids("vision/vision.jsonl", "text_only");
  return ids;
}

inline std::uint64_t hash_bits(std::span<const float> values) {
  const std::string_view bytes(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  return std::hash<std::string_view>()(bytes);
}

/// A hash of the logits' bits at every position.
inline std::vector<std::uint64_t> hash_positions(Session& session, std::span<const TokenId> ids) {
  std::vector<std::uint64_t> hashes;
  session.append_with_logits(
      ids, [&](int, std::span<const float> logits) { hashes.push_back(hash_bits(logits)); });
  return hashes;
}

inline TokenId argmax(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// Runs `body` and gives the Error it threw; fails the test when it threw none.
template <class F>
Error thrown_error(F&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no lapidary::Error was thrown";
  return Error(ErrorCode::kFailed, "");
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace lapidary::testing
