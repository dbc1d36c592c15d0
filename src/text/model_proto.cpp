// The form of SentencePiece's own files.

#include <bit>
#include <cstdint>
#include <string_view>

#include "text/vocabulary.h"

namespace lapidary {
namespace {

// Protobuf's wire format: a field is a key (number << 3 | kind), then a varint, 4 bytes, or a
// length and bytes. Field numbers are those of sentencepiece_model.proto, which promises never to
// change them.

void put_varint(PagedString& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void put_int(PagedString& out, std::uint32_t field, std::uint64_t value) {
  put_varint(out, field << 3);
  put_varint(out, value);
}

void put_float(PagedString& out, std::uint32_t field, float value) {
  put_varint(out, field << 3 | 5);
  const auto bits = std::bit_cast<std::uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(bits >> shift));
}

void put_bytes(PagedString& out, std::uint32_t field, std::string_view value) {
  put_varint(out, field << 3 | 2);
  put_varint(out, value.size());
  out += value;
}

PagedString trainer_spec(const Pieces& pieces) {
  PagedString spec;
  put_int(spec, 3, 2);                                                          // model_type: BPE
  put_int(spec, 35, 1);                                                         // byte_fallback
  put_int(spec, 40, static_cast<std::uint64_t>(pieces.unknown));                // unk_id
  put_int(spec, 41, 2);                                                         // bos_id
  put_int(spec, 42, 1);                                                         // eos_id
  put_int(spec, 43, 0);                                                         // pad_id
  put_bytes(spec, 45, pieces.texts[static_cast<std::size_t>(pieces.unknown)]);  // unk_piece
  return spec;
}

PagedString normalizer_spec() {
  PagedString spec;
  put_bytes(spec, 1, "identity");  // name
  put_int(spec, 3, 0);             // add_dummy_prefix
  put_int(spec, 4, 0);             // remove_extra_whitespaces
  put_int(spec, 5, 1);             // escape_whitespaces
  return spec;
}

}  // namespace

PagedString serialize_model_proto(const Pieces& pieces) {
  PagedString proto;
  proto.reserve(pieces.texts.size() * 24);
  PagedString piece;
  for (std::size_t i = 0; i < pieces.texts.size(); ++i) {
    piece.clear();
    put_bytes(piece, 1, pieces.texts[i]);
    put_float(piece, 2, pieces.scores[i]);
    put_int(piece, 3, static_cast<std::uint64_t>(pieces.types[i]));
    put_bytes(proto, 1, piece);
  }
  put_bytes(proto, 2, trainer_spec(pieces));
  put_bytes(proto, 3, normalizer_spec());
  return proto;
}

}  // namespace lapidary
