#include "formats/gguf.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <type_traits>

#include "base/format.h"
#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

// Far above any chat template. What is read is held beside the header.
constexpr std::uint64_t kMaxStringBytes = std::uint64_t{1} << 20;

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

/// Calls `use` with the element at `from` as the C++ number it is; not for strings, which are none.
template <class Use>
void with_number(GgufType type, const std::byte* from, Use&& use) {
  switch (type) {
    case GgufType::kUint8:
      return use(load<std::uint8_t>(from));
    case GgufType::kInt8:
      return use(load<std::int8_t>(from));
    case GgufType::kUint16:
      return use(load<std::uint16_t>(from));
    case GgufType::kInt16:
      return use(load<std::int16_t>(from));
    case GgufType::kUint32:
      return use(load<std::uint32_t>(from));
    case GgufType::kInt32:
      return use(load<std::int32_t>(from));
    case GgufType::kFloat32:
      return use(load<float>(from));
    case GgufType::kBool:
      return use(load<std::uint8_t>(from) != 0);
    case GgufType::kUint64:
      return use(load<std::uint64_t>(from));
    case GgufType::kInt64:
      return use(load<std::int64_t>(from));
    case GgufType::kFloat64:
      return use(load<double>(from));
    case GgufType::kString:
    case GgufType::kArray:
      return;
  }
}

/// The same with every element of an array, of which the first is at `from`.
template <class Use>
void with_numbers(const GgufValue& array, const std::byte* from, Use&& use) {
  for (std::uint64_t i = 0; i < array.count; ++i) {
    with_number(array.type, from, [&](auto number) {
      use(number);
      from += sizeof(number);
    });
  }
}

}  // namespace

GgufFile::GgufFile(const std::string& path, std::string_view layers)
    : parts_(open_gguf_parts(path)) {
  for (const auto& part : parts_) {
    for (const std::uint64_t offset : part->header.offsets)
      places_.push_back({&part->file, offset});
    std::ranges::move(part->header.tensors, std::back_inserter(tensors_));
    part->header.tensors.clear();
  }
  for (TensorInfo& tensor : tensors_) {
    tensor.of_layer = !layers.empty() && tensor.name.starts_with(layers);
    index_.emplace(tensor.name, &tensor);
  }
}

std::vector<std::string> GgufFile::paths() const {
  std::vector<std::string> paths;
  for (const auto& part : parts_) paths.push_back(part->file.path());
  return paths;
}

std::uint64_t GgufFile::file_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& part : parts_) bytes += part->file.size();
  return bytes;
}

const TensorInfo* GgufFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second;
}

void GgufFile::fail(const std::string& message) const {
  throw Error(ErrorCode::kFile, path() + ": " + message);
}

const GgufValue* GgufFile::find_value(std::string_view key) const {
  const auto found = first().header.values.find(key);
  return found == first().header.values.end() ? nullptr : &found->second;
}

void GgufFile::fail_type(std::string_view key, const GgufValue& value, const char* expected) const {
  const std::string found(gguf_type_name(value.type));
  fail("key " + quoted(key) + " is " + (value.is_array ? "an array of " + found : found) +
       ", expected " + expected);
}

void GgufFile::read(const TensorInfo& tensor, std::uint64_t offset,
                    std::span<std::byte> out) const {
  const std::string what = "tensor " + quoted(tensor.name);
  if (offset > tensor.bytes || out.size() > tensor.bytes - offset) {
    fail(
        format("{} has {} bytes, {} were asked for at {}", what, tensor.bytes, out.size(), offset));
  }
  try {
    place_of(tensor).file->read(place_of(tensor).offset + offset, out);
  } catch (const Error& error) {
    throw Error(error.code(), what + ": " + error.what());
  }
}

std::optional<std::uint64_t> GgufFile::find_uint(std::string_view key) const {
  const GgufValue* const value = find_value(key);
  if (value == nullptr) return std::nullopt;
  std::optional<std::uint64_t> result;
  if (!value->is_array) {
    with_number(value->type, first().bytes.data() + value->offset, [&](auto number) {
      using Number = decltype(number);
      if constexpr (std::is_integral_v<Number> && !std::is_same_v<Number, bool>) {
        if (number < Number{0}) {
          fail(format("key {} is {}, expected 0 or more", quoted(key), number));
        }
        result = static_cast<std::uint64_t>(number);
      }
    });
  }
  if (!result) fail_type(key, *value, "an integer");
  return result;
}

std::optional<double> GgufFile::find_float(std::string_view key) const {
  const GgufValue* const value = find_value(key);
  if (value == nullptr) return std::nullopt;
  std::optional<double> result;
  if (!value->is_array) {
    with_number(value->type, first().bytes.data() + value->offset, [&](auto number) {
      if constexpr (std::is_floating_point_v<decltype(number)>) result = number;
    });
  }
  if (!result) fail_type(key, *value, "a float");
  return result;
}

std::string_view GgufFile::take_string(std::uint64_t& offset) const {
  const auto length = load<std::uint64_t>(first().bytes.data() + offset);
  const auto* const text = reinterpret_cast<const char*>(first().bytes.data() + offset + 8);
  offset += 8 + length;
  return {text, static_cast<std::size_t>(length)};
}

std::optional<std::string> GgufFile::find_string(std::string_view key) const {
  const GgufValue* const value = find_value(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_array || value->type != GgufType::kString) fail_type(key, *value, "a string");
  std::uint64_t offset = value->offset;
  const std::string_view text = take_string(offset);
  if (text.size() > kMaxStringBytes) {
    fail(format("key {} is a string of {} bytes, expected at most {}", quoted(key), text.size(),
                kMaxStringBytes));
  }
  return std::string(text);
}

std::optional<PagedVector<std::string>> GgufFile::find_strings(std::string_view key) const {
  const GgufValue* const value = find_value(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array || value->type != GgufType::kString) {
    fail_type(key, *value, "an array of strings");
  }
  PagedVector<std::string> strings;
  strings.reserve(static_cast<std::size_t>(value->count));
  std::uint64_t offset = value->offset;
  for (std::uint64_t i = 0; i < value->count; ++i) strings.emplace_back(take_string(offset));
  return strings;
}

std::optional<PagedVector<double>> GgufFile::find_floats(std::string_view key) const {
  const GgufValue* const value = find_value(key);
  if (value == nullptr) return std::nullopt;
  const bool floats = value->type == GgufType::kFloat32 || value->type == GgufType::kFloat64;
  if (!value->is_array || !floats) fail_type(key, *value, "an array of floats");
  PagedVector<double> numbers;
  numbers.reserve(static_cast<std::size_t>(value->count));
  with_numbers(*value, first().bytes.data() + value->offset,
               [&](auto number) { numbers.push_back(static_cast<double>(number)); });
  return numbers;
}

std::optional<PagedVector<std::int64_t>> GgufFile::find_ints(std::string_view key) const {
  const GgufValue* const value = find_value(key);
  if (value == nullptr) return std::nullopt;
  const bool integers = value->type != GgufType::kString && value->type != GgufType::kFloat32 &&
                        value->type != GgufType::kFloat64;
  if (!value->is_array || !integers) fail_type(key, *value, "an array of integers");
  PagedVector<std::int64_t> numbers;
  numbers.reserve(static_cast<std::size_t>(value->count));
  with_numbers(*value, first().bytes.data() + value->offset, [&](auto number) {
    if constexpr (std::is_same_v<decltype(number), std::uint64_t>) {
      if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        fail(format("key {} holds {}, which is too large", quoted(key), number));
      }
    }
    numbers.push_back(static_cast<std::int64_t>(number));
  });
  return numbers;
}

std::string GgufFile::line_of(const GgufValue& value) const {
  constexpr std::uint64_t kShown = 4;  // Elements of an array.
  std::uint64_t offset = value.offset;
  const auto next = [&] {
    if (value.type == GgufType::kString) return printable_value(take_string(offset));
    std::string text;
    with_number(value.type, first().bytes.data() + offset, [&](auto number) {
      constexpr bool kIsFloat = std::is_floating_point_v<decltype(number)>;
      text = format(kIsFloat ? "{:g}" : "{}", number);
      offset += sizeof(number);
    });
    return text;
  };
  std::string text = value.is_array ? "[" : "";
  const std::uint64_t shown = std::min(value.count, value.is_array ? kShown : 1);
  for (std::uint64_t i = 0; i < shown; ++i) text += (i == 0 ? "" : ", ") + next();
  if (value.is_array) {
    text += shown < value.count ? format(", …] ({} elements)", value.count) : "]";
  }
  return text;
}

FileInfo GgufFile::list() const {
  FileInfo info;
  info.architecture = printable_value(find_string("general.architecture").value_or(""));
  for (const auto& [key, value] : first().header.values)
    info.metadata.emplace_back(printable_value(key), line_of(value));
  for (const TensorInfo& tensor : tensors_) {
    const std::string type(find_block_traits(tensor.type)->name);
    info.tensors.push_back(
        {printable_value(tensor.name), type, tensor.shape, place_of(tensor).offset, tensor.bytes});
  }
  return info;
}

std::optional<ArraySize> GgufFile::array_size(std::string_view key) const {
  const GgufValue* const value = find_value(key);
  if (value == nullptr || !value->is_array) return std::nullopt;
  const std::uint64_t lengths = value->type == GgufType::kString ? 8 * value->count : 0;
  return ArraySize{value->count, value->bytes - lengths};
}

}  // namespace lapidary
