#include "runtime/prefix_names.h"

#include <algorithm>
#include <charconv>
#include <span>

#include "base/format.h"

namespace lapidary {

namespace {

constexpr std::size_t kHashDigits = 32, kBaseDigits = 16, kEndDigits = 9;
// The letter, the end, the hash and the base, with a dash between these.
constexpr std::size_t kNameLength = 1 + kEndDigits + 1 + kHashDigits + 1 + kBaseDigits;
// Of two files that were last used in the same moment the place is to go first: see make_room().
constexpr char kPlaceLetter = 'w', kSegmentLetter = 'g';

bool is_hex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string digits(const Digest& digest, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count / 2; ++i) text += format("{:02x}", digest[i]);
  return text;
}

}  // namespace

std::string hash_digits(const Digest& digest) { return digits(digest, kHashDigits); }
std::string base_digits(const Digest& digest) { return digits(digest, kBaseDigits); }

PrefixHash::PrefixHash(const Digest& kind, const PrefixView& prefix) : prefix_(prefix) {
  hasher_.digest(kind);
}

Digest PrefixHash::at(std::size_t count) {
  while (done_ < count) {
    std::size_t end = count;
    if (pictures_ < prefix_.pictures.size()) {
      const PlacedPicture& picture = prefix_.pictures[pictures_];
      const auto begin = static_cast<std::size_t>(picture.begin);
      end = std::min(end, begin);
      if (begin == done_) {
        // No id is negative: this is none.
        hasher_.number(-1).number(picture.count).digest(picture.features);
        ++pictures_;
        continue;
      }
    }
    hasher_.bytes(std::as_bytes(prefix_.ids.subspan(done_, end - done_)));
    done_ = end;
  }
  return Hasher(hasher_).finish();
}

std::string PrefixName::text() const {
  return format("{}{:09}-{}-{}", what == What::kPlace ? kPlaceLetter : kSegmentLetter, end, hash,
                base);
}

std::optional<PrefixName> PrefixName::parse(std::string_view text) {
  if (text.size() != kNameLength || (text[0] != kPlaceLetter && text[0] != kSegmentLetter))
    return {};
  PrefixName name{text[0] == kPlaceLetter ? What::kPlace : What::kSegment, 0,
                  std::string(text.substr(2 + kEndDigits, kHashDigits)),
                  std::string(text.substr(kNameLength - kBaseDigits))};
  const char* const first = text.data() + 1;
  const auto [last, error] = std::from_chars(first, first + kEndDigits, name.end);
  const bool whole = error == std::errc() && last == first + kEndDigits && name.end > 0;
  const bool fits = name.what == What::kPlace || (whole && name.end % kSegmentPositions == 0);
  // Written again it is the same only if dashes and signs are where they must be.
  if (!whole || !fits || !is_hex(name.hash) || !is_hex(name.base) || name.text() != text) return {};
  return name;
}

}  // namespace lapidary
