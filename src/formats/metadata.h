#pragma once

#include <optional>
#include <string>
#include <utility>

#include "formats/weight_source.h"

namespace lapidary {

// What configurations and vocabularies read of a source's metadata. All throw Error(kFile): one
// line that names the file and the key.

/// "FILE: key NAME" and `what`.
[[noreturn]] void fail_key(const WeightSource& source, Key key, const std::string& what);

/// `value`, which `key` must have.
template <class T>
T required(const WeightSource& source, Key key, std::optional<T> value) {
  if (!value) fail_key(source, key, " is missing");
  return *std::move(value);
}

/// The integer at `key`, within [low, high]; `fallback` where there is none, or else it is
/// required.
int read_int(const WeightSource& source, Key key, int low, int high,
             std::optional<int> fallback = {});

/// The number at `key`, or `fallback` where there is none. [low, high] must leave out what is 0 or
/// infinite once it is a float.
float read_float(const WeightSource& source, Key key, double low, double high, float fallback);

/// Checks that `value`, which `key` has, is a multiple of `of`; what that is follows where it is
/// not plain.
void require_multiple(const WeightSource& source, Key key, int value, int of,
                      const std::string& of_name = {});

/// Checks that the array at `key`, where there is one, has `count` entries, one for each of `what`:
/// before it is read.
void require_count(const WeightSource& source, Key key, std::uint64_t count, const char* what);

}  // namespace lapidary
