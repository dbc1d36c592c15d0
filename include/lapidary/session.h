#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lapidary/export.h"
#include "lapidary/image_encoder.h"
#include "lapidary/model.h"
#include "lapidary/prompt.h"
#include "lapidary/sampling.h"
#include "lapidary/score.h"
#include "lapidary/stats.h"

namespace lapidary {

/// How a session computes, and what it may take.
struct SessionOptions {
  int context = 0;  ///< Tokens, up to 268,435,456; 0: the smaller of what the model was trained for
                    ///< and 32,768.
  int chunk = 512;  ///< Tokens of a prompt that are computed together. Changes speed and memory,
                    ///< never a bit.
  int threads = 0;  ///< 0: physical cores within the cgroup's quota and affinity.
  std::uint64_t memory_limit =
      0;  ///< Bytes for weights, KV cache and buffers; 0: what the machine has available.
  /// A smaller model of the same vocabulary that drafts tokens for this one. It reads every prompt
  /// as well, pictures left out. Changes speed and memory, never a bit.
  std::optional<Model> draft = {};
  KvType kv = KvType::kBf16;  ///< How its keys and values are kept.
  bool reuse = false;  ///< Keep, as far as the memory of the context has room, what was computed up
                       ///< to the ends of prompts and to a clear(), for prompts that begin alike.
                       ///< Changes speed, never a bit.
  /// Bytes that snapshots for rewind() may take, of which each holds the windows of the local
  /// layers in front of a position. Nothing: the larger of three of them and a tenth of the keys
  /// and values; 0: none. Taken as they are made; changes the speed of rewind(), never a bit.
  std::optional<std::uint64_t> snapshot_memory = {};
  int forks = 0;  ///< How many sessions that fork() makes of this one, and of those, memory is
                  ///< reserved for, up to 1024. A session of an Engine takes that of the engine.
  /// A folder where what was computed is kept for prompts that begin alike, of any process of this
  /// user; made where it is not there. Empty: none. A folder that cannot be used, or that others
  /// can write to, is none, as Session::prefix_cache() says. Read before a prompt is computed,
  /// written behind the answer. Changes speed, never a bit. A session of an Engine has the
  /// engine's.
  std::string prefix_cache = {};
  std::uint64_t prefix_cache_size =
      0;  ///< Most bytes that the folder may take, the longest unused dropped first; 0: the smaller
          ///< of 10 GiB and a tenth of what the disk has free.
};

/// What a process takes at most that loads a model and has one session of it, in bytes. The pages
/// of the KV cache are taken as the context fills.
struct MemoryPlan {
  std::uint64_t weights = 0;     ///< Packed.
  std::uint64_t vocabulary = 0;  ///< The tokenizer.
  std::uint64_t vision = 0;      ///< Weights and buffers of the encoder.
  std::uint64_t kv = 0;          ///< Keys and values of the whole context.
  std::uint64_t buffers = 0;     ///< Of the session: a chunk of a prompt, logits, the sampler.
  std::uint64_t process = 0;     ///< The program itself, and reading the file.

  /// The sum of all.
  std::uint64_t total() const { return weights + vocabulary + vision + kv + buffers + process; }
};

/// Reads headers only: of `path`, and of `model.vision` where that is given. A draft model is not
/// counted. Throws Error(kFile) as Model::load does, Error(kUsage) as Session does for options out
/// of range. May be called from any thread.
LAPIDARY_API MemoryPlan plan_memory(const std::string& path, const ModelOptions& model = {},
                                    const SessionOptions& session = {});

/// Whether the next tokens are guessed and several of them verified in one pass. What is drawn is
/// the same bits in every case: a guess counts only when it is the token that the sampler draws.
enum class Speculation {
  kAuto,    ///< Where measured costs and past guesses say that it pays.
  kOff,     ///< Never.
  kAlways,  ///< Whenever there is something to guess from, at whatever cost; for measurements.
};

/// Why a generation has ended.
enum class FinishReason {
  kStop,       ///< A stop id or stop string.
  kLength,     ///< max_tokens, or the context is full.
  kCancelled,  ///< `cancel` was set.
};

/// How much is drawn, how, and what ends it.
struct GenerateOptions {
  int max_tokens = -1;            ///< -1: until a stop id or the context is full.
  SamplingOptions sampling = {};  ///< How an id is drawn.
  std::vector<std::string> stop =
      {};  ///< Texts that end the generation; they may span tokens and are not returned.
  const std::atomic<bool>* cancel =
      nullptr;  ///< Set from elsewhere (a signal handler) to stop a prompt within some
                ///< milliseconds, and the drawing after the current token.
  Speculation speculation = Speculation::kAuto;  ///< Changes speed alone.
  int max_draft = 8;                             ///< Most tokens guessed at a time, 1 to 8.
  int logprobs = -1;  ///< 0 to kMostLogprobs: Completion::logprobs, with so many of the most
                      ///< probable ids each. What is drawn stays the same; nothing is guessed then,
                      ///< and all logits are computed. -1: none.
};

/// What was drawn.
struct Completion {
  std::string text;          ///< Of `ids`, up to a stop string; UTF-8 as far as the model draws it.
  std::vector<TokenId> ids;  ///< Everything drawn, the stop id included.
  FinishReason finish_reason = FinishReason::kLength;  ///< Why it has ended.
  Usage usage;                                         ///< What it cost.
  std::vector<TokenLogprob> logprobs = {};  ///< Of each of `ids`, where they were asked for.
};

/// Gets each new piece of text, whole characters only, on the calling thread. Returning false
/// cancels. Must not call back into the session; what it throws ends the generation.
using OnText = std::function<bool(std::string_view piece)>;

/// What Session::load does with a file whose keys and values cannot be used: of another model, kind
/// of keys and values, or damaged.
enum class IfUnusable {
  kRefuse,     ///< Throws Error(kFile), and leaves the session as it is.
  kRecompute,  ///< Computes them from the file's tokens where these are whole and mean the same to
               ///< the session's model.
};

/// What Session::load has found.
struct Loaded {
  std::string note;    ///< What was given to save().
  int recomputed = 0;  ///< Tokens whose keys and values could not be used.
};

class Engine;
class Reply;

/// One sequence of tokens with its KV cache. Belongs to one thread at a time, and to the process
/// that made it; the model may be shared by both. A call while another one is under way (on another
/// thread, or around a callback), and any in the child of a fork, throws Error(kUsage); what only
/// tells about the session (ids, position, …) is not checked so. An empty one, as made without
/// arguments or moved from, can be assigned to and tested; every other use throws Error(kUsage).
///
/// What a callback throws ends the call, as an interruption does, and passes unchanged.
class LAPIDARY_API Session {
 public:
  Session() noexcept;  ///< An empty one.

  /// Reserves all memory that the context will need and checks it against the budget. The features
  /// of pictures (ImageFeatures::values) are held as long as they are part of it.
  /// Throws Error(kMemory) with the bytes needed, Error(kUsage) for options out of range or a draft
  /// model of another vocabulary, Error(kFailed) when not as many threads can be made as asked.
  explicit Session(const Model& model, const SessionOptions& options = {});

  /// One that shares the threads, buffers and memory of `engine`. `options.context` 0: the
  /// engine's; `threads`, `memory_limit` and `kv` must be left as they are. Throws Error(kMemory)
  /// with both numbers when the engine's memory of keys and values has no room for the context,
  /// Error(kUsage) for options out of range.
  explicit Session(const Engine& engine, const SessionOptions& options = {});
  ~Session();
  Session(Session&&) noexcept;             ///< Leaves an empty one.
  Session& operator=(Session&&) noexcept;  ///< Leaves an empty one; frees what was there.

  /// Whether this is a session, not an empty one.
  explicit operator bool() const noexcept { return impl_ != nullptr; }

  /// Computes `ids` behind what is there, in chunks. Afterwards `logits()` are those of the last
  /// id. Nothing is computed when they do not fit: throws Error(kContext) with both numbers. Throws
  /// Error(kInterrupted) some milliseconds after `cancel` is set (whole chunks that were computed
  /// stay; behind a picture, after the current chunk),
  /// Error(kUsage) for ids outside the vocabulary.
  void append(std::span<const TokenId> ids, const Progress& progress = {},
              const std::atomic<bool>* cancel = nullptr);

  /// The same with pictures: an image's tokens see each other, and a chunk never ends within them.
  /// Throws Error(kUsage) when ids and images do not agree.
  void append(const Prompt& prompt, const Progress& progress = {},
              const std::atomic<bool>* cancel = nullptr);

  /// As append, and hands out the logits of every position in order. The span holds
  /// vocabulary_size() floats, valid during the call. Throws as append does, and Error(kUsage)
  /// without a function.
  void append_with_logits(
      std::span<const TokenId> ids,
      const std::function<void(int position, std::span<const float> logits)>& on_logits,
      const std::atomic<bool>* cancel = nullptr);

  /// The same with pictures, whose positions have logits too.
  void append_with_logits(
      const Prompt& prompt,
      const std::function<void(int position, std::span<const float> logits)>& on_logits,
      const std::atomic<bool>* cancel = nullptr);

  /// Next-token logits after the last id, ModelInfo::vocabulary floats, computed when first asked
  /// for; empty before the first id.
  /// Valid until the session, or another of its engine, is next used.
  std::span<const float> logits();

  /// Draws the id that would follow, as generate() draws it, and does not add it. Throws
  /// Error(kUsage) when the session is empty, and for options out of range; Error(kFailed) when no
  /// logit is a number.
  TokenId draw(const SamplingOptions& options);

  /// What drawing read of the output matrix so far, by all sessions of the engine.
  HeadStats head_stats() const;

  /// Draws tokens behind what is there until a stop. Throws as draw() does; a cancel is no error,
  /// but a FinishReason.
  /// A stop id is drawn but not part of the session; every other drawn token is in it afterwards
  /// (the last one is computed with what is appended next, or when its logits are asked for).
  Completion generate(const GenerateOptions& options, const OnText& on_text = {});

  /// How probable each of `continuations` is behind what is there, whose keys and values are shared
  /// by all; what add_user left waiting is not looked at. Several are computed in one pass, as far
  /// as chunk and memory go, with the bits of each alone. The session is afterwards as it was,
  /// however this ends. What fits into a chunk (of a shared engine: a pass), and one token more,
  /// can always be scored; a longer one also needs memory beside the session's own, which a context
  /// that is nearly full may not leave: Error(kMemory) then, with both numbers, before anything is
  /// computed. Throws Error(kUsage) for an empty session, for no continuation or more than
  /// kMostContinuations, for an empty one and for ids outside the vocabulary; Error(kContext) for
  /// one that does not fit; Error(kInterrupted) some milliseconds after `cancel` is set;
  /// Error(kFailed) when no logit is a number.
  std::vector<Score> score(std::span<const std::vector<TokenId>> continuations,
                           const std::atomic<bool>* cancel = nullptr);

  /// Adds a user turn in the model's turns() (opened with BOS, and with `system` in front, when it
  /// is the first), not computed until the reply. Closes the model's turn before it where that is
  /// open. Nothing is added when it throws: Error(kInterrupted) some milliseconds after `cancel` is
  /// set, Error(kUsage) when the vocabulary has no tokens for Gemma's turns; also for those below.
  void add_user(std::string_view text, std::string_view system = {},
                const std::atomic<bool>* cancel = nullptr);

  /// The same with pictures in front of the text. They are encoded here, with the session's
  /// threads: throws as ImageEncoder and its encode() do too, Error(kUsage) for a model without a
  /// vision file.
  void add_user(std::string_view text, const std::vector<Image>& images,
                std::string_view system = {}, const ImageOptions& options = {},
                const std::atomic<bool>* cancel = nullptr);

  /// The same with text and pictures in any order.
  void add_user(std::span<const ContentPart> parts, std::string_view system = {},
                const std::atomic<bool>* cancel = nullptr);

  /// Computes what add_user left; the reply is then drawn piece by piece, as the range is read:
  /// `for (std::string_view piece : chat.reply()) …`. Throws as append() and generate() do, and so
  /// do the steps of its iterators. A message that does not fit (Error(kContext)) is dropped. A
  /// cancel before the first piece is an Error(kInterrupted): what was computed stays, and the next
  /// reply computes the rest. A later one is a FinishReason.
  Reply reply(const GenerateOptions& options = {});

  /// The same in one call, with progress of the prefill. Throws as reply().
  Completion reply_to_end(const GenerateOptions& options, const OnText& on_text = {},
                          const Progress& progress = {});

  /// Goes back to the first `position` ids, pictures included, wherever that is, and returns how
  /// many tokens the next call that computes has to compute again: of these the bits are those of a
  /// fresh session. They are few near a snapshot (SessionOptions::snapshot_memory), near the end,
  /// and otherwise at most the layers' windows one after the other (docs/numerics.md). Users' turns
  /// that wait for a reply are dropped. Nothing is done at or beyond the end. Throws Error(kUsage)
  /// for a negative position and for one within a picture.
  int rewind(int position);

  /// Pins a snapshot at the end of what is there (and computed, but for a last id that was drawn):
  /// where many rewinds will go, the end of a system text say. It is dropped last, and by a rewind
  /// in front of it.
  void pin();

  /// Another session with the same tokens, which shares the keys and values up to here and goes its
  /// own way from here on, with the same options and on the same threads. Takes less than a
  /// millisecond for most. Both may be used from different threads, which take turns. Throws
  /// Error(kMemory) with both numbers when there is no room for another context, Error(kUsage) for
  /// a session that has made an engine of its own without SessionOptions::forks.
  Session fork();

  /// Writes tokens, keys and values, snapshots and pictures' features to `path`, by way of another
  /// name that is renamed when all is on the disk: whatever happens, the old file or the new one is
  /// there. `note` is kept with it; turns that wait for a reply are not. Throws Error(kFile), also
  /// where `path` is a link; Error(kUsage) for a note over 64 MiB, Error(kInterrupted) as append().
  void save(const std::string& path, std::string_view note = {},
            const std::atomic<bool>* cancel = nullptr);

  /// Takes what save() wrote, in place of what is there: the session is as the saved one was, to
  /// the bit, whatever context, chunk and threads either has. Throws Error(kFile) for what is no
  /// such file, and as `otherwise` says; Error(kContext) when it does not fit; as append() does
  /// where it computes: then the session is empty. Error(kUsage) for pictures without vision file.
  Loaded load(const std::string& path, IfUnusable otherwise = IfUnusable::kRefuse,
              const Progress& progress = {}, const std::atomic<bool>* cancel = nullptr);

  /// The sequence: everything appended and drawn, stop ids left out. Valid until the session is
  /// next used. This and the next five throw Error(kUsage) when it is empty, and nothing else.
  std::span<const TokenId> ids() const;
  /// What the image tokens among ids() stand for, in their order. Valid as ids() is.
  std::span<const ImageFeatures> images() const;
  int position() const;                ///< ids().size()
  int context() const;                 ///< Most tokens that fit.
  int threads() const;                 ///< That compute, the calling one included.
  std::uint64_t memory_bytes() const;  ///< KV cache and buffers of this session, all of it.
  void clear();                        ///< Forgets everything; keeps the memory.

  /// What the prefix cache on disk did so far, for all sessions of the engine.
  PrefixCacheStats prefix_cache() const;

  const Model& model() const;  ///< As long as the session is there.

 private:
  friend class Reply;
  friend LAPIDARY_API void append_together(std::span<Session* const> sessions,
                                           std::span<const TokenId> ids);
  friend LAPIDARY_API void append_made_up(Session& session, int count);
  class LAPIDARY_NO_EXPORT Impl;
  explicit Session(std::unique_ptr<Impl> impl) noexcept;
  Impl& impl() const;

  std::unique_ptr<Impl> impl_;
};

/// A reply as a range of text pieces, drawn as it is read. The session must outlive it and not be
/// used meanwhile; it may be moved. Moving a reply leaves its iterators behind. An empty one, as
/// made without arguments or moved from, can be assigned to and tested; every other use throws
/// Error(kUsage).
class LAPIDARY_API Reply {
 public:
  /// An input iterator over the pieces, whole characters each; the end is one without a reply.
  class LAPIDARY_API iterator {
   public:
    /// @cond What iterators have to have.
    using iterator_category = std::input_iterator_tag;
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using pointer = const std::string_view*;
    using reference = std::string_view;

    iterator() = default;
    explicit iterator(Reply* reply) : reply_(reply) {}
    void operator++(int) { ++*this; }
    bool operator==(const iterator& other) const { return reply_ == other.reply_; }
    /// @endcond

    /// Valid until the next ++.
    std::string_view operator*() const { return reply_->piece_; }

    /// Draws the next piece. Throws as Session::generate does.
    iterator& operator++();

   private:
    Reply* reply_ = nullptr;
  };

  iterator begin();              ///< Draws the first piece. Throws as Session::generate does.
  iterator end() { return {}; }  ///< The end of the range.

  /// What was drawn so far; complete once the range has ended.
  const Completion& completion() const;

  Reply() noexcept;  ///< An empty one.
  ~Reply();
  Reply(Reply&&) noexcept;             ///< Leaves an empty one.
  Reply& operator=(Reply&&) noexcept;  ///< Leaves an empty one.

  /// Whether this is a reply, not an empty one.
  explicit operator bool() const noexcept { return state_ != nullptr; }

 private:
  friend class Session;
  class LAPIDARY_NO_EXPORT State;
  explicit Reply(std::unique_ptr<State> state);
  bool next();

  std::unique_ptr<State> state_;
  std::string_view piece_;
};

/// Most sessions that can go on together.
inline constexpr int kMostTogether = 64;

/// Adds ids[i] to sessions[i], all in one pass over the weights, which takes little longer than one
/// id alone. Every session is then as after its own append(), with the same bits, and has its
/// logits. The threads of sessions[0] do the work; all sessions are in use meanwhile. Throws
/// Error(kUsage) for an id outside the vocabulary, for no session or more than kMostTogether or
/// than sessions[0] has tokens in a chunk, for one that is there twice, and for different models;
/// Error(kContext) when one has no room.
LAPIDARY_API void append_together(std::span<Session* const> sessions, std::span<const TokenId> ids);

/// For measurements at depths that would take hours to compute: adds `count` tokens whose keys and
/// values are random numbers, but for the last, which is computed. What follows takes as long and
/// as much memory as behind a prompt of so many tokens, and means nothing. Throws as append() does,
/// Error(kUsage) for a session that shares an engine or has a draft model.
LAPIDARY_API void append_made_up(Session& session, int count);

}  // namespace lapidary
