#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lapidary/lapidary.h"
#include "options.h"

namespace cli {

/// Which model, and how it runs.
struct ModelFlags {
  std::string model;
  int threads = 0;
  int context = 0;
  int chunk = 512;
  std::string isa;
  std::string kv = "bf16";
  std::string weights;
  std::uint64_t memory_limit = 0;
  std::string prefix_cache;
  std::uint64_t prefix_cache_size = 0;
  bool quiet = false;
  std::optional<std::uint64_t> snapshot_memory = 0;  ///< For who goes back; else none.

  lapidary::SessionOptions session() const;
};
void add_model_flags(CLI::App& app, ModelFlags& flags);

/// --kv alone, and what it means.
void add_kv_flag(CLI::App& app, std::string& kv);
lapidary::KvType kv_type(const std::string& kv);

/// --weights alone.
void add_weights_flag(CLI::App& app, std::string& weights);

/// --prefix-cache and its size, for commands that read prompts.
void add_prefix_flags(CLI::App& app, ModelFlags& flags);

/// Says the first thing that went wrong with a prefix cache, once.
class PrefixWarning {
 public:
  void tell(bool quiet, const lapidary::PrefixCacheStats& stats);

 private:
  bool told_ = false;
};

/// As add_model_flags, for commands that make no session.
void add_file_flags(CLI::App& app, ModelFlags& flags);

/// Throws Error(kMemory) when what `plan_memory` counts, with a session where there will be one,
/// exceeds the limit or, without one, what the machine has; says which -c would fit. Only headers
/// are read. `beside` counts too: a draft model, pictures.
void check_memory(const ModelFlags& flags, const lapidary::ModelOptions& options, bool session,
                  std::uint64_t beside = 0);

/// Loads with, on a terminal, a progress bar. Interrupts end the process meanwhile. What the flags
/// do not say is taken from `options`.
lapidary::Model load_model(const ModelFlags& flags, lapidary::ModelOptions options = {});

/// "warning: …" on standard error, unless `quiet`.
void warn(bool quiet, const std::string& text);

}  // namespace cli
