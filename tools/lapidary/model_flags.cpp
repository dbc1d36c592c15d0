#include "model_flags.h"

#include <algorithm>

#include "model_folder.h"
#include "terminal.h"
#include "text.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

lapidary::SessionOptions ModelFlags::session() const {
  lapidary::SessionOptions options;
  options.context = context;
  options.chunk = chunk;
  options.threads = threads;
  options.memory_limit = memory_limit;
  options.kv = kv_type(kv);
  options.prefix_cache = prefix_cache;
  options.prefix_cache_size = prefix_cache_size;
  options.snapshot_memory = snapshot_memory;
  return options;
}

lapidary::KvType kv_type(const std::string& kv) {
  return kv == "int8" ? lapidary::KvType::kInt8 : lapidary::KvType::kBf16;
}

void add_kv_flag(CLI::App& app, std::string& kv) {
  add_option(app, "--kv", kv,
             "how keys and values are kept; int8 takes about half the memory, and rounds more")
      .one_of({"bf16", "int8"});
}

void add_weights_flag(CLI::App& app, std::string& weights) {
  add_option(app, "--weights", weights,
             "what weights are made into while they are read; else they stay as the files have "
             "them, and what these have quantised always does")
      .one_of({"bf16", "f16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0"});
}

void add_file_flags(CLI::App& app, ModelFlags& flags) {
  add_option(
      app, "-m,--model", flags.model,
      "model file (GGUF) or folder (Hugging Face), or the name of one in the model folder; may "
      "be left out when that holds one")
      .show_type("MODEL");
  add_option(app, "-t,--threads", flags.threads, "threads; 0: physical cores within the quota")
      .range(0, 1024);
  add_option(app, "--isa", flags.isa, "instruction set to use")
      .one_of({"avx512", "avxvnni", "avx2", "sse41", "neon", "scalar"});
  add_option(app, "--memory-limit", flags.memory_limit,
             "most bytes to take (K, M, G), weights included; 0: no limit")
      .size();
  add_flag(app, "-q,--quiet", flags.quiet, "no statistics, warnings or progress");
}

void add_model_flags(CLI::App& app, ModelFlags& flags) {
  add_file_flags(app, flags);
  add_option(app, "-c,--context", flags.context,
             "context in tokens; 0: what the model was trained for, at most 32768")
      .range(0, 1 << 28);
  add_option(app, "--chunk", flags.chunk, "prompt tokens computed together; never changes a result")
      .range(1, 1 << 20);
  add_kv_flag(app, flags.kv);
  add_weights_flag(app, flags.weights);
}

void add_prefix_flags(CLI::App& app, ModelFlags& flags) {
  add_option(
      app, "--prefix-cache", flags.prefix_cache,
      "folder where what was read is kept for prompts that begin alike, of any process; never "
      "changes a result")
      .show_type("FOLDER");
  add_option(
      app, "--prefix-cache-size", flags.prefix_cache_size,
      "most bytes of that folder (K, M, G), the longest unused dropped first; 0: 10 GiB, or a "
      "tenth of what the disk has free where that is less")
      .size();
}

void PrefixWarning::tell(bool quiet, const lapidary::PrefixCacheStats& stats) {
  if (told_ || stats.failures == 0) return;
  told_ = true;
  warn(quiet, "prefix cache: " + stats.problem);
}

namespace {

// The largest context that fits `limit`; 0: none does.
int fitting_context(const std::string& path, const lapidary::ModelOptions& options,
                    lapidary::SessionOptions session, std::uint64_t limit, int too_much) {
  int low = 0;
  for (int high = too_much; low + 1 < high;) {
    session.context = low + (high - low) / 2;
    const bool fits = plan_memory(path, options, session).total() <= limit;
    (fits ? low : high) = session.context;
  }
  // A round number is easier to type.
  return low > 1024 ? low / 256 * 256 : low;
}

}  // namespace

void check_memory(const ModelFlags& flags, const lapidary::ModelOptions& given, bool session,
                  std::uint64_t beside) {
  const std::string path = find_model(flags.model);
  lapidary::ModelOptions options = given;
  options.weights = flags.weights;
  const lapidary::SessionOptions wanted = flags.session();
  lapidary::MemoryPlan plan = plan_memory(path, options, wanted);
  if (!session) plan.kv = plan.buffers = 0;
  const std::uint64_t limit =
      flags.memory_limit > 0 ? flags.memory_limit : lapidary::available_memory_bytes();
  const std::uint64_t needed = plan.total() + beside;
  if (needed <= limit) return;
  std::string text = path + " needs " + human_bytes(needed);
  const int trained = lapidary::inspect(path).trained_context;
  const int context = wanted.context > 0 ? wanted.context : std::min(trained, 32768);
  if (session) text += format(" with a context of %d tokens", context);
  text += flags.memory_limit > 0 ? ", but the memory limit is " : ", but the machine has ";
  text += human_bytes(limit) + (flags.memory_limit > 0 ? "" : " available");
  if (session) {
    const std::uint64_t left = limit > beside ? limit - beside : 0;
    const int fits = fitting_context(path, options, wanted, left, context);
    text += fits > 0 ? format("; -c %d would fit", fits) : "; no context would fit";
  }
  throw Error(ErrorCode::kMemory, text);
}

lapidary::Model load_model(const ModelFlags& flags, lapidary::ModelOptions options) {
  options.threads = flags.threads;
  options.isa = flags.isa;
  options.weights = flags.weights;
  options.memory_limit = flags.memory_limit;
  ProgressBar bar("loading", flags.quiet);
  options.progress = bar.callback();
  lapidary::Model model = lapidary::Model::load(find_model(flags.model), options);
  bar.finish();
  for (const std::string& warning : model.info().warnings) warn(flags.quiet, warning);
  if (model.vision() != nullptr) {
    for (const std::string& warning : model.vision()->warnings)
      warn(flags.quiet, model.vision()->path + ": " + warning);
  }
  if (flags.context > model.info().trained_context) {
    warn(flags.quiet,
         format("a context of %d tokens is more than the %d that the model was trained for",
                flags.context, model.info().trained_context));
  }
  return model;
}

void warn(bool quiet, const std::string& text) {
  if (!quiet) complain("warning: " + text);
}

}  // namespace cli
