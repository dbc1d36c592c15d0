#pragma once

#include <atomic>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
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
  int again = 0;   ///< Of those, how many had been read before this turn.
  int cached = 0;  ///< Tokens of the conversation that were there already.
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

/// A conversation by its token ids and pictures, turn by turn. The session is brought to what the
/// turns say before each reply: it goes back to where both begin to differ, and computes the rest.
/// The model sees the system text and the turns from first_seen() on.
class Conversation {
 public:
  /// Takes a session that is empty, or one that take_note() tells about.
  Conversation(lapidary::Session session, std::string system, lapidary::ChatTemplate kind);

  /// Throws Error(kContext) when what the model sees, without the `drop` oldest turns of it, and
  /// `message` behind it do not fit. Only the sizes of its pictures' features are looked at.
  void check_room(const UserMessage& message, int drop = 0) const;

  /// Tokens that would be left behind `message`; negative where it does not fit.
  int room_behind(const UserMessage& message, int drop = 0) const;

  /// How many of the oldest turns the model must no longer see so that `room` tokens are left
  /// behind `message`, or without one behind the last reply, whose own turn stays. The most that
  /// can go where that is not enough, 0 where nothing can.
  int to_drop(const UserMessage* message, int room) const;

  /// Adds a user turn and draws the reply; one that `options.cancel` stops is kept as far as it
  /// came. The model no longer sees the `drop` oldest turns of those that it saw. When the turn
  /// does not fit or its prefill is interrupted the Error passes through, and all is as before.
  Reply say(const UserMessage& message, const lapidary::GenerateOptions& options,
            const lapidary::OnText& on_text, const lapidary::Progress& progress, int drop = 0);

  /// Goes on with the last reply, which had reached the end of the context, without the `drop`
  /// oldest turns. Throws as say().
  Reply go_on(const lapidary::GenerateOptions& options, const lapidary::OnText& on_text,
              const lapidary::Progress& progress, int drop);

  bool empty() const { return turns_.empty(); }
  int turns() const { return static_cast<int>(turns_.size()); }
  int first_seen() const { return static_cast<int>(first_); }
  const UserMessage& user(int turn) const { return turns_[static_cast<std::size_t>(turn)].user; }
  const UserMessage& last_user() const { return turns_.back().user; }

  /// Takes the last `count` turns back, of which there are so many. The model then sees again what
  /// it saw when the turn that is now the last was said.
  void take_back(int count = 1);
  void clear();

  const std::string& system() const { return system_; }
  void set_system(std::string text);  ///< Holds from the next turn on.
  lapidary::ChatTemplate kind() const { return kind_; }

  int tokens() const;        ///< Of all turns that the model sees.
  int image_tokens() const;  ///< Of those, soft tokens of pictures.
  const lapidary::Session& session() const { return session_; }

  /// The session, brought to the end of the last turn: for saving. Throws as Session::append.
  lapidary::Session& settled(const lapidary::Progress& progress, const std::atomic<bool>* cancel);

  /// For loading; take_note() must follow, or the next reply computes what has changed.
  lapidary::Session& session() { return session_; }

  /// What a saved session must be told beside its ids: JSON, in one line.
  std::string note() const;

  /// Makes the turns, the system text and the template those that `note` tells of, which was saved
  /// with what the session now holds. Throws Error(kFile), beginning with `path`, for a note that
  /// does not fit; nothing is changed then.
  void take_note(std::string_view note, const std::string& path);

 private:
  struct Turn {
    UserMessage user;
    lapidary::Prompt opening;  // From the end of the reply before it to where the model's begins;
                               // none where the model saw no turn before.
    std::vector<lapidary::TokenId>
        reply;  // Without a stop id, and without image tokens: nothing would fill them.
    std::size_t seen_from = 0;  // First turn that the model saw when it replied.
  };

  lapidary::Prompt first_turn(const UserMessage& message,
                              const std::atomic<bool>* cancel = nullptr) const;
  lapidary::Prompt opening(const UserMessage& message, int drop) const;
  lapidary::Prompt prompt() const;  // All that the model sees.
  std::size_t tokens(int drop) const;
  bool seen(std::size_t turn) const { return turn >= first_ && turn < turns_.size(); }
  const lapidary::Prompt& opening_of(std::size_t turn) const {
    return turn == first_ ? lead_ : turns_[turn].opening;
  }
  void see_from(std::size_t first);
  void find_system_end();
  int go_back(const lapidary::Prompt& wanted);
  Reply bring(const lapidary::Progress& progress, const std::atomic<bool>* cancel);
  void draw(Reply& reply, const lapidary::GenerateOptions& options,
            const lapidary::OnText& on_text);

  lapidary::Session session_;
  std::string system_;
  lapidary::ChatTemplate kind_;
  std::vector<Turn> turns_;
  std::size_t first_ = 0;       // First turn that the model sees; turns_.size(): none.
  std::size_t restorable_ = 0;  // Turns before this one cannot be shown again: no pictures of them.
  lapidary::Prompt lead_;       // Opening of that turn, the system text in front.
  int system_end_ = 0;          // Ids of lead_ that any first message would begin with.
  bool stale_ = false;          // lead_ still has the system text before this one.
};

/// The template of a conversation that `note` tells of; nothing where it tells of none.
std::optional<lapidary::ChatTemplate> template_of_note(std::string_view note);

/// The note of a session of plain text.
std::string plain_note();
bool is_plain_note(std::string_view note);

}  // namespace cli
