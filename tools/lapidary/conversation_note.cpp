// What is saved of a conversation beside the session: which of its ids are whose.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

#include "chat_flag.h"
#include "conversation.h"
#include "json.h"
#include "lapidary/utf8.h"
#include "text.h"

namespace cli {

using lapidary::ChatTemplate;
using lapidary::Error;
using lapidary::ErrorCode;
using lapidary::ImageFeatures;
using lapidary::Prompt;
using lapidary::TokenId;

namespace {

constexpr const char* kWhat = "lapidary";  // The member that says what a note tells of.
constexpr const char* kConversation = "conversation";
constexpr const char* kPlain = "text";
constexpr int kVersion = 1;
constexpr int kMostValues = 1 << 28;  // Ids that the model no longer sees stand in it, too.

// Why a note does not fit, for the end of a message.
struct Unfit {
  std::string why;
};

Json parse_note(std::string_view note) {
  std::string error;
  Json value = parse_json(note, error, kMostValues);
  if (value.is_discarded() || !value.is_object() || !value.contains(kWhat))
    throw Unfit{"it was not saved by chat or generate"};
  if (!value.contains("version") || value["version"] != kVersion)
    throw Unfit{"it is of another version of lapidary"};
  return value;
}

bool tells_of(std::string_view note, const char* what) {
  try {
    return parse_note(note)[kWhat] == what;
  } catch (const Unfit&) {
    return false;
  }
}

// Reads the members of an object whose note was checked by nobody.
class Members {
 public:
  explicit Members(const Json& object) : object_(object) {
    if (!object.is_object()) throw Unfit{"a turn is no object"};
  }

  const Json& at(const char* name) const {
    if (!object_.contains(name)) throw Unfit{std::string("it has no ") + name};
    return object_[name];
  }
  std::string text(const char* name) const {
    const Json& value = at(name);
    if (!value.is_string() || lapidary::find_invalid_utf8(value.get_ref<const std::string&>()))
      throw Unfit{std::string(name) + " is no text"};
    return value.get<std::string>();
  }
  std::size_t number(const char* name, std::size_t most) const {
    const Json& value = at(name);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most)
      throw Unfit{std::string(name) + " is no number up to " + std::to_string(most)};
    return value.get<std::size_t>();
  }
  std::vector<TokenId> ids(const char* name, int vocabulary) const {
    const Json& value = at(name);
    if (!value.is_array()) throw Unfit{std::string(name) + " is no list"};
    std::vector<TokenId> ids;
    ids.reserve(value.size());
    for (const Json& id : value) {
      if (!id.is_number_integer() || id.get<std::int64_t>() < 0 ||
          id.get<std::int64_t>() >= vocabulary)
        throw Unfit{std::string(name) + " holds what is no token"};
      ids.push_back(id.get<TokenId>());
    }
    return ids;
  }

 private:
  const Json& object_;
};

Json note_of(const UserMessage& user) {
  Json value;
  value["user"] = user.text;
  if (user.pictures.empty()) return value;
  for (const UserPicture& picture : user.pictures) {
    Json views = Json::array();
    for (const lapidary::ImageView& view : picture.encoded.views)
      views.push_back({view.x, view.y, view.width, view.height});
    value["pictures"].push_back({{"description", picture.description}, {"views", views}});
  }
  return value;
}

// Without the pictures' features.
UserMessage user_of(const Members& turn, const Json& value) {
  UserMessage user{turn.text("user"), {}};
  if (!value.contains("pictures")) return user;
  for (const Json& picture : value["pictures"]) {
    const Members members(picture);
    UserPicture shown{members.text("description"), {}};
    for (const Json& view : members.at("views")) {
      const auto number = [](const Json& n) { return n.is_number_integer(); };
      if (!view.is_array() || view.size() != 4 || !std::all_of(view.begin(), view.end(), number))
        throw Unfit{"a view of a picture is no list of 4 numbers"};
      shown.encoded.views.push_back(
          {view[0].get<int>(), view[1].get<int>(), view[2].get<int>(), view[3].get<int>()});
    }
    user.pictures.push_back(std::move(shown));
  }
  return user;
}

// Hands out the ids and pictures of a session, turn by turn.
class Taken {
 public:
  explicit Taken(const lapidary::Session& session)
      : ids_(session.ids()), images_(session.images()) {}

  std::vector<TokenId> ids(std::size_t count) {
    if (count > ids_.size()) throw Unfit{"its turns have more tokens than the session"};
    std::vector<TokenId> taken(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(count));
    ids_ = ids_.subspan(count);
    return taken;
  }

  // What the views of `user` stand for.
  std::vector<ImageFeatures> fill(UserMessage& user) {
    std::vector<ImageFeatures> all;
    for (UserPicture& picture : user.pictures) {
      const std::size_t views = picture.encoded.views.size();
      if (views > images_.size()) throw Unfit{"its turns have more pictures than the session"};
      const std::span<const ImageFeatures> own = images_.first(views);
      picture.encoded.features.assign(own.begin(), own.end());
      all.insert(all.end(), own.begin(), own.end());
      images_ = images_.subspan(views);
    }
    return all;
  }

  void check_end() const {
    if (!ids_.empty() || !images_.empty()) throw Unfit{"its turns are not all of the session"};
  }

 private:
  std::span<const TokenId> ids_;
  std::span<const ImageFeatures> images_;
};

}  // namespace

std::optional<ChatTemplate> template_of_note(std::string_view note) {
  if (!tells_of(note, kConversation)) return {};
  const Json value = parse_note(note);
  const Json& name = value.contains("template") ? value["template"] : Json();
  for (const ChatTemplate kind : {ChatTemplate::kGemma, ChatTemplate::kChatML, ChatTemplate::kNone})
    if (name == template_name(kind)) return kind;
  return {};
}

std::string plain_note() {
  Json note;
  note[kWhat] = kPlain;
  note["version"] = kVersion;
  return to_line(note);
}

bool is_plain_note(std::string_view note) { return tells_of(note, kPlain); }

// Of turns that the model sees the session has the ids: the note counts them.
std::string Conversation::note() const {
  Json note;
  note[kWhat] = kConversation;
  note["version"] = kVersion;
  note["template"] = template_name(kind_);
  note["system"] = system_;
  if (stale_) note["system_from_next_turn"] = true;
  note["first_seen"] = first_;
  note["turns"] = Json::array();
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    const Turn& turn = turns_[i];
    Json value = note_of(turn.user);
    value["seen_from"] = turn.seen_from;
    if (seen(i)) {
      value["opening"] = opening_of(i).ids.size();
      value["reply"] = turn.reply.size();
      if (i == first_ && !turn.opening.ids.empty()) value["behind"] = turn.opening.ids;
    } else {
      value["behind"] = turn.opening.ids;
      value["ids"] = turn.reply;
    }
    note["turns"].push_back(std::move(value));
  }
  return to_line(note);
}

void Conversation::take_note(std::string_view text, const std::string& path) {
  const auto unfit = [&](const std::string& why) {
    return Error(ErrorCode::kFile, path + " holds no conversation that can go on: " + why);
  };
  try {
    const std::optional<ChatTemplate> kind = template_of_note(text);
    const Json note = parse_note(text);
    if (is_plain_note(text)) throw Unfit{"it is plain text (generate --no-chat goes on with it)"};
    if (!kind) throw Unfit{"its template is not known"};
    const Members members(note);
    const Json& list = members.at("turns");
    if (!list.is_array()) throw Unfit{"its turns are no list"};
    const std::size_t first = members.number("first_seen", list.size());
    const std::string system = members.text("system");
    const int vocabulary = session_.model().info().vocabulary;
    std::vector<Turn> turns;
    Taken taken(session_);
    Prompt lead;
    std::size_t restorable = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const Members turn(list[i]);
      Turn made{user_of(turn, list[i]), {}, {}, turn.number("seen_from", i)};
      if (list[i].contains("behind")) made.opening.ids = turn.ids("behind", vocabulary);
      if (i <= first && made.seen_from < i && made.opening.ids.empty())
        throw Unfit{"it has no behind"};
      if (i < first) {
        made.reply = turn.ids("ids", vocabulary);
        if (!made.user.pictures.empty()) restorable = i + 1;
      } else {
        Prompt& opening = i == first ? lead : made.opening;
        opening.ids = taken.ids(turn.number("opening", session_.ids().size()));
        opening.images = taken.fill(made.user);
        made.reply = taken.ids(turn.number("reply", session_.ids().size()));
        if (i == first && !made.opening.ids.empty()) made.opening.images = opening.images;
      }
      turns.push_back(std::move(made));
    }
    taken.check_end();
    turns_ = std::move(turns);
    system_ = system;
    kind_ = *kind;
    first_ = first;
    restorable_ = restorable;
    lead_ = std::move(lead);
    stale_ = note.contains("system_from_next_turn");
    find_system_end();
  } catch (const Unfit& wrong) {
    throw unfit(wrong.why);
  }
}

}  // namespace cli
