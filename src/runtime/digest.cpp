#include "runtime/digest.h"

#include <algorithm>
#include <vector>

#include "base/cancel.h"
#include "base/file.h"

namespace lapidary {
namespace {

constexpr std::size_t kReadBytes = std::size_t{4} << 20;

}  // namespace

Hasher& Hasher::bytes(std::span<const std::byte> data) {
  sha_.add(data.data(), data.size());
  return *this;
}

Hasher& Hasher::number(std::int64_t value) {
  std::byte little[8];
  for (std::size_t i = 0; i < 8; ++i)
    little[i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
  return bytes(little);
}

Hasher& Hasher::text(std::string_view value) {
  number(static_cast<std::int64_t>(value.size()));
  return bytes(std::as_bytes(std::span(value)));
}

Hasher& Hasher::digest(const Digest& value) { return bytes(std::as_bytes(std::span(value))); }

Digest Hasher::finish() {
  Digest out{};
  static_assert(sizeof out == kernels::Sha256::kHashBytes);
  sha_.finish(out.data());
  return out;
}

Digest hash_file(const std::string& path, const std::atomic<bool>* cancel) {
  const File file(path);
  Hasher hasher;
  std::vector<std::byte> buffer(kReadBytes);
  for (std::uint64_t at = 0; at < file.size();) {
    check_cancel(cancel, "hashing a file");
    const std::size_t count =
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), file.size() - at));
    const std::span<std::byte> part = std::span(buffer).first(count);
    file.read(at, part);
    hasher.bytes(part);
    at += count;
  }
  return hasher.finish();
}

}  // namespace lapidary
