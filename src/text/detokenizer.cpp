#include "base/boundary.h"
#include "lapidary/tokenizer.h"
#include "lapidary/utf8.h"
#include "text/tokenizer_impl.h"

namespace lapidary {

Detokenizer::Detokenizer(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {
  constexpr std::size_t kHeldBack = 3;
  at_boundary([&] { buffer_.reserve(tokenizer_.longest_piece() + kHeldBack); });
}

std::string_view Detokenizer::push(TokenId id) {
  const std::string_view bytes = tokenizer_.piece(id);
  buffer_.erase(0, out_);
  buffer_ += bytes;  // Within what is reserved.
  out_ = buffer_.size() - incomplete_utf8_suffix(buffer_);
  return std::string_view(buffer_).substr(0, out_);
}

std::string_view Detokenizer::finish() {
  buffer_.erase(0, out_);
  out_ = buffer_.size();
  return buffer_;
}

}  // namespace lapidary
