#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/export.h"

namespace lapidary {

/// A row of the vocabulary, from 0.
using TokenId = std::int32_t;

/// The model's vocabulary: text to ids and back. SentencePiece BPE with byte fallback.
/// Immutable after construction; every method may be called from several threads at once. Cheap to
/// copy. An empty one, as made without arguments or moved from, can be assigned to and tested;
/// every other method throws Error(kUsage).
class LAPIDARY_API Tokenizer {
 public:
  class LAPIDARY_NO_EXPORT Impl;  ///< Of the library's own.

  Tokenizer() noexcept = default;                        ///< An empty one.
  explicit Tokenizer(std::shared_ptr<const Impl> impl);  ///< Of the library's own.

  /// Whether this is a vocabulary, not an empty one.
  explicit operator bool() const noexcept { return impl_ != nullptr; }

  /// Ids of `text`, without BOS. Control tokens written in the text are plain text unless
  /// `parse_control`, so that a user's text can forge neither a turn nor an image. Invalid UTF-8 is
  /// read as U+FFFD. Throws Error(kFailed) where SentencePiece fails, Error(kInterrupted) some
  /// milliseconds after `cancel` is set. A text goes to SentencePiece in parts with the same ids,
  /// which take little memory however long it is, unless no cut is found in it: one letter a
  /// million times over.
  std::vector<TokenId> encode(std::string_view text, bool parse_control = false,
                              const std::atomic<bool>* cancel = nullptr) const;

  /// The text of `ids`; control tokens give nothing unless `with_control`. A byte sequence that is
  /// no valid UTF-8 is returned as it is. Throws Error(kUsage) for an id outside the vocabulary.
  std::string decode(std::span<const TokenId> ids, bool with_control = false) const;

  /// The bytes that one id stands for (empty for control tokens); valid as long as the tokenizer.
  /// Allocates nothing. Throws Error(kUsage) for an id outside the vocabulary.
  std::string_view piece(TokenId id) const;

  /// Whether `id` stands for no text: `<bos>`, the marks of turns and pictures. Throws
  /// Error(kUsage) for an id outside the vocabulary.
  bool is_control(TokenId id) const;

  /// Bytes of the longest text that one id stands for: a text of n bytes has at least
  /// n / longest_piece() ids.
  std::size_t longest_piece() const;

  /// Tokens in the file. A file that knows images may have no row for `<image_soft_token>`: its id
  /// is then this number.
  TokenId vocabulary_size() const;

  TokenId bos() const;            ///< `<bos>`, first id of every sequence.
  TokenId eos() const;            ///< `<eos>`.
  TokenId start_of_turn() const;  ///< `<start_of_turn>`, or -1 when the vocabulary has none.
  TokenId end_of_turn() const;    ///< `<end_of_turn>`, or -1.

  TokenId start_of_image() const;  ///< `<start_of_image>`, or -1.
  TokenId end_of_image() const;    ///< `<end_of_image>`, or -1.
  TokenId image_token() const;     ///< `<image_soft_token>`, or -1: each stands for one soft token.

  /// The ids that end a generation: from metadata, and always `<eos>`, `<end_of_turn>` and
  /// `<|im_end|>`.
  std::span<const TokenId> stop_ids() const;

  /// One line for every repair of the file's token types that was needed; usually empty.
  const std::vector<std::string>& warnings() const;

  const Impl& impl() const;  ///< Of the library's own.

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Turns ids into text as they come, holding back bytes of a character that is not complete yet.
/// Allocates nothing after construction. Not thread-safe.
class LAPIDARY_API Detokenizer {
 public:
  /// Throws Error(kUsage) for an empty tokenizer, Error(kMemory).
  explicit Detokenizer(Tokenizer tokenizer);

  /// The text that became complete with `id`; may be empty. Valid until the next call. Throws
  /// Error(kUsage) for an id outside the vocabulary.
  std::string_view push(TokenId id);

  /// The bytes still held back at the end of a text: an incomplete character, or nothing.
  std::string_view finish();

 private:
  Tokenizer tokenizer_;
  std::string buffer_;   // Bytes handed out by the last call, then bytes held back.
  std::size_t out_ = 0;  // How many of them the last call handed out.
};

}  // namespace lapidary
