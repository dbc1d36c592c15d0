#include "base/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "base/format.h"
#include "base/limits.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kMaxBytes = std::numeric_limits<std::size_t>::max() / 4;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

/// What is mapped for a buffer of `bytes`: whole huge pages, unless it is smaller than one.
std::size_t mapped_bytes(std::size_t bytes) {
  static const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return round_up(bytes, bytes < kHugePage ? page : kHugePage);
}

[[noreturn]] void throw_no_memory(std::size_t bytes) {
  throw Error(ErrorCode::kMemory, format("cannot reserve {} bytes of memory", bytes));
}

}  // namespace

HugeBuffer::HugeBuffer(std::size_t bytes, Pages pages) {
  if (bytes == 0) return;
  if (bytes > kMaxBytes) throw_no_memory(bytes);
  const std::size_t wanted = mapped_bytes(bytes);
  // One huge page more, so that an aligned place can be cut out.
  const std::size_t reserved = wanted + kHugePage;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
  flags |= MAP_NORESERVE;  // The caller checks budgets; what is never touched must not count.
#endif
  void* const mapping = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapping == MAP_FAILED) throw_no_memory(bytes);
  std::byte* const start = static_cast<std::byte*>(mapping);
  const std::size_t head =
      (kHugePage - reinterpret_cast<std::uintptr_t>(mapping) % kHugePage) % kHugePage;
  if (head > 0) ::munmap(start, head);
  const std::size_t tail = reserved - head - wanted;
  if (tail > 0) ::munmap(start + head + wanted, tail);
  data_ = start + head;
  size_ = bytes;
#ifdef MADV_HUGEPAGE
  const bool huge = pages == Pages::kHuge && bytes >= kHugePage;
  ::madvise(data_, wanted, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);  // Refused: either does.
#else
  static_cast<void>(pages);
#endif
}

HugeBuffer::~HugeBuffer() {
  if (data_ != nullptr) ::munmap(data_, mapped_bytes(size_));
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::byte* Arena::allocate(std::size_t bytes) {
  const std::size_t left = buffer_.size() - std::min(used_, buffer_.size());
  if (bytes > left) {
    throw Error(ErrorCode::kMemory, format("an arena of {} bytes has {} left, {} were asked for",
                                           buffer_.size(), left, bytes));
  }
  std::byte* const piece = buffer_.data() + used_;
  used_ += planned(bytes);
  return piece;
}

std::uint64_t available_memory() {
  std::uint64_t available = 0;
  if (const auto system = system_memory_available()) {
    available = *system;
  } else {
    available = static_cast<std::uint64_t>(std::max(0L, sysconf(_SC_PHYS_PAGES))) *
                static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  }
  return std::min(available, cgroup_memory_left().value_or(available));
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1023.95 && unit < 4; ++unit) value /= 1024;
  return unit == 0 ? format("{} B", bytes) : format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace lapidary
