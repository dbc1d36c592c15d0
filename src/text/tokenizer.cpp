#include <sentencepiece_processor.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "base/background.h"
#include "base/boundary.h"
#include "base/cancel.h"
#include "base/format.h"
#include "base/paged.h"
#include "base/printable.h"
#include "lapidary/error.h"
#include "lapidary/utf8.h"
#include "text/cuts.h"
#include "text/tokenizer_impl.h"
#include "text/vocabulary.h"

namespace lapidary {
namespace {

using Processor = sentencepiece::SentencePieceProcessor;

/// Outlives a vocabulary. Malloc is told to give back what SentencePiece's half a million small
/// blocks leave in it (docs/decisions/0020-memory-goes-back.md).
class Trim {
 public:
  Trim() = default;
  ~Trim() { trim_malloc(); }
  Trim(const Trim&) = delete;
  Trim& operator=(const Trim&) = delete;

  /// On the thread that has built. Trimming leaves the upper end of each arena; a block of more
  /// than 64 KiB that is given back behind it makes glibc look at that of its own.
  void mark_arena() { mark_ = std::make_unique_for_overwrite<std::byte[]>(std::size_t{96} << 10); }

 private:
  std::unique_ptr<std::byte[]> mark_;
};

enum class Fate { kOpen, kKept, kGivenUp };

/// Everything that a build needs, and what becomes of it.
struct Build {
  Trim trim;  // The last to go.
  Pieces pieces;
  std::string where;

  std::atomic<bool> done{false};  // What follows is written before, and not again.
  std::unique_ptr<const Processor> processor;
  std::exception_ptr error;

  std::atomic<Fate> fate{Fate::kOpen};
  void decide(Fate as) {
    Fate open = Fate::kOpen;
    fate.compare_exchange_strong(open, as);
    fate.notify_all();
  }
};

/// Takes the pieces with it: nothing of them is kept once SentencePiece has its own copy.
std::unique_ptr<const Processor> build_processor(Build& build) {
  auto processor = std::make_unique<Processor>();
  const PagedString proto = serialize_model_proto(build.pieces);
  build.pieces = {};
  const auto status = processor->LoadFromSerializedProto(std::string_view(proto));
  if (!status.ok()) {
    throw Error(ErrorCode::kFile, build.where + ": SentencePiece refuses the vocabulary: " +
                                      printable_value(status.message()));
  }
  build.trim.mark_arena();
  return processor;
}

void run(Build& build) noexcept {
  try {
    build.processor = build_processor(build);
  } catch (...) {
    build.error = std::current_exception();
  }
  build.done.store(true, std::memory_order_release);
  build.done.notify_all();
}

/// On a thread of its own. Stays until the tokenizer is wanted or not: to take it down again takes
/// half as long as to build it, and whoever gives it up need not wait for that either.
void run_until_decided(Build& build) noexcept {
  run(build);
  build.fate.wait(Fate::kOpen);
  if (build.fate == Fate::kGivenUp) build.processor.reset();
}

}  // namespace

class Tokenizer::Impl {
 public:
  Impl(const WeightSource& source, const std::atomic<bool>* cancel, std::uint64_t held)
      : build_(std::make_shared<Build>()) {
    vocabulary = read_vocabulary(source, build_->pieces, cancel, held);
    build_->where = source.where(Key::kTokens);
    // No more threads: here and now.
    if (!builder_.start([build = build_] { run_until_decided(*build); })) run(*build_);
  }
  ~Impl() { build_->decide(Fate::kGivenUp); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  /// Waits for it where it is not built yet.
  const Processor& processor() const {
    build_->done.wait(false, std::memory_order_acquire);
    if (build_->error) std::rethrow_exception(build_->error);
    return *build_->processor;
  }

  void wait(const std::atomic<bool>* cancel) const {
    constexpr std::chrono::microseconds kLook(500);
    while (cancel != nullptr && !build_->done.load(std::memory_order_acquire)) {
      check_cancel(cancel, "building the tokenizer");
      std::this_thread::sleep_for(kLook);
    }
    build_->done.wait(false, std::memory_order_acquire);
    build_->decide(Fate::kKept);
    builder_.join();
    processor();  // Throws what the build threw, of which its thread has let go.
  }

  /// Appends the ids of `text`, valid UTF-8 in which nothing is a control token. Long texts go to
  /// SentencePiece in parts: its queue of merges, a hundred times as long as the text, leaves the
  /// caches otherwise, and then the memory.
  void encode_plain(std::string_view text, std::vector<TokenId>& ids,
                    const std::atomic<bool>* cancel) const {
    constexpr std::size_t kPart = 16 * 1024;
    const Processor& processor = this->processor();
    std::vector<int> part_ids;
    while (!text.empty()) {
      check_cancel(cancel, "tokenizing");
      const std::size_t cut = text.size() <= kPart ? text.size() : cuts().find(text, kPart);
      const auto status = processor.Encode(text.substr(0, cut), &part_ids);
      if (!status.ok())
        throw Error(ErrorCode::kFailed, "SentencePiece: " + printable_value(status.message()));
      ids.insert(ids.end(), part_ids.begin(), part_ids.end());
      text.remove_prefix(cut);
    }
  }

  // Goes last, and with it the last of the vocabulary.
  const std::shared_ptr<Build> build_;
  Vocabulary vocabulary;

 private:
  /// Made for the first long text: most programs have none, and it takes some milliseconds.
  const Cuts& cuts() const {
    std::call_once(cuts_made_, [this] {
      const std::span<const TokenType> types = vocabulary.types();
      PagedVector<std::string_view> texts(types.size());
      for (std::size_t i = 0; i < texts.size(); ++i)
        texts[i] = vocabulary.bytes(static_cast<TokenId>(i));
      cuts_.emplace(texts, types, vocabulary.newlines_cut);
    });
    return *cuts_;
  }

  mutable std::once_flag cuts_made_;
  mutable std::optional<const Cuts> cuts_;
  mutable Background builder_;  // Done with once loading has been waited for.
};

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

const Tokenizer::Impl& Tokenizer::impl() const {
  if (impl_ == nullptr) at_boundary([] { throw_empty("the tokenizer"); });
  return *impl_;
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool parse_control,
                                       const std::atomic<bool>* cancel) const {
  return at_boundary([&] {
    const Impl& own = impl();
    std::string repaired;
    if (find_invalid_utf8(text)) {
      repaired = replace_invalid_utf8(text);
      text = repaired;
    }
    std::vector<TokenId> ids;
    std::size_t begin = 0;
    for (std::size_t at = 0; parse_control && at < text.size();) {
      const TokenId control = own.vocabulary.match_control(text.substr(at));
      if (control < 0) {
        ++at;
        continue;
      }
      own.encode_plain(text.substr(begin, at - begin), ids, cancel);
      ids.push_back(control);
      at += own.vocabulary.bytes(control).size();
      begin = at;
    }
    own.encode_plain(text.substr(begin), ids, cancel);
    return ids;
  });
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool with_control) const {
  return at_boundary([&] {
    std::string text;
    for (const TokenId id : ids) {
      const std::string_view bytes = piece(id);
      text += with_control && is_control(id) ? impl_->vocabulary.bytes(id) : bytes;
    }
    return text;
  });
}

std::string_view Tokenizer::piece(TokenId id) const {
  return is_control(id) ? std::string_view() : impl_->vocabulary.bytes(id);
}

bool Tokenizer::is_control(TokenId id) const {
  const Vocabulary& vocabulary = impl().vocabulary;
  if (vocabulary.contains(id)) return vocabulary.is_control(id);
  return at_boundary([&]() -> bool {
    throw Error(ErrorCode::kUsage,
                format("token id {}, expected 0 to {}", id, vocabulary_size() - 1));
  });
}

TokenId Tokenizer::vocabulary_size() const { return impl().vocabulary.size(); }
TokenId Tokenizer::bos() const { return impl().vocabulary.bos; }
TokenId Tokenizer::eos() const { return impl().vocabulary.eos; }
TokenId Tokenizer::start_of_turn() const { return impl().vocabulary.start_of_turn; }
TokenId Tokenizer::end_of_turn() const { return impl().vocabulary.end_of_turn; }
TokenId Tokenizer::start_of_image() const { return impl().vocabulary.start_of_image; }
TokenId Tokenizer::end_of_image() const { return impl().vocabulary.end_of_image; }
TokenId Tokenizer::image_token() const { return impl().vocabulary.image_token; }
std::span<const TokenId> Tokenizer::stop_ids() const { return impl().vocabulary.stop_ids; }
const std::vector<std::string>& Tokenizer::warnings() const { return impl().vocabulary.warnings; }
std::size_t Tokenizer::longest_piece() const { return impl().vocabulary.longest_piece; }

Tokenizer load_tokenizer(const WeightSource& source, const std::atomic<bool>* cancel,
                         std::uint64_t held) {
  return Tokenizer(std::make_shared<const Tokenizer::Impl>(source, cancel, held));
}

void finish_loading(const Tokenizer& tokenizer, const std::atomic<bool>* cancel) {
  tokenizer.impl().wait(cancel);
}

}  // namespace lapidary
