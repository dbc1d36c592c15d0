// Reads SentencePiece's own files: protobuf's wire format, of which a model has few kinds of
// fields.

#include "formats/tokenizer_model.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <span>

#include "base/file.h"
#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{256} << 20;
// Pieces that a file may have beside one in sixteen bytes: they take no more memory than that
// allows (docs/decisions/0020-memory-goes-back.md).
constexpr std::size_t kFreePieces = std::size_t{2} << 20;

/// One field of a message.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;  // Of a varint or of four or eight bytes.
  std::string_view bytes;   // Of what has a length.
  unsigned kind = 0;
};
constexpr unsigned kVarint = 0, kEight = 1, kBytes = 2, kFour = 5;

/// The fields of a message, one after the other.
class Message {
 public:
  Message(const std::string& path, std::string_view bytes) : path_(path), left_(bytes) {}

  std::optional<Field> next() {
    if (left_.empty()) return {};
    Field field;
    const std::uint64_t key = varint();
    field.number = key >> 3;
    field.kind = static_cast<unsigned>(key & 7);
    if (field.number == 0) fail("has a field without a number");
    if (field.kind == kVarint) {
      field.value = varint();
    } else if (field.kind == kEight || field.kind == kFour) {
      const std::string_view raw = take(field.kind == kEight ? 8 : 4);
      for (std::size_t i = raw.size(); i-- > 0;)
        field.value = field.value << 8 | static_cast<unsigned char>(raw[i]);
    } else if (field.kind == kBytes) {
      field.bytes = take(varint());
    } else {
      fail(format("has a field of kind {}", field.kind));
    }
    return field;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kFile, path_ + " " + what + ": no SentencePiece model");
  }

  /// Throws unless `field` has `kind`.
  void expect(const Field& field, unsigned kind, const char* name) const {
    if (field.kind != kind) fail(format("has another kind of field as {}", name));
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      if (shift == 63 && byte > 1) break;
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    fail("has a number of more than 64 bits");
  }
  std::string_view take(std::uint64_t count) {
    if (count > left_.size()) {
      fail(format("has a field of {} bytes where {} are left", count, left_.size()));
    }
    const std::string_view taken = left_.substr(0, static_cast<std::size_t>(count));
    left_.remove_prefix(taken.size());
    return taken;
  }

  const std::string& path_;
  std::string_view left_;
};

void read_piece(const std::string& path, std::string_view bytes, std::size_t most,
                TokenTable& table) {
  Message message(path, bytes);
  TokenTable::Piece piece{static_cast<std::uint32_t>(table.text.size()), 0, 0, TokenType::kNormal};
  while (const std::optional<Field> field = message.next()) {
    if (field->number == 1) {
      message.expect(*field, kBytes, "text");
      table.text.resize(piece.begin);
      table.text += field->bytes;
      piece.bytes = static_cast<std::uint32_t>(field->bytes.size());
    } else if (field->number == 2) {
      message.expect(*field, kFour, "score");
      piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field->value));
    } else if (field->number == 3) {
      message.expect(*field, kVarint, "type");
      // Whether it is one is looked at with the others of its vocabulary.
      piece.type = static_cast<TokenType>(field->value < 7 ? field->value : 0);
    }
  }
  if (piece.bytes == 0) message.fail(format("has no text for token {}", table.pieces.size()));
  if (table.pieces.size() == most) message.fail(format("has more than {} tokens", most));
  table.pieces.push_back(piece);
}

[[noreturn]] void refuse(const std::string& path, const char* what, std::uint64_t found,
                         const char* expected) {
  throw Error(ErrorCode::kFile, format("{}: {} is {}, expected {}", path, what, found, expected));
}

void check_trainer(const std::string& path, std::string_view bytes) {
  Message message(path, bytes);
  std::uint64_t model = 1;
  while (const std::optional<Field> field = message.next()) {
    if (field->number == 3) model = field->value;
  }
  if (model != 2) refuse(path, "trainer_spec.model_type", model, "2 (byte pairs)");
}

void check_normalizer(const std::string& path, std::string_view bytes) {
  Message message(path, bytes);
  std::uint64_t prefix = 1, remove = 1, escape = 1;
  while (const std::optional<Field> field = message.next()) {
    if (field->number == 2 && !field->bytes.empty()) {
      refuse(path, "the length of normalizer_spec.precompiled_charsmap", field->bytes.size(),
             "0: texts as they are");
    }
    if (field->number == 3) prefix = field->value;
    if (field->number == 4) remove = field->value;
    if (field->number == 5) escape = field->value;
  }
  if (prefix != 0) refuse(path, "normalizer_spec.add_dummy_prefix", prefix, "0");
  if (remove != 0) refuse(path, "normalizer_spec.remove_extra_whitespaces", remove, "0");
  if (escape != 1) refuse(path, "normalizer_spec.escape_whitespaces", escape, "1");
}

}  // namespace

TokenTable read_tokenizer_model(const std::string& path) {
  const File file(path);
  if (file.size() > kMaxBytes) {
    throw Error(ErrorCode::kFile,
                format("{} has {} bytes, expected at most {}", path, file.size(), kMaxBytes));
  }
  PagedString bytes(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, std::as_writable_bytes(std::span(bytes)));
  const std::size_t most = bytes.size() / 16 + kFreePieces;
  TokenTable table;
  table.file = path;
  table.tokens = "pieces";
  // Only what is used of it takes memory. A piece has five bytes at least.
  table.pieces.reserve(std::min(most, bytes.size() / 5));
  table.text.reserve(bytes.size());
  Message message(path, bytes);
  bool trained = false, normalized = false;
  while (const std::optional<Field> field = message.next()) {
    if (field->number == 1) {
      message.expect(*field, kBytes, "piece");
      read_piece(path, field->bytes, most, table);
    } else if (field->number == 2) {
      message.expect(*field, kBytes, "trainer_spec");
      check_trainer(path, field->bytes);
      trained = true;
    } else if (field->number == 3) {
      message.expect(*field, kBytes, "normalizer_spec");
      check_normalizer(path, field->bytes);
      normalized = true;
    }
  }
  if (table.pieces.empty()) message.fail("has no pieces");
  if (!trained) message.fail("has no trainer_spec");
  if (!normalized) message.fail("has no normalizer_spec");
  return table;
}

}  // namespace lapidary
