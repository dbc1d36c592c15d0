#include "runtime/kv_identity.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "base/cancel.h"
#include "base/format.h"

namespace lapidary {

namespace {

constexpr std::uint64_t kStretch = std::uint64_t{256} << 10;  // Of which some bytes are read.
constexpr std::uint64_t kLeastPlaces = 16;                    // In a large tensor.
constexpr std::uint64_t kPlaceBytes = 256;
constexpr std::uint64_t kSmallBytes = std::uint64_t{16} << 10;  // Of a tensor that is read whole.

/// Adds what a tensor is called, its shape and some of its bytes.
void add(Hasher& hasher, const WeightSource& source, const TensorInfo& tensor,
         const std::atomic<bool>* cancel, std::vector<std::byte>& buffer) {
  const auto add_bytes = [&](std::uint64_t at, std::uint64_t count) {
    check_cancel(cancel, "reading the model");
    buffer.resize(static_cast<std::size_t>(count));
    source.read(tensor, at, buffer);
    hasher.bytes(buffer);
  };
  hasher.text(tensor.name).number(static_cast<std::int64_t>(tensor.type));
  for (const std::uint64_t dimension : tensor.shape)
    hasher.number(static_cast<std::int64_t>(dimension));
  hasher.number(static_cast<std::int64_t>(tensor.bytes));
  if (tensor.bytes <= kSmallBytes) return add_bytes(0, tensor.bytes);
  const std::uint64_t places = std::max(kLeastPlaces, tensor.bytes / kStretch + 2);
  const std::uint64_t last = tensor.bytes - kPlaceBytes;
  const std::uint64_t step = last / (places - 1);
  for (std::uint64_t i = 0; i + 1 < places; ++i) add_bytes(i * step, kPlaceBytes);
  add_bytes(last, kPlaceBytes);
}

/// As the command line calls it.
const char* name_of(std::uint32_t format) {
  switch (static_cast<kernels::KvFormat>(format)) {
    case kernels::KvFormat::kBf16:
      return "bf16";
    case kernels::KvFormat::kInt8:
      return "int8";
  }
  return "of an unknown kind";
}

std::int64_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

}  // namespace

Digest fingerprint(const WeightSource& source, const std::atomic<bool>* cancel) {
  Hasher hasher;
  std::vector<std::byte> buffer;
  for (const TensorInfo& tensor : source.tensors()) add(hasher, source, tensor, cancel, buffer);
  return hasher.finish();
}

Digest fingerprint(const WeightSource& source, const Config& config,
                   const std::atomic<bool>* cancel) {
  Hasher hasher;
  hasher.digest(fingerprint(source, cancel));
  for (const int number :
       {config.layers, config.width, config.feed_forward, config.query_heads, config.kv_heads,
        config.head_dim, config.vocabulary, config.sliding_window})
    hasher.number(number);
  for (const bool local : config.local) hasher.number(local ? 1 : 0);
  for (const float value : {config.norm_epsilon, config.global_rope_base, config.global_rope_factor,
                            config.local_rope_base, config.query_scale, config.logit_softcap})
    hasher.number(bits_of(value));
  return hasher.finish();
}

Digest vocabulary_digest(const Tokenizer& tokenizer) {
  Hasher hasher;
  hasher.number(tokenizer.vocabulary_size()).number(tokenizer.image_token());
  for (TokenId id = 0; id < tokenizer.vocabulary_size(); ++id) hasher.text(tokenizer.piece(id));
  return hasher.finish();
}

KvIdentity::KvIdentity(const Digest& fingerprint, const KvPool& pool)
    : model(fingerprint),
      format(static_cast<std::uint32_t>(pool.format())),
      page_bytes(pool.page_bytes()) {}

void KvIdentity::write(FieldWriter& out) const {
  out.digest(model);
  out.number(bits);
  out.number(format);
  out.number(page_positions);
  out.number(page_bytes);
}

KvIdentity KvIdentity::read(FieldReader& in) {
  KvIdentity out;
  out.model = in.digest();
  out.bits = in.number<std::uint32_t>();
  out.format = in.number<std::uint32_t>();
  out.page_positions = in.number<std::uint32_t>();
  out.page_bytes = in.number<std::uint64_t>();
  return out;
}

std::string KvIdentity::difference(const KvIdentity& found) const {
  if (found.model != model) return "of another model";
  if (found.format != format)
    return lapidary::format("{}, expected {}", name_of(found.format), name_of(format));
  if (found != *this) return "of another version of the engine";
  return {};
}

}  // namespace lapidary
