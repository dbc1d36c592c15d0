#include "formats/safetensors.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "base/format.h"
#include "base/paged.h"
#include "base/printable.h"
#include "formats/json.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

// The limit of the library that defines the format.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kMaxDimensions = 8;
constexpr std::size_t kMaxNameBytes = 1024;

struct Dtype {
  std::string_view name;
  std::uint64_t bytes;
  std::optional<BlockType> type = {};
};
constexpr Dtype kDtypes[] = {
    {"BF16", 2, BlockType::kBF16},
    {"F16", 2, BlockType::kF16},
    {"F32", 4, BlockType::kF32},
    {"F64", 8},
    {"I64", 8},
    {"I32", 4},
    {"I16", 2},
    {"I8", 1},
    {"U64", 8},
    {"U32", 4},
    {"U16", 2},
    {"U8", 1},
    {"BOOL", 1},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"F8_E8M0", 1},
};

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ErrorCode::kFile, where + what);
}

/// The text of the header, checked against the file before it is read.
PagedString read_header(const File& file) {
  if (file.size() < 8) {
    fail(file.path(), format(": {} bytes, expected 8 that give the length of a safetensors header",
                             file.size()));
  }
  std::uint64_t length = 0;
  file.read(0, std::as_writable_bytes(std::span(&length, 1)));
  const std::uint64_t left = file.size() - 8;
  if (length > kMaxHeaderBytes) {
    fail(file.path(), format(": the header has {} bytes, expected at most {}: no safetensors file",
                             length, kMaxHeaderBytes));
  }
  if (length > left) {
    fail(file.path(),
         format(": the header has {} bytes, but only {} follow: the download may be incomplete",
                length, left));
  }
  PagedString text(static_cast<std::size_t>(length), '\0');
  file.read(8, std::as_writable_bytes(std::span(text)));
  if (!text.starts_with('{'))
    fail(file.path(), ": the header does not begin with {: no safetensors file");
  return text;
}

/// The member `name` of a tensor's description.
const Json& member(const std::string& where, const Json& tensor, const char* name) {
  const auto found = tensor.find(name);
  if (found == tensor.end()) fail(where, std::string(" has no ") + name);
  return *found;
}

std::uint64_t number(const std::string& where, const Json& value, const char* name) {
  if (!value.is_number_unsigned()) {
    fail(where, format(" has {} in its {}, expected integers from 0 on",
                       value.is_number_integer() ? "a negative integer" : kind_of(value), name));
  }
  return value.get<std::uint64_t>();
}

const Dtype& find_dtype(const std::string& where, const Json& tensor) {
  const Json& value = member(where, tensor, "dtype");
  if (!value.is_string())
    fail(where, format(" has {} as dtype, expected a string", kind_of(value)));
  const auto& name = value.get_ref<const std::string&>();
  for (const Dtype& dtype : kDtypes) {
    if (dtype.name == name) return dtype;
  }
  fail(where, " has dtype \"" + printable_value(name) + "\", which is none that is known");
}

/// The shape, reversed; and the number of values.
std::uint64_t read_shape(const std::string& where, const Json& tensor,
                         std::vector<std::uint64_t>& shape) {
  const Json& value = member(where, tensor, "shape");
  if (!value.is_array()) fail(where, format(" has {} as shape, expected a list", kind_of(value)));
  if (value.size() > kMaxDimensions)
    fail(where, format(" has {} dimensions, expected at most {}", value.size(), kMaxDimensions));
  for (const Json& side : value) shape.push_back(number(where, side, "shape"));
  std::ranges::reverse(shape);
  std::uint64_t values = 1;
  for (const std::uint64_t side : shape) {
    if (side != 0 && values > std::numeric_limits<std::uint64_t>::max() / 8 / side)
      fail(where, " has more values than a file can hold");
    values *= side;
  }
  return values;
}

/// `data`: where the tensors' bytes begin and how many there are.
SafetensorsEntry read_entry(const std::string& path, const std::string& name, const Json& tensor,
                            std::pair<std::uint64_t, std::uint64_t> data) {
  if (name.empty()) fail(path, ": a tensor has no name");
  if (name.size() > kMaxNameBytes) {
    fail(path,
         format(": a tensor's name has {} bytes, expected at most {}", name.size(), kMaxNameBytes));
  }
  const std::string where = path + ": tensor " + printable_value(name);
  if (!tensor.is_object()) fail(where, format(" is {}, expected an object", kind_of(tensor)));
  SafetensorsEntry entry;
  entry.name = name;
  const Dtype& dtype = find_dtype(where, tensor);
  entry.dtype = dtype.name;
  entry.type = dtype.type;
  const std::uint64_t needed = read_shape(where, tensor, entry.shape) * dtype.bytes;
  const Json& range = member(where, tensor, "data_offsets");
  if (!range.is_array() || range.size() != 2)
    fail(where, " has data_offsets that are no list of two");
  const std::uint64_t begin = number(where, range[0], "data_offsets");
  const std::uint64_t end = number(where, range[1], "data_offsets");
  if (begin > end) fail(where, format(" ends at {}, before it begins at {}", end, begin));
  if (end > data.second) {
    fail(where, format(" ends at {}, but the file has {} bytes of data: the download may be "
                       "incomplete",
                       end, data.second));
  }
  if (end - begin != needed) {
    fail(where, format(" has {} bytes, expected {} by its shape and dtype", end - begin, needed));
  }
  entry.offset = data.first + begin;
  entry.bytes = needed;
  return entry;
}

void check_metadata(const std::string& path, const Json& metadata) {
  if (!metadata.is_object())
    fail(path, format(": __metadata__ is {}, expected an object", kind_of(metadata)));
  for (const Json& value : metadata) {
    if (!value.is_string())
      fail(path, format(": __metadata__ holds {}, expected strings", kind_of(value)));
  }
}

/// Sorts by place and refuses tensors that share bytes.
void check_places(const SafetensorsFile& file, std::vector<SafetensorsEntry>& entries) {
  std::ranges::stable_sort(entries, [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  for (std::size_t i = 1; i < entries.size(); ++i) {
    const SafetensorsEntry& before = entries[i - 1];
    if (before.offset + before.bytes > entries[i].offset) {
      fail(file.where(entries[i]), " shares bytes with tensor " + printable_value(before.name));
    }
  }
  if (!entries.empty()) entries.back().ends_file = true;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  const PagedString text = read_header(file_);
  const Json header = parse_json(text, path + ": the header");
  const std::pair data(8 + text.size(), file_.size() - 8 - text.size());
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      check_metadata(path, value);
    } else {
      entries_.push_back(read_entry(path, name, value, data));
    }
  }
  check_places(*this, entries_);
}

std::string SafetensorsFile::where(const SafetensorsEntry& entry) const {
  return path() + ": tensor " + printable_value(entry.name);
}

void SafetensorsFile::read(const SafetensorsEntry& entry, std::uint64_t offset,
                           std::span<std::byte> out) const {
  if (offset > entry.bytes || out.size() > entry.bytes - offset) {
    fail(where(entry),
         format(" has {} bytes, {} were asked for at {}", entry.bytes, out.size(), offset));
  }
  try {
    file_.read(entry.offset + offset, out);
  } catch (const Error& error) {
    throw Error(error.code(), "tensor " + printable_value(entry.name) + ": " + error.what());
  }
}

}  // namespace lapidary
