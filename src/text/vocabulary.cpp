#include "text/vocabulary.h"

#include <algorithm>
#include <bitset>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include "base/cancel.h"
#include "base/format.h"
#include "base/memory.h"
#include "base/printable.h"
#include "formats/metadata.h"
#include "lapidary/error.h"
#include "lapidary/utf8.h"

namespace lapidary {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space.

/// Control tokens whatever a file says: a text must not be able to forge a turn or an image.
constexpr std::string_view kControlNames[] = {
    "<pad>",          "<eos>",
    "<bos>",          "<unk>",
    "<mask>",         "<start_of_turn>",
    "<end_of_turn>",  "<start_of_image>",
    "<end_of_image>", "<image_soft_token>",
    "<|im_start|>",   "<|im_end|>",
};

[[noreturn]] void fail(const WeightSource& source, Key key, const std::string& what) {
  fail_key(source, key, ": " + what);
}

/// Appends `text` to `out` with `to` for every `from`.
template <class String>
void append_replaced(String& out, std::string_view text, std::string_view from,
                     std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from)) {
    out += text.substr(0, at);
    out += to;
    text.remove_prefix(at + from.size());
  }
  out += text;
}

const char* type_name(TokenType type) {
  constexpr const char* kNames[] = {"normal",       "unknown", "control",
                                    "user-defined", "unused",  "byte"};
  return kNames[static_cast<int>(type) - 1];
}

/// The byte that `<0xNN>` names, or -1.
int byte_of(std::string_view piece) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  const int high = digit(piece[3]);
  const int low = digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/// Whether a newline follows anything but a newline.
bool has_inner_newline(std::string_view piece) {
  return piece.find('\n', std::min(piece.find_first_not_of('\n'), piece.size())) !=
         std::string_view::npos;
}

// SentencePiece builds its search for user-defined pieces by a recursion as deep as they are long.
constexpr std::size_t kMaxTokenBytes = 4096;

/// Throws Error(kFile) unless all three arrays are there and equally long: before any of them is
/// read.
void check_lengths(const WeightSource& source) {
  const std::optional<ArraySize> tokens = source.array_size(Key::kTokens);
  if (!tokens) return;  // Told when it is read.
  if (tokens->count == 0) fail(source, Key::kTokens, "empty");
  for (const Key key : {Key::kTokenScores, Key::kTokenTypes})
    require_count(source, key, tokens->count, "tokens");
}

/// Throws Error(kFile) when a tokenizer of these tokens would take more memory than twice the file
/// and 64 MiB, its header and `held` included: before the tokens are read.
void check_cost(const WeightSource& source, std::span<const TokenType> types, std::uint64_t held) {
  const auto size = source.array_size(Key::kTokens);
  if (!size) return;
  // Measured at the moment that takes the most, SentencePiece's own included.
  constexpr std::uint64_t kToken = 220, kByte = 6, kUserDefined = 150;
  const auto user_defined =
      static_cast<std::uint64_t>(std::ranges::count(types, TokenType::kUserDefined));
  const std::uint64_t needed =
      kToken * size->count + kByte * size->bytes + kUserDefined * user_defined;
  const std::uint64_t allowed = 2 * source.file_bytes() + (std::uint64_t{64} << 20);
  const std::uint64_t header = size->bytes + sizeof(std::uint64_t) * size->count;
  if (needed + header + held <= allowed) return;
  fail(source, Key::kTokens,
       format("{} tokens of {} would take {}, more than a file of {} may", size->count,
              format_bytes(size->bytes), format_bytes(needed), format_bytes(source.file_bytes())));
}

/// The scores as floats, the types as such: each array of the file is gone before the next is read.
PagedVector<float> read_scores(const WeightSource& source) {
  const PagedVector<double> read =
      required(source, Key::kTokenScores, source.find_floats(Key::kTokenScores));
  PagedVector<float> scores;
  scores.reserve(read.size());
  for (const double score : read) {
    if (!(std::abs(score) <= std::numeric_limits<float>::max())) {
      fail(source, Key::kTokenScores,
           format("token {} has a score that is no finite number", scores.size()));
    }
    scores.push_back(static_cast<float>(score));
  }
  return scores;
}

PagedVector<TokenType> read_types(const WeightSource& source) {
  const PagedVector<std::int64_t> read =
      required(source, Key::kTokenTypes, source.find_ints(Key::kTokenTypes));
  PagedVector<TokenType> types;
  types.reserve(read.size());
  for (const std::int64_t type : read) {
    if (type < 1 || type > 6) {
      fail(source, Key::kTokenTypes,
           format("token {} has type {}, expected 1 to 6", types.size(), type));
    }
    types.push_back(static_cast<TokenType>(type));
  }
  return types;
}

Pieces read_pieces(const WeightSource& source, std::uint64_t held) {
  check_lengths(source);
  Pieces pieces;
  pieces.types = read_types(source);
  pieces.scores = read_scores(source);
  check_cost(source, pieces.types, held);
  pieces.texts = required(source, Key::kTokens, source.find_strings(Key::kTokens));
  const std::size_t count = pieces.texts.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& text = pieces.texts[i];
    if (text.empty() || text.find('\0') != std::string::npos)
      fail(source, Key::kTokens,
           format("token {} {}", i, text.empty() ? "is empty" : "holds a NUL byte"));
    if (text.size() > kMaxTokenBytes) {
      fail(source, Key::kTokens,
           format("token {} has {} bytes, expected at most {}", i, text.size(), kMaxTokenBytes));
    }
  }
  return pieces;
}

/// Sets the types that Gemma's special tokens must have, with a line in `warnings` where a file has
/// them otherwise, and writes user-defined pieces as SentencePiece matches them.
void repair(const WeightSource& source, Pieces& pieces, std::vector<std::string>& warnings) {
  for (std::size_t i = 0; i < pieces.texts.size(); ++i) {
    TokenType& type = pieces.types[i];
    std::string& text = pieces.texts[i];
    const bool special =
        text.front() == '<' && std::ranges::find(kControlNames, text) != std::end(kControlNames);
    if (special && type != TokenType::kControl && type != TokenType::kUnknown) {
      warnings.push_back(source.name(Key::kTokenTypes) + ": " + text + " is " + type_name(type) +
                         ", read as control");
    }
    if (special) type = TokenType::kControl;
    if (text == "<unk>") type = TokenType::kUnknown;
    if (type == TokenType::kUserDefined) {
      std::string marked;
      append_replaced(marked, text, " ", kSpaceMark);
      text = std::move(marked);
    }
    if (type != TokenType::kUnknown) continue;
    if (pieces.unknown >= 0) {
      fail(source, Key::kTokenTypes,
           format("tokens {} and {} are both of type unknown", pieces.unknown, i));
    }
    pieces.unknown = static_cast<TokenId>(i);
  }
  if (pieces.unknown < 0) fail(source, Key::kTokens, "no <unk> token");
}

void check_bytes(const WeightSource& source, const Pieces& pieces) {
  std::bitset<256> seen;
  for (std::size_t i = 0; i < pieces.texts.size(); ++i) {
    if (pieces.types[i] != TokenType::kByte) continue;
    const int byte = byte_of(pieces.texts[i]);
    if (byte < 0 || seen[static_cast<std::size_t>(byte)]) {
      fail(source, Key::kTokens,
           format("token {} is of type byte, but is not <0x00> to <0xFF> or there twice", i));
    }
    seen.set(static_cast<std::size_t>(byte));
  }
  if (!seen.all()) {
    fail(source, Key::kTokenTypes,
         format("{} byte tokens, expected all 256 from <0x00> to <0xFF>", seen.count()));
  }
}

/// SentencePiece looks up the tokens that no text may hold first: a text with a character or a
/// piece that is spelt like one would become that token, or fail.
void check_reserved(const WeightSource& source, const Pieces& pieces) {
  std::unordered_map<std::string_view, std::size_t> reserved;
  std::bitset<256> starts;
  for (std::size_t i = 0; i < pieces.texts.size(); ++i) {
    if (is_of_texts(pieces.types[i])) continue;
    const std::string_view text = pieces.texts[i];
    const Utf8Step step = next_utf8(text);
    if (step.valid && step.bytes == text.size()) {
      fail(source, Key::kTokenTypes,
           format("token {}, one character, is of type {}", i, type_name(pieces.types[i])));
    }
    reserved.emplace(text, i);
    starts.set(static_cast<unsigned char>(text.front()));
  }
  for (std::size_t i = 0; i < pieces.texts.size(); ++i) {
    const std::string_view text = pieces.texts[i];
    if (!is_of_texts(pieces.types[i]) || !starts[static_cast<unsigned char>(text.front())])
      continue;
    const auto found = reserved.find(text);
    if (found == reserved.end()) continue;
    fail(source, Key::kTokens, format("tokens {} and {} are spelt alike", found->second, i));
  }
}

}  // namespace

TokenId Vocabulary::find_control(std::string_view name) const {
  const auto found = control_ids_.find(name);
  return found == control_ids_.end() ? -1 : found->second;
}

TokenId Vocabulary::match_control(std::string_view text) const {
  if (text.empty() || !control_starts_[static_cast<unsigned char>(text.front())]) return -1;
  for (const std::size_t length : control_lengths_) {
    if (length > text.size()) continue;
    const TokenId id = find_control(text.substr(0, length));
    if (id >= 0) return id;
  }
  return -1;
}

void Vocabulary::add_control(std::string_view name, TokenType type) {
  control_ids_.emplace(name, static_cast<TokenId>(types_.size()));
  control_starts_.set(static_cast<unsigned char>(name.front()));
  types_.push_back(type);
  blob_ += name;
  offsets_.push_back(static_cast<std::uint32_t>(blob_.size()));
}

void Vocabulary::add(const Pieces& pieces) {
  const std::size_t count = pieces.texts.size();
  std::size_t bytes = 0;
  for (const std::string& text : pieces.texts) bytes += text.size();
  blob_.reserve(bytes);
  offsets_.reserve(count + 1);
  types_.reserve(count + 1);
  offsets_.push_back(0);
  bool straddled = false;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& text = pieces.texts[i];
    const TokenType type = pieces.types[i];
    const bool control = type == TokenType::kControl || type == TokenType::kUnknown;
    if (control) {
      add_control(text, type);
      continue;
    }
    if (type == TokenType::kByte) {
      blob_.push_back(static_cast<char>(byte_of(text)));
    } else {
      append_replaced(blob_, text, kSpaceMark, " ");
    }
    if (type == TokenType::kUserDefined) {
      newlines_cut = newlines_cut || text == "\n";
      straddled = straddled || has_inner_newline(text);
    }
    types_.push_back(type);
    longest_piece = std::max(longest_piece, blob_.size() - offsets_.back());
    offsets_.push_back(static_cast<std::uint32_t>(blob_.size()));
  }
  size_ = static_cast<TokenId>(count);
  if (find_control("<start_of_image>") >= 0 && find_control("<image_soft_token>") < 0) {
    add_control("<image_soft_token>", TokenType::kControl);
  }
  newlines_cut = newlines_cut && !straddled;
  for (const auto& [name, id] : control_ids_) control_lengths_.push_back(name.size());
  std::ranges::sort(control_lengths_, std::greater<>());
  control_lengths_.erase(std::unique(control_lengths_.begin(), control_lengths_.end()),
                         control_lengths_.end());
}

void Vocabulary::find_specials(const WeightSource& source) {
  const auto by_key = [&](Key key) { return read_int(source, key, 0, size() - 1, -1); };
  const auto by_name_or_key = [&](const char* name, Key key) {
    const TokenId named = find_control(name);
    const TokenId id = named >= 0 ? named : by_key(key);
    if (id < 0) fail(source, Key::kTokens, std::string("no ") + name + " token");
    return id;
  };
  bos = by_name_or_key("<bos>", Key::kBos);
  eos = by_name_or_key("<eos>", Key::kEos);
  start_of_turn = find_control("<start_of_turn>");
  end_of_turn = find_control("<end_of_turn>");
  start_of_image = find_control("<start_of_image>");
  end_of_image = find_control("<end_of_image>");
  image_token = find_control("<image_soft_token>");
  std::vector<TokenId> stops = {eos, end_of_turn, find_control("<|im_end|>")};
  if (source.array_size(Key::kEos)) {
    const PagedVector<std::int64_t> all = required(source, Key::kEos, source.find_ints(Key::kEos));
    for (const std::int64_t id : all) {
      if (id < 0 || id >= size())
        fail_key(source, Key::kEos, format(" holds {}, expected 0 to {}", id, size() - 1));
      stops.push_back(static_cast<TokenId>(id));
    }
  } else {
    stops.push_back(by_key(Key::kEos));
  }
  for (const Key key : {Key::kEot, Key::kEom}) stops.push_back(by_key(key));
  for (const TokenId id : stops) {
    if (id >= 0 && std::ranges::find(stop_ids, id) == stop_ids.end()) stop_ids.push_back(id);
  }
}

Vocabulary read_vocabulary(const WeightSource& source, Pieces& pieces,
                           const std::atomic<bool>* cancel, std::uint64_t held) {
  constexpr const char* kReading = "reading the vocabulary";
  Vocabulary vocabulary;
  pieces = read_pieces(source, held);
  check_cancel(cancel, kReading);
  repair(source, pieces, vocabulary.warnings);
  check_bytes(source, pieces);
  check_reserved(source, pieces);
  check_cancel(cancel, kReading);
  vocabulary.add(pieces);
  check_cancel(cancel, kReading);
  vocabulary.find_specials(source);
  return vocabulary;
}

}  // namespace lapidary
