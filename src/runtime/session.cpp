#include "lapidary/session.h"

#include <string>

#include "base/boundary.h"
#include "lapidary/error.h"
#include "runtime/generation.h"
#include "runtime/session_impl.h"
#include "runtime/speculator.h"

namespace lapidary {

Session::Impl::Impl(const Model& shared, const SessionOptions& options)
    : Sequence(shared, options) {
  speculator = std::make_unique<Speculator>(model, plan, options);
}

Session::Session() noexcept = default;
Session::Session(const Model& model, const SessionOptions& options)
    : impl_(at_boundary([&] { return std::make_unique<Impl>(model, options); })) {}
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

std::span<const float> Session::logits() const {
  return use(impl_.get(), Impl::kName, [](Impl& own) { return own.logits(); });
}

TokenId Session::draw(const SamplingOptions& options) const {
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

HeadStats Session::head_stats() const { return impl().decoder.head_stats(); }

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
    ImageEncoder encoder(own.model, {.threads = own.team.threads(),
                                     .memory_limit = own.plan.memory_limit,
                                     .held_bytes = own.plan.bytes});
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

std::span<const TokenId> Session::ids() const { return impl().ids; }
int Session::position() const { return static_cast<int>(impl().ids.size()); }
int Session::context() const { return impl().plan.context; }
int Session::threads() const { return impl().team.threads(); }
std::uint64_t Session::memory_bytes() const { return impl().plan.bytes; }
void Session::clear() {
  use(impl_.get(), Impl::kName, [](Impl& own) { own.clear(); });
}
const Model& Session::model() const { return impl().model; }

}  // namespace lapidary
