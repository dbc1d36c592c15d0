#include "formats/metadata.h"

#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {

void fail_key(const WeightSource& source, Key key, const std::string& what) {
  throw Error(ErrorCode::kFile, source.where(key) + what);
}

int read_int(const WeightSource& source, Key key, int low, int high, std::optional<int> fallback) {
  std::optional<std::uint64_t> value = source.find_uint(key);
  if (!value && fallback) return *fallback;
  const std::uint64_t found = required(source, key, value);
  if (found < static_cast<std::uint64_t>(low) || found > static_cast<std::uint64_t>(high)) {
    fail_key(source, key, format(" is {}, expected {} to {}", found, low, high));
  }
  return static_cast<int>(found);
}

float read_float(const WeightSource& source, Key key, double low, double high, float fallback) {
  const std::optional<double> value = source.find_float(key);
  if (!value) return fallback;
  if (*value >= low && *value <= high) return static_cast<float>(*value);
  fail_key(source, key,
           format(" is {:.6g}, expected a number from {:.15g} to {:.15g}", *value, low, high));
}

void require_multiple(const WeightSource& source, Key key, int value, int of,
                      const std::string& of_name) {
  if (value % of == 0) return;
  fail_key(source, key,
           format(" is {}, expected a multiple of {}{}", value, of,
                  of_name.empty() ? "" : ", " + of_name));
}

void require_count(const WeightSource& source, Key key, std::uint64_t count, const char* what) {
  const std::optional<ArraySize> size = source.array_size(key);
  if (!size || size->count == count) return;
  fail_key(source, key,
           format(" has {} values, expected one for each of the {} {}", size->count, count, what));
}

}  // namespace lapidary
