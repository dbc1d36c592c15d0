#include "runtime/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <vector>

#include "base/cancel.h"
#include "base/file.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

constexpr std::size_t kReadBytes = std::size_t{4} << 20;

void require(bool worked) {
  if (!worked) throw Error(ErrorCode::kFailed, "SHA-256 is not available in the crypto library");
}

}  // namespace

struct Hasher::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  require(state_->context != nullptr &&
          EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}
Hasher::~Hasher() = default;

Hasher& Hasher::bytes(std::span<const std::byte> data) {
  require(EVP_DigestUpdate(state_->context, data.data(), data.size()) == 1);
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
  unsigned int length = 0;
  require(EVP_DigestFinal_ex(state_->context, out.data(), &length) == 1 && length == out.size());
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
