#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/lapidary.h"
#include "options.h"

namespace cli {

/// How tokens are drawn, and when to end.
struct SamplingFlags {
  int max_tokens = -1;
  lapidary::SamplingOptions sampling;  ///< Without its seed.
  std::optional<std::uint64_t> seed;   ///< Nothing: a random one.
  std::vector<std::string> stop;

  /// The seed given, or one drawn now from the system's random numbers: below 2^32, so that it is
  /// easily typed and exact in any JSON reader.
  std::uint64_t seed_or_random() const;

  /// With `interrupted` as the cancel flag.
  lapidary::GenerateOptions options(std::uint64_t seed_used) const;
};
void add_sampling_flags(CLI::App& app, SamplingFlags& flags);

/// A number of SamplingFlags: its names and limits, the same on the command line, in a chat and in
/// a line of a batch.
struct Setting {
  const char* option;  ///< "-n,--max-tokens"; of a chat's /set, the same without dashes.
  const char* member;  ///< Of a batch's JSON: "max_tokens".
  double low;
  double high;
  bool whole;
  const char* help;
  void (*set)(SamplingFlags& flags, double value);
  double (*get)(const SamplingFlags& flags);

  std::string name() const;  ///< "max-tokens"
  std::string show(double value) const;
  /// "expected an integer from -1 to 2147483647"
  std::string expected() const;
  bool allows(double value) const;
};
std::span<const Setting> sampling_settings();

/// A seed as people write it: 0 to 2^64 - 1, or -1 for a random one. Anything else: false.
bool parse_seed(std::string_view text, std::optional<std::uint64_t>& seed);
inline constexpr const char* kExpectedSeed =
    "expected a whole number from 0 to 18446744073709551615, or -1 for a random one";

/// "stop", "length" or "cancelled".
const char* finish_name(lapidary::FinishReason reason);

}  // namespace cli
