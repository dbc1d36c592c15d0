#include "lapidary/session.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "runtime/generation.h"
#include "runtime/model_impl.h"
#include "runtime/prompt_images.h"
#include "runtime/session_impl.h"
#include "runtime/speculator.h"
#include "text/chat_template.h"

namespace lapidary {

Session::Impl::Impl(const Model& shared, const SessionOptions& options)
    : Sequence(shared, options), own_engine_(true) {
  add_draft(options);
}

Session::Impl::Impl(const std::shared_ptr<EngineCore>& core, const SessionOptions& options)
    : Sequence(core, plan_shared(core->model.impl().config, core->plan, options)),
      own_engine_(false) {
  add_draft(options);
}

Session::Impl::Impl(Fork fork, const Impl& other)
    : Sequence(fork, other), own_engine_(false), queue_(other.queue_) {}

void Session::Impl::add_draft(const SessionOptions& options) {
  if (options.draft) speculator = std::make_unique<Speculator>(engine->model, plan, options);
}

std::uint64_t Session::Impl::memory_bytes() const {
  return plan.own_bytes + (own_engine_ ? engine->plan.bytes() : plan.kv_bytes);
}

void Session::Impl::add_user(std::span<const ContentPart> parts, std::string_view system,
                             const std::atomic<bool>* cancel) {
  const Model& model = engine->model;
  std::vector<TokenId> before = ids;
  before.insert(before.end(), queue_.ids.begin(), queue_.ids.end());
  const Prompt turn =
      user_turn(model.tokenizer(), parts, system, before, model.info().turns(), cancel);
  queue_.ids.reserve(queue_.ids.size() + turn.ids.size());
  queue_.images.reserve(queue_.images.size() + turn.images.size());
  queue_.ids.insert(queue_.ids.end(), turn.ids.begin(), turn.ids.end());
  queue_.images.insert(queue_.images.end(), turn.images.begin(), turn.images.end());
}

GenerateOptions Session::Impl::reply_options(GenerateOptions options) const {
  std::ranges::move(turn_stops(engine->model.tokenizer(), engine->model.info().turns()),
                    std::back_inserter(options.stop));
  return options;
}

void Session::Impl::append_queue(const Progress& progress, const std::atomic<bool>* cancel) {
  const std::size_t before = ids.size();
  const auto keep_rest = [&] {
    drop_front(queue_, ids.size() - before, engine->model.tokenizer().image_token());
  };
  try {
    append(queue_.ids, queue_.images, progress, cancel);
    queue_ = {};
  } catch (const HostException&) {
    keep_rest();
    throw;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInterrupted) {
      keep_rest();
    } else {
      queue_ = {};
    }
    throw;
  } catch (...) {
    queue_ = {};
    throw;
  }
}

Session::Impl::~Impl() { engine->write_places(); }

void Session::Impl::clear() {
  engine->write_places();
  Sequence::clear();
  queue_ = {};
}

Session::Session() noexcept = default;
Session::Session(const Model& model, const SessionOptions& options)
    : impl_(at_boundary([&] { return std::make_unique<Impl>(model, options); })) {}
Session::Session(const Engine& engine, const SessionOptions& options)
    : impl_(at_boundary([&] { return std::make_unique<Impl>(engine.core(), options); })) {}
Session::Session(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Session::Impl& Session::impl() const {
  if (impl_ == nullptr) at_boundary([] { throw_empty(Impl::kName); });
  return *impl_;
}

void Session::append(std::span<const TokenId> ids, const Progress& progress,
                     const std::atomic<bool>* cancel) {
  use(impl_.get(), Impl::kName, [&](Impl& own) { own.append(ids, {}, progress, cancel); });
}

void Session::append(const Prompt& prompt, const Progress& progress,
                     const std::atomic<bool>* cancel) {
  use(impl_.get(), Impl::kName,
      [&](Impl& own) { own.append(prompt.ids, prompt.images, progress, cancel); });
}

void Session::append_with_logits(std::span<const TokenId> ids,
                                 const std::function<void(int, std::span<const float>)>& on_logits,
                                 const std::atomic<bool>* cancel) {
  use(impl_.get(), Impl::kName,
      [&](Impl& own) { own.append_with_logits(ids, {}, on_logits, cancel); });
}

void Session::append_with_logits(const Prompt& prompt,
                                 const std::function<void(int, std::span<const float>)>& on_logits,
                                 const std::atomic<bool>* cancel) {
  use(impl_.get(), Impl::kName,
      [&](Impl& own) { own.append_with_logits(prompt.ids, prompt.images, on_logits, cancel); });
}

std::span<const float> Session::logits() {
  return use(impl_.get(), Impl::kName, [](Impl& own) { return own.logits(); });
}

TokenId Session::draw(const SamplingOptions& options) {
  return use(impl_.get(), Impl::kName, [&](Impl& own) {
    validate(options);
    if (own.ids.empty())
      throw Error(ErrorCode::kUsage, "nothing to draw from: the session is empty");
    return own.draw(options);
  });
}

Completion Session::generate(const GenerateOptions& options, const OnText& on_text) {
  return use(impl_.get(), Impl::kName,
             [&](Impl& own) { return Generation(own, options).run(on_text); });
}

Completion Session::reply_to_end(const GenerateOptions& options, const OnText& on_text,
                                 const Progress& progress) {
  return use(impl_.get(), Impl::kName, [&](Impl& own) {
    Generation::check(options);  // Before the prefill, which may take long.
    own.append_queue(progress, options.cancel);
    return Generation(own, own.reply_options(options)).run(on_text);
  });
}

HeadStats Session::head_stats() const {
  return at_boundary([&] {
    const Turn turn(*impl().engine);
    return impl().engine->decoder.head_stats();
  });
}

void Session::add_user(std::string_view text, std::string_view system,
                       const std::atomic<bool>* cancel) {
  use(impl_.get(), Impl::kName, [&](Impl& own) {
    const ContentPart part{std::string(text)};
    own.add_user({&part, 1}, system, cancel);
  });
}

void Session::add_user(std::string_view text, const std::vector<Image>& images,
                       std::string_view system, const ImageOptions& options,
                       const std::atomic<bool>* cancel) {
  use(impl_.get(), Impl::kName, [&](Impl& own) {
    ImageEncoder encoder(own.engine->model, {.threads = own.engine->team.threads(),
                                             .memory_limit = own.engine->plan.memory_limit,
                                             .held_bytes = own.memory_bytes()});
    std::vector<ContentPart> parts;
    parts.reserve(images.size() + 1);
    for (const Image& image : images)
      parts.push_back({{}, encoder.encode(image, options, {}, cancel)});
    parts.push_back({std::string(text)});
    own.add_user(parts, system, cancel);
  });
}

void Session::add_user(std::span<const ContentPart> parts, std::string_view system,
                       const std::atomic<bool>* cancel) {
  use(impl_.get(), Impl::kName, [&](Impl& own) { own.add_user(parts, system, cancel); });
}

int Session::rewind(int position) {
  return use(impl_.get(), Impl::kName, [&](Impl& own) {
    if (position < 0)
      throw Error(ErrorCode::kUsage, format("a session cannot go back to position {}", position));
    own.rewind(static_cast<std::size_t>(position));
    own.drop_queue();
    return static_cast<int>(own.ids.size()) - own.computed;
  });
}

void Session::pin() {
  use(impl_.get(), Impl::kName, [](Impl& own) {
    const Turn turn(*own.engine);
    own.take_snapshot(SnapshotKind::kPinned);
  });
}

Session Session::fork() {
  return use(impl_.get(), Impl::kName, [](Impl& own) {
    if (!own.engine->plan.shared) {
      throw Error(ErrorCode::kUsage,
                  "the session has no room for forks: SessionOptions::forks reserves it, and "
                  "sessions of an Engine share its memory");
    }
    return Session(std::make_unique<Impl>(Sequence::Fork{}, own));
  });
}

std::span<const TokenId> Session::ids() const { return impl().ids; }
std::span<const ImageFeatures> Session::images() const { return impl().images(); }
int Session::position() const { return static_cast<int>(impl().ids.size()); }
int Session::context() const { return impl().plan.context; }
int Session::threads() const { return impl().engine->team.threads(); }
std::uint64_t Session::memory_bytes() const { return impl().memory_bytes(); }
void Session::clear() {
  use(impl_.get(), Impl::kName, [](Impl& own) { own.clear(); });
}
PrefixCacheStats Session::prefix_cache() const {
  return at_boundary([&] { return impl().engine->prefix_cache(); });
}
const Model& Session::model() const { return impl().engine->model; }

}  // namespace lapidary
