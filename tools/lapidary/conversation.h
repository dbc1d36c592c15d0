#pragma once

#include <string>
#include <vector>

#include "lapidary/lapidary.h"

namespace cli {

/// What one reply took.
struct Reply {
  lapidary::Completion completion;
  int read = 0;    ///< Tokens computed before the first was drawn.
  int cached = 0;  ///< Tokens of the conversation that were there already.
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

/// A conversation by its token ids, turn by turn. The session is brought to what the turns say
/// before each reply: normally only the new turn is computed; after undo, clear or another system
/// text, everything is.
class Conversation {
 public:
  Conversation(const lapidary::Model& model, const lapidary::SessionOptions& options,
               std::string system);

  /// Adds a user turn and draws the reply; one that `options.cancel` stops is kept as far as it
  /// came. When the turn does not fit or its prefill is interrupted the Error passes through, and
  /// the turn is taken back.
  Reply say(const std::string& text, const lapidary::GenerateOptions& options,
            const lapidary::OnText& on_text, const lapidary::Progress& progress);

  bool empty() const { return turns_.empty(); }
  const std::string& last_user() const { return turns_.back().user; }
  void undo();  ///< Takes the last turn back. There must be one.
  void clear() { turns_.clear(); }

  const std::string& system() const { return system_; }
  void set_system(std::string text);

  int turns() const { return static_cast<int>(turns_.size()); }
  int tokens() const;  ///< Of all turns.
  const lapidary::Session& session() const { return session_; }

 private:
  struct Turn {
    std::string user;
    std::vector<lapidary::TokenId>
        opening;  // Ids from the end of the reply before it to where the model's turn begins.
    std::vector<lapidary::TokenId> reply;  // Without a stop id.
  };

  std::vector<lapidary::TokenId> opening(const std::string& text, bool first) const;
  std::vector<lapidary::TokenId> ids() const;

  lapidary::Session session_;
  std::string system_;
  std::vector<Turn> turns_;
};

}  // namespace cli
