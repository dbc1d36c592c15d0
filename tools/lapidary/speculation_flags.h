#pragma once

#include <string>

#include "model_flags.h"

namespace cli {

/// Whether tokens are guessed and verified several at a time, and by what.
struct SpeculationFlags {
  std::string mode = "auto";
  std::string draft;  ///< A model file; empty: guesses come from the text alone.

  /// What the draft model and its session take beside the model's; 0 without one.
  std::uint64_t draft_bytes(const ModelFlags& flags) const;

  void apply(lapidary::GenerateOptions& options) const;

  /// `options` with the draft model loaded. Weights of both count against `flags.memory_limit`.
  lapidary::SessionOptions session(const ModelFlags& flags, const lapidary::Model& model) const;
};
void add_speculation_flags(CLI::App& app, SpeculationFlags& flags);

/// Without `--draft`, for a command that has no use for a draft model.
void add_speculation_mode(CLI::App& app, SpeculationFlags& flags);

/// "12 of 20 guesses right", or empty when none was made.
std::string describe_guesses(const lapidary::Usage& usage);

}  // namespace cli
