#include "kernels/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lapidary::kernels {
namespace {

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (4.2.2).
alignas(16) constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

// Bytes of padding in front of the length at the end of the last block.
constexpr std::size_t kLengthAt = Sha256::kBlockBytes - sizeof(std::uint64_t);

std::uint32_t big_endian(const std::byte* at) {
  std::uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word = word << 8 | std::to_integer<std::uint32_t>(at[i]);
  return word;
}

}  // namespace

void sha256_blocks_scalar(std::uint32_t* state, const std::byte* blocks, std::size_t count) {
  using std::rotr;
  for (; count > 0; --count, blocks += Sha256::kBlockBytes) {
    std::uint32_t w[16];
    for (std::size_t i = 0; i < 16; ++i) w[i] = big_endian(blocks + 4 * i);
    std::uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    std::uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (std::size_t base = 0; base < 64; base += 16) {
      LAPIDARY_UNROLL
      for (std::size_t i = 0; i < 16; ++i) {
        // The schedule keeps its last 16 words: w[i] is the one of 16 rounds ago.
        if (base > 0) {
          const std::uint32_t near = w[(i + 14) % 16], far = w[(i + 1) % 16];
          w[i] += (rotr(near, 17) ^ rotr(near, 19) ^ near >> 10) + w[(i + 9) % 16] +
                  (rotr(far, 7) ^ rotr(far, 18) ^ far >> 3);
        }
        const std::uint32_t chosen = (e & f) ^ (~e & g), majority = (a & b) ^ (a & c) ^ (b & c);
        const std::uint32_t t1 =
            h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + chosen + kRound[base + i] + w[i];
        const std::uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + majority;
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
      }
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

#if defined(__x86_64__)
#define LAPIDARY_TARGET "sha,ssse3,sse4.1"
static_assert(is_known_target(LAPIDARY_TARGET));
LAPIDARY_ENTER_TARGET(LAPIDARY_TARGET)
namespace {

// The instruction for two rounds holds a, b, e, f in one register, a highest, and c, d, g, h in the
// other. What it returns is the new a, b, e, f; the old one is then c, d, g, h.
void sha256_blocks_x86(std::uint32_t* state, const std::byte* blocks, std::size_t count) {
  const auto word = [state](int i) { return static_cast<int>(state[i]); };
  __m128i abef = _mm_set_epi32(word(0), word(1), word(4), word(5));
  __m128i cdgh = _mm_set_epi32(word(2), word(3), word(6), word(7));
  const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
  for (; count > 0; --count, blocks += Sha256::kBlockBytes) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i w[4];
    for (int i = 0; i < 4; ++i) {
      w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks + 16 * i)),
                              big_endian);
    }
    LAPIDARY_UNROLL
    for (int i = 0; i < 16; ++i) {
      const __m128i round = _mm_load_si128(reinterpret_cast<const __m128i*>(kRound + 4 * i));
      const __m128i sum = _mm_add_epi32(w[i % 4], round);
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_unpackhi_epi64(sum, sum));
      // Four words of the schedule, in the place of those of 16 rounds ago.
      const __m128i last = w[(i + 3) % 4];
      const __m128i seven_ago = _mm_alignr_epi8(last, w[(i + 2) % 4], 4);
      const __m128i first = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
      w[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(first, seven_ago), last);
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  std::uint32_t out[8];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), abef);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 4), cdgh);
  state[0] = out[3], state[1] = out[2], state[2] = out[7], state[3] = out[6];
  state[4] = out[1], state[5] = out[0], state[6] = out[5], state[7] = out[4];
}

}  // namespace
LAPIDARY_LEAVE_TARGET
#endif

Sha256Blocks sha256_blocks() {
#if defined(__x86_64__)
  static const bool in_hardware = has_target(LAPIDARY_TARGET);
  if (in_hardware) return sha256_blocks_x86;
#endif
  return sha256_blocks_scalar;
}

void Sha256::add(const std::byte* data, std::size_t bytes) {
  if (bytes == 0) return;
  const std::size_t held = bytes_ % kBlockBytes;
  bytes_ += bytes;
  if (held > 0) {
    const std::size_t taken = std::min(bytes, kBlockBytes - held);
    std::memcpy(rest_ + held, data, taken);
    if (held + taken < kBlockBytes) return;
    blocks_(state_, rest_, 1);
    data += taken;
    bytes -= taken;
  }
  blocks_(state_, data, bytes / kBlockBytes);
  std::memcpy(rest_, data + bytes / kBlockBytes * kBlockBytes, bytes % kBlockBytes);
}

void Sha256::finish(std::uint8_t* out) {
  const std::uint64_t bits = bytes_ * 8;
  // A one, zeros, and the length in bits, big-endian, at the end of a block (5.1.1).
  std::byte padding[2 * kBlockBytes] = {std::byte{0x80}};
  const std::size_t held = bytes_ % kBlockBytes;
  const std::size_t zeros_end =
      held < kLengthAt ? kLengthAt - held : kLengthAt + kBlockBytes - held;
  for (std::size_t i = 0; i < sizeof bits; ++i)
    padding[zeros_end + i] = static_cast<std::byte>(bits >> (56 - 8 * i));
  add(padding, zeros_end + sizeof bits);
  for (std::size_t i = 0; i < kHashBytes; ++i)
    out[i] = static_cast<std::uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
}

}  // namespace lapidary::kernels
