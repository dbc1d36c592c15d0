#include <memory>
#include <optional>

#include "chat_loop.h"
#include "commands.h"
#include "text_file.h"

namespace cli {

namespace {

int chat(const ChatOptions& options) {
  require_utf8(options.system, "the system text");
  options.session.check();
  std::vector<Picture> pictures = read_pictures(options.images, options.model.memory_limit);
  const lapidary::Model model = load_model(
      options.model, options.images, pictures.empty() ? Vision::kIfThere : Vision::kNeeded, {},
      true, decoded_bytes(pictures) + options.speculation.draft_bytes(options.model));
  options.chat.tell(model, options.model.quiet);
  const lapidary::Message probe{"user", {}};
  lapidary::chat_prompt(model.tokenizer(), {&probe, 1}, options.chat.kind(model));  // Can it chat?
  if (!model.info().instruction_tuned) {
    warn(options.model.quiet,
         "this is a base model without chat training; expect it to continue text rather than to "
         "answer");
  }
  return Chat(options, model, std::move(pictures)).run();
}

}  // namespace

void add_chat(CLI::App& app, Run& run) {
  CLI::App& command = add_command(app, "chat", "talk with a model");
  const auto options = std::make_shared<ChatOptions>();
  add_model_flags(command, options->model);
  add_prefix_flags(command, options->model);
  add_sampling_flags(command, options->sampling);
  add_speculation_flags(command, options->speculation);
  add_image_flags(command, options->images);
  add_template_flag(command, options->chat);
  add_session_flags(command, options->session);
  options->system_option =
      add_option(command, "--system", options->system, "text in front of the first message");
  add_option(command, "--on-full", options->on_full,
             "when the context is full: ask whether the oldest turns may go, stop, or let them go "
             "(slide)")
      .one_of({"ask", "stop", "slide"})
      .show_default("ask on a terminal, else stop");
  const auto snapshots = std::make_shared<std::uint64_t>(0);
  const Option given =
      add_option(command, "--snapshot-memory", *snapshots,
                 "most bytes for places to which /undo and the like go back at once (K, M, G)")
          .size()
          .show_default("a tenth of the keys and values, or three places");
  when_chosen(command, run, [options, snapshots, given] {
    options->model.snapshot_memory =
        given.given() ? std::optional<std::uint64_t>(*snapshots) : std::nullopt;
    return chat(*options);
  });
}

}  // namespace cli
