#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lapidary {

/// Huge pages read faster where all of a buffer is used; small ones take memory only for what is
/// touched.
enum class Pages { kHuge, kSmall };

/// Anonymous memory in huge pages where the system grants them. Zeroed; pages are taken when they
/// are first touched. Owned, movable.
class HugeBuffer {
 public:
  HugeBuffer() = default;
  explicit HugeBuffer(std::size_t bytes,
                      Pages pages = Pages::kHuge);  // Throws Error(kMemory) with the number.
  ~HugeBuffer();
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Hands out pieces of one HugeBuffer, 64-byte aligned, never back. A Layout counts first.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::size_t bytes, Pages pages = Pages::kHuge) : buffer_(bytes, pages) {}

  /// What a piece of `bytes` takes of an arena.
  static constexpr std::size_t planned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

  std::byte* allocate(std::size_t bytes);  // Throws Error(kMemory) when the arena is used up.

  std::size_t size() const { return buffer_.size(); }

 private:
  HugeBuffer buffer_;
  std::size_t used_ = 0;
};

/// "412.3 MiB", for messages: powers of 1024, as limits are given.
std::string format_bytes(std::uint64_t bytes);

/// Bytes that this process may still take: available memory, within the cgroup's limit.
std::uint64_t available_memory();

}  // namespace lapidary
