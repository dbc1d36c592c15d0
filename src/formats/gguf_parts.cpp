#include "formats/gguf_parts.h"

#include <cstring>
#include <string_view>
#include <unordered_map>

#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

// A file stays open for each; far above any real model.
constexpr std::uint64_t kMaxParts = 1000;

constexpr const char* kNumber = "split.no";  // From 0 on.
constexpr const char* kCount = "split.count";
constexpr const char* kTensors = "split.tensors.count";  // Of all parts.

[[noreturn]] void fail(const GgufPart& part, const std::string& message) {
  throw Error(ErrorCode::kFile, part.file.path() + ": " + message);
}

/// The integer at `key`, which is `fallback` where there is none.
std::uint64_t read_integer(const GgufPart& part, const char* key, std::uint64_t fallback) {
  const auto found = part.header.values.find(key);
  if (found == part.header.values.end()) return fallback;
  const GgufValue& value = found->second;
  const bool integer = value.type != GgufType::kFloat32 && value.type != GgufType::kFloat64 &&
                       value.type != GgufType::kBool && value.type != GgufType::kString;
  if (value.is_array || !integer) {
    fail(part, format("key {} is {}{}, expected an integer", quoted(key),
                      value.is_array ? "an array of " : "", gguf_type_name(value.type)));
  }
  std::uint64_t number = 0;  // Negative ones are far too large.
  std::memcpy(&number, part.bytes.data() + value.offset, static_cast<std::size_t>(value.bytes));
  return number;
}

/// How the name of part `number` of `count` ends, counted from 1.
std::string name_end(std::uint64_t number, std::uint64_t count) {
  return format("-{:05}-of-{:05}.gguf", number, count);
}

/// What the path of every part begins with.
std::string_view prefix_of(const GgufPart& first, std::uint64_t count) {
  const std::string_view path = first.file.path();
  const std::string end = name_end(1, count);
  if (!path.ends_with(end)) {
    fail(first, format("is part 1 of {}, whose name must end with {} for the others to be found",
                       count, end));
  }
  return path.substr(0, path.size() - end.size());
}

/// Throws unless `part` is number `number` of `count`, from 1 on.
void check_part(const GgufPart& part, std::uint64_t number, std::uint64_t count) {
  const std::uint64_t own_count = read_integer(part, kCount, 1);
  const std::uint64_t own_number = read_integer(part, kNumber, 0);
  if (own_count != count || own_number != number - 1) {
    fail(part, format("keys {} and {} are {} and {}, expected {} and {}: it is another part, or of "
                      "another model",
                      quoted(kNumber), quoted(kCount), own_number, own_count, number - 1, count));
  }
}

/// Throws where a tensor is in two parts, or some are in none.
void check_tensors(const std::vector<std::unique_ptr<GgufPart>>& parts) {
  std::unordered_map<std::string_view, const GgufPart*> owners;
  for (const auto& part : parts) {
    for (const TensorInfo& tensor : part->header.tensors) {
      const auto [owner, is_new] = owners.emplace(tensor.name, part.get());
      if (!is_new) {
        fail(*part,
             format("tensor {} is in {} as well", quoted(tensor.name), owner->second->file.path()));
      }
    }
  }
  const GgufPart& first = *parts.front();
  const std::uint64_t expected = read_integer(first, kTensors, owners.size());
  if (owners.size() != expected) {
    fail(first,
         format("key {} is {}, the {} parts have {} tensors: one of them is of another model",
                quoted(kTensors), expected, parts.size(), owners.size()));
  }
}

}  // namespace

GgufPart::GgufPart(const std::string& path)
    : file(path), bytes(file), header(parse_gguf_header(file, bytes)) {}

std::vector<std::unique_ptr<GgufPart>> open_gguf_parts(const std::string& path) {
  std::vector<std::unique_ptr<GgufPart>> parts;
  parts.push_back(std::make_unique<GgufPart>(path));
  const GgufPart& first = *parts.front();
  const std::uint64_t count = read_integer(first, kCount, 1);
  if (count <= 1) return parts;
  if (count > kMaxParts) {
    fail(first, format("key {} is {}, expected at most {}", quoted(kCount), count, kMaxParts));
  }
  const std::uint64_t number = read_integer(first, kNumber, 0);
  if (number != 0) {
    fail(first, format("key {} is {}: part {} of {}; give the first, whose name ends with {}",
                       quoted(kNumber), number, number + 1, count, name_end(1, count)));
  }
  const std::string prefix(prefix_of(first, count));
  for (std::uint64_t next = 2; next <= count; ++next) {
    const std::string next_path = prefix + name_end(next, count);
    try {
      parts.push_back(std::make_unique<GgufPart>(next_path));
    } catch (const Error& error) {
      throw Error(error.code(), format("part {} of {}: {}", next, count, error.what()));
    }
    check_part(*parts.back(), next, count);
  }
  check_tensors(parts);
  return parts;
}

}  // namespace lapidary
