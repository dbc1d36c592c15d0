// Law 5: no allocation and no mutex per token. Both are counted by taking the place of operator new
// and of pthread_mutex_lock in this executable.

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "model_fixture.h"
#include "test_data.h"

namespace {

// Not inlined below: GCC would warn of free() on what new gave.
std::atomic<bool> counting{false};
std::atomic<long> allocations{0};
std::atomic<long> locks{0};

void* counted_allocation(std::size_t bytes, std::size_t alignment) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1);
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

constexpr std::size_t kDefaultAlignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return counted_allocation(bytes, kDefaultAlignment);
}
[[gnu::noinline]] void* operator new[](std::size_t bytes) {
  return counted_allocation(bytes, kDefaultAlignment);
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted_allocation(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return counted_allocation(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return counted_allocation(bytes, kDefaultAlignment);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
[[gnu::noinline]] void* operator new[](std::size_t bytes, const std::nothrow_t& tag) noexcept {
  return operator new(bytes, tag);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

// The sanitizers take its place themselves.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LAPIDARY_COUNTS_LOCKS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LAPIDARY_COUNTS_LOCKS 0
#endif
#endif
#ifndef LAPIDARY_COUNTS_LOCKS
#define LAPIDARY_COUNTS_LOCKS 1
#endif

#if LAPIDARY_COUNTS_LOCKS
extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  using Lock = int (*)(pthread_mutex_t*);
  static const Lock lock = reinterpret_cast<Lock>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (counting.load(std::memory_order_relaxed)) locks.fetch_add(1);
  return lock(mutex);
}
#endif

namespace lapidary::testing {
namespace {

// Counts from the second piece of text to the last but two.
void expect_nothing_taken(const Model& model, std::span<const TokenId> prompt,
                          const SamplingOptions& sampling, bool drafts) {
  SessionOptions wanted{.context = 512, .threads = 2};
  if (drafts) wanted.draft = model;
  Session session(model, wanted);
  session.append(prompt);
  GenerateOptions options{.max_tokens = 64,
                          .sampling = sampling,
                          .stop = {"no such text \x01"},
                          .speculation = drafts ? Speculation::kAlways : Speculation::kAuto};
  int pieces = 0;
  const auto on_text = [&](std::string_view) {
    ++pieces;
    counting = pieces >= 2 && pieces < 20;
    return true;
  };
  allocations = 0;
  locks = 0;
  session.generate(options, on_text);
  counting = false;
  ASSERT_GE(pieces, 20) << "the generation was too short to count";
  EXPECT_EQ(allocations, 0) << "in " << pieces << " pieces";
  EXPECT_EQ(locks, 0) << "in " << pieces << " pieces";
}

SamplingOptions sampling_without_stop(const Model& model, std::span<const TokenId> prompt,
                                      SamplingOptions sampling) {
  for (sampling.seed = 1; sampling.seed < 200; ++sampling.seed) {
    Session session(model, {.context = 512, .threads = 1});
    session.append(prompt);
    int pieces = 0;
    session.generate({.max_tokens = 64, .sampling = sampling}, [&](std::string_view) {
      ++pieces;
      return true;
    });
    if (pieces >= 20 || sampling.temperature == 0) break;
  }
  return sampling;
}

void check_model(const Model& model, std::span<const TokenId> prompt) {
  for (const SamplingOptions& sampling :
       {SamplingOptions{}, SamplingOptions{.repeat_penalty = 1.1F},
        SamplingOptions{.top_k = 0, .top_p = 1.0F, .min_p = 0.05F},
        SamplingOptions{.top_k = 0, .top_p = 0.9F}}) {
    const SamplingOptions seeded = sampling_without_stop(model, prompt, sampling);
    for (const bool drafts : {false, true}) expect_nothing_taken(model, prompt, seeded, drafts);
  }
}

TEST(Allocation, CountersSeeWhatIsTaken) {
  allocations = 0;
  locks = 0;
  counting = true;
  void* volatile memory = ::operator new(100);
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  counting = false;
  ::operator delete(memory);
  EXPECT_EQ(allocations, 1);
  EXPECT_EQ(locks, LAPIDARY_COUNTS_LOCKS);
}

TEST(Allocation, NonePerTokenOnTheTinyModel) {
  check_model(tiny_model(), std::span(tiny_ids()).first(30));
}

TEST(Allocation, NonePerTokenOnTheRealModel) {
  if (real_model_path() == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  const std::vector<TokenId> ids = golden_ids("gemma3-270m/text.jsonl", "botchan_700");
  check_model(real_model(), std::span(ids).first(100));
}

TEST(Allocation, NoneInAPrefillOfKnownLength) {
  Session session(tiny_model(), {.context = 512, .chunk = 64, .threads = 2, .snapshot_memory = 0});
  session.append(std::span(tiny_ids()).first(10));
  allocations = 0;
  locks = 0;
  counting = true;
  session.append(std::span(tiny_ids()).subspan(10));
  counting = false;
  EXPECT_EQ(allocations, 0);
  EXPECT_EQ(locks, 0);
}

TEST(Allocation, NoneInAPrefillWithPictures) {
  const Model model = Model::load(test_data("tiny-gemma3-text-bf16.gguf"),
                                  {.vision = test_data("tiny-gemma3-mmproj-f16.gguf")});
  Prompt prompt;
  for (int i = 0; i < 3; ++i) {
    prompt.ids.insert(prompt.ids.end(), tiny_ids().begin(), tiny_ids().begin() + 40);
    prompt.ids.insert(prompt.ids.end(), 256, model.tokenizer().image_token());
    prompt.images.push_back(
        {256, 64,
         std::make_shared<const std::vector<float>>(256 * 64, 0.1F * static_cast<float>(i))});
  }
  Session session(model, {.context = 1024, .chunk = 64, .threads = 2, .snapshot_memory = 0});
  session.append(std::span(tiny_ids()).first(10));
  allocations = 0;
  locks = 0;
  counting = true;
  session.append(prompt);
  counting = false;
  EXPECT_EQ(allocations, 0);
  EXPECT_EQ(locks, 0);
}

}  // namespace
}  // namespace lapidary::testing
