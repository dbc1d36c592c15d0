#include <sentencepiece_processor.h>

#include <algorithm>
#include <future>
#include <system_error>
#include <utility>

#include "lapidary/error.h"
#include "text/model_proto.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace lapidary {
namespace {

using Processor = sentencepiece::SentencePieceProcessor;

/// Takes the pieces with it: nothing of them is kept once SentencePiece has its own copy.
std::shared_ptr<const Processor> build_processor(std::shared_ptr<const Pieces> pieces,
                                                 const std::string& path) {
  const std::string proto = serialize_model_proto(*pieces);
  pieces.reset();
  auto processor = std::make_shared<Processor>();
  const auto status = processor->LoadFromSerializedProto(proto);
  if (!status.ok()) {
    throw Error(ErrorCode::kFile,
                path + ": tokenizer.ggml.tokens: SentencePiece refuses the vocabulary: " +
                    std::string(status.message()));
  }
  return processor;
}

std::shared_future<std::shared_ptr<const Processor>> start_building(Pieces pieces,
                                                                    const std::string& path) {
  auto build = [shared = std::make_shared<const Pieces>(std::move(pieces)), path]() mutable {
    return build_processor(std::exchange(shared, nullptr), path);
  };
  try {
    return std::async(std::launch::async, build).share();
  } catch (const std::system_error&) {  // No more threads: build it when it is asked for.
    return std::async(std::launch::deferred, std::move(build)).share();
  }
}

/// The first place at or behind `from` where a run of newlines begins, or the end of `text`.
std::size_t cut_at_newlines(std::string_view text, std::size_t from) {
  if (from >= text.size()) return text.size();
  if (text[from - 1] == '\n') from = std::min(text.find_first_not_of('\n', from), text.size());
  return std::min(text.find('\n', from), text.size());
}

}  // namespace

class Tokenizer::Impl {
 public:
  explicit Impl(const WeightSource& source) {
    Pieces pieces;
    vocabulary = read_vocabulary(source, pieces);
    processor_ = start_building(std::move(pieces), source.path());
  }

  const Processor& processor() const { return *processor_.get(); }

  /// Appends the ids of `text`, valid UTF-8 in which nothing is a control token. Long texts go to
  /// SentencePiece in parts: its queue of merges, as long as the text, leaves the caches otherwise.
  void encode_plain(std::string_view text, std::vector<TokenId>& ids) const {
    constexpr std::size_t kPart = 16 * 1024;
    std::vector<int> part_ids;
    while (!text.empty()) {
      const std::size_t cut = vocabulary.newlines_cut ? cut_at_newlines(text, kPart) : text.size();
      const auto status = processor().Encode(text.substr(0, cut), &part_ids);
      if (!status.ok())
        throw Error(ErrorCode::kFailed, std::string("SentencePiece: ") + status.message());
      ids.insert(ids.end(), part_ids.begin(), part_ids.end());
      text.remove_prefix(cut);
    }
  }

  Vocabulary vocabulary;

 private:
  std::shared_future<std::shared_ptr<const Processor>> processor_;
};

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool parse_control) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = replace_invalid_utf8(text);
    text = repaired;
  }
  std::vector<TokenId> ids;
  std::size_t begin = 0;
  for (std::size_t at = 0; parse_control && at < text.size();) {
    const TokenId control = impl_->vocabulary.match_control(text.substr(at));
    if (control < 0) {
      ++at;
      continue;
    }
    impl_->encode_plain(text.substr(begin, at - begin), ids);
    ids.push_back(control);
    at += impl_->vocabulary.bytes(control).size();
    begin = at;
  }
  impl_->encode_plain(text.substr(begin), ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool with_control) const {
  std::string text;
  for (const TokenId id : ids) {
    const std::string_view bytes = piece(id);
    text += with_control && is_control(id) ? impl_->vocabulary.bytes(id) : bytes;
  }
  return text;
}

std::string_view Tokenizer::piece(TokenId id) const {
  return is_control(id) ? std::string_view() : impl_->vocabulary.bytes(id);
}

bool Tokenizer::is_control(TokenId id) const {
  if (!impl_->vocabulary.contains(id)) {
    throw Error(ErrorCode::kUsage, "token id " + std::to_string(id) + ", expected 0 to " +
                                       std::to_string(vocabulary_size() - 1));
  }
  return impl_->vocabulary.is_control(id);
}

TokenId Tokenizer::vocabulary_size() const { return impl_->vocabulary.size(); }
TokenId Tokenizer::bos() const { return impl_->vocabulary.bos; }
TokenId Tokenizer::eos() const { return impl_->vocabulary.eos; }
TokenId Tokenizer::start_of_turn() const { return impl_->vocabulary.start_of_turn; }
TokenId Tokenizer::end_of_turn() const { return impl_->vocabulary.end_of_turn; }
TokenId Tokenizer::start_of_image() const { return impl_->vocabulary.start_of_image; }
TokenId Tokenizer::end_of_image() const { return impl_->vocabulary.end_of_image; }
TokenId Tokenizer::image_token() const { return impl_->vocabulary.image_token; }
std::span<const TokenId> Tokenizer::stop_ids() const { return impl_->vocabulary.stop_ids; }
const std::vector<std::string>& Tokenizer::warnings() const { return impl_->vocabulary.warnings; }

Tokenizer load_tokenizer(const WeightSource& source) {
  return Tokenizer(std::make_shared<const Tokenizer::Impl>(source));
}

void finish_loading(const Tokenizer& tokenizer) { tokenizer.impl().processor(); }

std::size_t Tokenizer::longest_piece() const { return impl_->vocabulary.longest_piece; }

}  // namespace lapidary
