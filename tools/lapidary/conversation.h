#pragma once

#include <string>
#include <vector>

#include "lapidary/lapidary.h"

namespace cli {

struct UserPicture {
  std::string description;
  lapidary::EncodedImage encoded;
};

/// What a user says in one turn: pictures, and text behind them.
struct UserMessage {
  std::string text;
  std::vector<UserPicture> pictures;
};

/// What one reply took.
struct Reply {
  lapidary::Completion completion;
  int read = 0;    ///< Tokens computed before the first was drawn.
  int cached = 0;  ///< Tokens of the conversation that were there already.
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

/// A conversation by its token ids and pictures, turn by turn. The session is brought to what the
/// turns say before each reply: normally only the new turn is computed, after undo too as long as
/// the session still has what was computed before; after clear or another system text, what
/// differs.
class Conversation {
 public:
  Conversation(const lapidary::Model& model, const lapidary::SessionOptions& options,
               std::string system, lapidary::ChatTemplate kind);

  /// Throws Error(kContext) when the conversation with `message` behind it does not fit. Only the
  /// sizes of its pictures' features are looked at.
  void check_room(const UserMessage& message) const;

  /// Adds a user turn and draws the reply; one that `options.cancel` stops is kept as far as it
  /// came. When the turn does not fit or its prefill is interrupted the Error passes through, and
  /// the turn is taken back.
  Reply say(const UserMessage& message, const lapidary::GenerateOptions& options,
            const lapidary::OnText& on_text, const lapidary::Progress& progress);

  bool empty() const { return turns_.empty(); }
  const UserMessage& last_user() const { return turns_.back().user; }
  void undo();  ///< Takes the last turn back. There must be one.
  void clear() { turns_.clear(); }

  const std::string& system() const { return system_; }
  void set_system(std::string text);

  int turns() const { return static_cast<int>(turns_.size()); }
  int tokens() const;        ///< Of all turns.
  int image_tokens() const;  ///< Of those, soft tokens of pictures.
  const lapidary::Session& session() const { return session_; }

 private:
  struct Turn {
    UserMessage user;
    lapidary::Prompt
        opening;  // From the end of the reply before it to where the model's turn begins.
    std::vector<lapidary::TokenId>
        reply;  // Without a stop id, and without image tokens: nothing would fill them.
  };

  lapidary::Prompt first_turn(const UserMessage& message) const;
  lapidary::Prompt opening(const UserMessage& message) const;  // Behind the turns that there are.
  lapidary::Prompt prompt() const;                             // All turns.
  void drop_computed(lapidary::Prompt& wanted);

  lapidary::Session session_;
  std::vector<lapidary::ImageFeatures>
      images_;  // What the session's image tokens stand for, in order; may hold more behind them.
  std::string system_;
  lapidary::ChatTemplate kind_;
  std::vector<Turn> turns_;
};

}  // namespace cli
