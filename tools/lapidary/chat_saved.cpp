// Conversations that outlive a chat.
#include <utility>

#include "chat_input.h"
#include "chat_loop.h"
#include "chat_pictures.h"
#include "text.h"

namespace cli {

using lapidary::Error;

namespace {

std::string path_of(const std::string& argument) {
  const std::vector<std::string> names = split_file_names(argument);
  return expand_home(names.size() == 1 ? names.front() : argument);
}

}  // namespace

// Goes on with the conversation in `path`; nothing is lost when it throws.
void Chat::load_session(const std::string& path) {
  SessionFile file(path);
  interrupted = false;
  lapidary::Loaded loaded;
  {
    ProgressBar bar("reading " + one_line(path), options_.model.quiet);
    loaded = file.load(talk_.session(), options_.session.if_unusable(), bar.callback());
  }
  ChatFlag taken = options_.chat;
  if (const auto kind = template_of_note(loaded.note)) taken.take(*kind, path);
  talk_.take_note(loaded.note, path);
  template_ = taken;
  if (file_) file_ = std::move(file);
  changed_ = loaded.recomputed > 0;
  last_.reset();
  tries_ = 0;
  if (options_.model.quiet) return;
  std::string text = one_line(path) + ": " +
                     counted(static_cast<std::size_t>(talk_.turns()), "turn") +
                     format(", %d of %d tokens used", talk_.tokens(), talk_.session().context());
  if (loaded.recomputed > 0)
    text += ", " + counted(static_cast<std::size_t>(loaded.recomputed), "token") + " read again";
  note(text);
}

// Puts the conversation into the file of the session.
void Chat::keep() {
  if (!file_ || options_.session.read_only || !changed_) return;
  interrupted = false;
  ProgressBar bar("reading", options_.model.quiet);
  file_->save(talk_.settled(bar.callback(), &interrupted), talk_.note());
  changed_ = false;
}

void Chat::save(const std::string& argument) {
  if (argument.empty()) return note("/save needs a file");
  if (nothing_said()) return;
  const std::string path = path_of(argument);
  const bool own = file_ && file_->is(path);
  if (own && options_.session.read_only)
    return note("--session-read-only: " + path + " stays as it is");
  interrupted = false;
  try {
    ProgressBar bar("reading", options_.model.quiet);
    lapidary::Session& session = talk_.settled(bar.callback(), &interrupted);
    if (own) {
      file_->save(session, talk_.note());
      changed_ = false;
    } else {
      SessionFile(path).save_over(session, talk_.note());
    }
    note(counted(static_cast<std::size_t>(talk_.turns()), "turn") + " saved to " + path);
  } catch (const Error& error) {
    fail_or_stop(error, "saving to " + path);
  }
}

void Chat::load(const std::string& argument) {
  if (argument.empty()) return note("/load needs a file");
  const std::string path = path_of(argument);
  try {
    keep();
    load_session(path);
  } catch (const Error& error) {
    fail_or_stop(error, "loading " + path);
  }
}

}  // namespace cli
