#pragma once

#include <atomic>
#include <bitset>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/token_table.h"
#include "formats/weight_source.h"
#include "lapidary/tokenizer.h"

namespace lapidary {

/// Whether texts are made of it: SentencePiece keeps control, unknown and byte tokens apart.
constexpr bool is_of_texts(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kUserDefined ||
         type == TokenType::kUnused;
}

/// The pieces of a vocabulary as a file has them, checked and with their types repaired: what
/// SentencePiece is built from.
struct Pieces {
  PagedVector<std::string>
      texts;  // Spaces of user-defined pieces as U+2581, as SentencePiece wants them.
  PagedVector<float> scores;
  PagedVector<TokenType> types;
  TokenId unknown = -1;
};

/// A SentencePiece `ModelProto` of `pieces` in protobuf's wire format: BPE with byte fallback, text
/// left as it is but for spaces written as U+2581 (no normalisation, no dummy prefix, no white
/// space removed), as Gemma's own tokenizer.model says.
PagedString serialize_model_proto(const Pieces& pieces);

/// What decoding and prompts need of a vocabulary. Immutable once read.
class Vocabulary {
 public:
  /// Tokens in the file.
  TokenId size() const { return size_; }

  /// Ids with a meaning: those of the file, and where it knows images but has no row for
  /// `<image_soft_token>`, that one behind them (262144 with Gemma's 262,144 tokens).
  bool contains(TokenId id) const {
    return id >= 0 && static_cast<std::size_t>(id) < types_.size();
  }
  bool is_control(TokenId id) const {
    const TokenType type = types_[static_cast<std::size_t>(id)];
    return type == TokenType::kControl || type == TokenType::kUnknown;
  }
  std::span<const TokenType> types() const { return types_; }

  /// The bytes that `id` stands for; of a control token, its name.
  std::string_view bytes(TokenId id) const {
    const auto i = static_cast<std::size_t>(id);
    return std::string_view(blob_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
  }

  /// The control token called `name`, or -1.
  TokenId find_control(std::string_view name) const;

  /// The longest control token that `text` begins with, or -1.
  TokenId match_control(std::string_view text) const;

  /// Whether SentencePiece gives the same ids when a text is cut in front of a run of newlines and
  /// the parts encoded one by one: `\n` is user-defined, so no merge passes it, and no user-defined
  /// piece holds one behind anything else.
  bool newlines_cut = false;

  TokenId bos = -1;
  TokenId eos = -1;
  TokenId start_of_turn = -1;
  TokenId end_of_turn = -1;
  TokenId start_of_image = -1;
  TokenId end_of_image = -1;
  TokenId image_token = -1;
  std::vector<TokenId> stop_ids;
  std::vector<std::string> warnings;
  std::size_t longest_piece = 0;  // Bytes.

 private:
  friend Vocabulary read_vocabulary(const WeightSource& source, Pieces& pieces,
                                    const std::atomic<bool>* cancel, std::uint64_t held);
  struct Hash {  // Looks up views without making strings of them.
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };
  void add(const Pieces& pieces);
  void find_specials(const WeightSource& source);

  void add_control(std::string_view name, TokenType type);

  TokenId size_ = 0;
  PagedString blob_;                    // Decoded bytes of all ids, one after the other.
  PagedVector<std::uint32_t> offsets_;  // [size + 1] into blob_.
  PagedVector<TokenType> types_;
  std::unordered_map<std::string, TokenId, Hash, std::equal_to<>> control_ids_;
  std::vector<std::size_t> control_lengths_;  // Lengths that control tokens have, longest first.
  std::bitset<256> control_starts_;           // Bytes that one begins with.
};

/// Reads and checks it. Throws Error(kFile) naming the key when something is missing, ragged,
/// duplicate or out of range, or when a tokenizer of it would, beside `held` bytes of the same
/// files, take more than twice the files and 64 MiB; Error(kInterrupted) once `cancel` is set.
Vocabulary read_vocabulary(const WeightSource& source, Pieces& pieces,
                           const std::atomic<bool>* cancel = nullptr, std::uint64_t held = 0);

}  // namespace lapidary
