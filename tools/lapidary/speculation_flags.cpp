#include "speculation_flags.h"

#include <algorithm>

#include "model_folder.h"
#include "text.h"

namespace cli {

void SpeculationFlags::apply(lapidary::GenerateOptions& options) const {
  options.speculation = mode == "off"      ? lapidary::Speculation::kOff
                        : mode == "always" ? lapidary::Speculation::kAlways
                                           : lapidary::Speculation::kAuto;
}

std::uint64_t SpeculationFlags::draft_bytes(const ModelFlags& flags) const {
  if (draft.empty() || mode == "off") return 0;
  lapidary::SessionOptions session = flags.session();
  session.snapshot_memory = 0;
  const lapidary::MemoryPlan plan = plan_memory(find_model(draft), {}, session);
  return plan.total() - plan.process;
}

lapidary::SessionOptions SpeculationFlags::session(const ModelFlags& flags,
                                                   const lapidary::Model& model) const {
  lapidary::SessionOptions options = flags.session();
  if (draft.empty() || mode == "off") return options;
  ModelFlags file = flags;
  file.model = draft;
  if (flags.memory_limit > 0) {
    const std::uint64_t taken =
        std::min(model.info().weight_bytes + model.info().vocabulary_bytes, flags.memory_limit - 1);
    file.memory_limit = flags.memory_limit - taken;
  }
  options.draft = load_model(file);
  return options;
}

void add_speculation_mode(CLI::App& app, SpeculationFlags& flags) {
  add_option(app, "--speculation", flags.mode,
             "guess tokens and verify several at once; never changes the text (always: for "
             "measurements)")
      .one_of({"auto", "off", "always"})
      .show_default(flags.mode);
}

void add_speculation_flags(CLI::App& app, SpeculationFlags& flags) {
  add_speculation_mode(app, flags);
  add_option(app, "--draft", flags.draft,
             "a smaller model of the same vocabulary (GGUF) that guesses as well")
      .show_type("MODEL");
}

std::string describe_guesses(const lapidary::Usage& usage) {
  if (usage.drafted_tokens == 0) return "";
  return format("%d of %d guesses right", usage.accepted_tokens, usage.drafted_tokens);
}

}  // namespace cli
