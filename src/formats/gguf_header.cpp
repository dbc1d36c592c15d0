#include "formats/gguf_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <limits>
#include <unordered_set>
#include <utility>

#include "base/format.h"
#include "base/paged.h"
#include "formats/other_types.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

static_assert(std::endian::native == std::endian::little, "files are read as they lie");

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
// Far above any real file (a header with 262,144 tokens takes 6 MB); they bound what a corrupt file
// can make us read.
constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{512} << 20;
constexpr std::uint64_t kMaxKeyBytes = 65535;
constexpr std::uint64_t kMaxTensorNameBytes = 1024;
constexpr std::uint64_t kMaxKeys = 65536;
constexpr std::uint64_t kMaxTensors = 65536;
constexpr std::uint64_t kMaxAlignment = 1 << 20;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint32_t kMaxDimensions = 4;
// The smallest that an entry can be: the length of its name, one letter, and what follows.
constexpr std::uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

/// What a type is that is not read: its name, or its number, and why.
std::string refused_type(std::uint32_t number) {
  for (const OtherType& type : kOtherTypes) {
    if (type.number != number) continue;
    const char* const why = type.origin == TypeOrigin::kIkLlama ? "which ik_llama.cpp alone reads"
                            : type.origin == TypeOrigin::kRemoved
                                ? "which files no longer have; make the file again"
                                : "which is not supported";
    return format("{}, {}", type.name, why);
  }
  return format("number {}, which is not supported", number);
}

std::string supported_types() {
  std::string names;
  for (const BlockTraits& traits : kBlockTraits) {
    if (!names.empty()) names += ", ";
    names += traits.name;
  }
  return names;
}

/// By their numbers. Bytes of one element; 0 for an array, which is none, and of a string at least
/// its length.
struct ValueType {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr ValueType kValueTypes[] = {{"uint8", 1},  {"int8", 1},  {"uint16", 2},  {"int16", 2},
                                     {"uint32", 4}, {"int32", 4}, {"float32", 4}, {"bool", 1},
                                     {"string", 8}, {"array", 0}, {"uint64", 8},  {"int64", 8},
                                     {"float64", 8}};

/// nullptr for a number that is no type.
const ValueType* find_value_type(GgufType type) {
  const auto number = static_cast<std::uint32_t>(type);
  return number < std::size(kValueTypes) ? &kValueTypes[number] : nullptr;
}

class Parser {
 public:
  Parser(const File& file, HeaderBytes& bytes) : file_(file), bytes_(bytes) {}

  GgufHeader parse();

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(ErrorCode::kFile, file_.path() + ": " + message);
  }

  /// Checks that `count` bytes more are there, and makes them readable. `what` is what they belong
  /// to.
  void need(std::uint64_t count, const std::string& what);

  template <class T>
  T number(const std::string& what);
  std::string name(const std::string& what, std::uint64_t max_bytes);

  void parse_value(const std::string& key, GgufValue& value);
  void skip_elements(const std::string& what, const GgufValue& value);
  void parse_tensor(GgufHeader& header);
  std::uint64_t alignment(const GgufHeader& header) const;
  void place_tensors(GgufHeader& header) const;

  const File& file_;
  HeaderBytes& bytes_;
  std::uint64_t at_ = 0;
};

void Parser::need(std::uint64_t count, const std::string& what) {
  const std::uint64_t left = bytes_.left_from(at_);
  if (count > left) {
    fail(format("{} needs {} bytes at offset {}, the file has {} left", what, count, at_, left));
  }
  if (at_ + count > kMaxHeaderBytes) {
    fail(format("{} needs {} bytes at offset {}; a header may take {}", what, count, at_,
                kMaxHeaderBytes));
  }
  bytes_.need(at_ + count);
}

template <class T>
T Parser::number(const std::string& what) {
  need(sizeof(T), what);
  T value;
  std::memcpy(&value, bytes_.data() + at_, sizeof(T));
  at_ += sizeof(T);
  return value;
}

std::string Parser::name(const std::string& what, std::uint64_t max_bytes) {
  const auto length = number<std::uint64_t>(what);
  if (length == 0 || length > max_bytes) {
    fail(format("{} has a name of {} bytes, expected 1 to {}", what, length, max_bytes));
  }
  need(length, what);
  std::string text(reinterpret_cast<const char*>(bytes_.data() + at_),
                   static_cast<std::size_t>(length));
  at_ += length;
  return text;
}

void Parser::parse_value(const std::string& key, GgufValue& value) {
  const std::string what = "key " + quoted(key);
  const auto read_type = [&](const char* kind) {
    const auto type = number<GgufType>(what);
    if (find_value_type(type) == nullptr) {
      fail(format("{} has unknown {} {}", what, kind, static_cast<std::uint32_t>(type)));
    }
    return type;
  };
  value.type = read_type("type");
  if (value.type == GgufType::kArray) {
    value.is_array = true;
    value.type = read_type("array type");
    if (value.type == GgufType::kArray) fail(what + " is an array of arrays, which is not read");
    value.count = number<std::uint64_t>(what);
  }
  value.offset = at_;
  skip_elements(what, value);
  value.bytes = at_ - value.offset;
}

void Parser::skip_elements(const std::string& what, const GgufValue& value) {
  const std::uint64_t each = find_value_type(value.type)->bytes;
  const std::uint64_t left = bytes_.left_from(at_);
  if (value.count > left / each) {
    fail(format("{} has {} elements of type {}, the file has {} bytes left", what, value.count,
                gguf_type_name(value.type), left));
  }
  if (value.type == GgufType::kString) {
    for (std::uint64_t i = 0; i < value.count; ++i) {
      const auto length = number<std::uint64_t>(what);
      need(length, what);
      at_ += length;
    }
    return;
  }
  need(value.count * each, what);
  if (value.type == GgufType::kBool) {
    const std::byte* const first = bytes_.data() + at_;
    const std::byte* const last = first + value.count;
    const std::byte* const bad =
        std::find_if(first, last, [](std::byte b) { return b > std::byte{1}; });
    if (bad != last) {
      fail(format("{} has the bool {}, expected 0 or 1", what, std::to_integer<int>(*bad)));
    }
  }
  at_ += value.count * each;
}

void Parser::parse_tensor(GgufHeader& header) {
  TensorInfo tensor;
  tensor.name = name(format("tensor number {}", header.tensors.size()), kMaxTensorNameBytes);
  const std::string what = "tensor " + quoted(tensor.name);
  const auto dimensions = number<std::uint32_t>(what);
  if (dimensions == 0 || dimensions > kMaxDimensions) {
    fail(format("{} has {} dimensions, expected 1 to {}", what, dimensions, kMaxDimensions));
  }
  std::uint64_t values = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto size = number<std::uint64_t>(what);
    if (size == 0) fail(what + " has a dimension of 0");
    // The limit leaves room for the multiplication with a type's bytes below.
    if (size > std::numeric_limits<std::uint64_t>::max() / 256 / values) {
      fail(what + " has dimensions whose product overflows");
    }
    values *= size;
    tensor.shape.push_back(size);
  }
  const auto type = number<std::uint32_t>(what);
  tensor.type = static_cast<BlockType>(type);
  const BlockTraits* const traits = find_block_traits(tensor.type);
  if (traits == nullptr) {
    fail(what + " has type " + refused_type(type) + "; supported are " + supported_types());
  }
  if (tensor.columns() % traits->values != 0) {
    fail(format("{} has rows of {} values, expected a multiple of {} for type {}", what,
                tensor.columns(), traits->values, traits->name));
  }
  tensor.bytes = values / traits->values * traits->bytes;
  header.offsets.push_back(number<std::uint64_t>(what));
  header.tensors.push_back(std::move(tensor));
}

std::uint64_t Parser::alignment(const GgufHeader& header) const {
  const auto found = header.values.find("general.alignment");
  if (found == header.values.end()) return kDefaultAlignment;
  const GgufValue& value = found->second;
  if (value.is_array || value.type != GgufType::kUint32) {
    fail("key \"general.alignment\" is not of type uint32");
  }
  std::uint32_t alignment = 0;
  std::memcpy(&alignment, bytes_.data() + value.offset, sizeof(alignment));
  if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
    fail(format("key \"general.alignment\" is {}, expected a power of two up to {}", alignment,
                kMaxAlignment));
  }
  return alignment;
}

/// Turns offsets into ones from the start of the file, and checks that each tensor lies in it,
/// aligned, and alone.
void Parser::place_tensors(GgufHeader& header) const {
  const std::uint64_t unit = alignment(header);
  const std::uint64_t data = (at_ + unit - 1) / unit * unit;
  const std::uint64_t size = file_.size();
  std::vector<std::size_t> by_offset;
  for (std::size_t i = 0; i < header.tensors.size(); ++i) {
    const TensorInfo& tensor = header.tensors[i];
    std::uint64_t& offset = header.offsets[i];
    const std::string what = "tensor " + quoted(tensor.name);
    if (offset % unit != 0) {
      fail(format("{} is at offset {}, expected a multiple of {}", what, offset, unit));
    }
    if (data > size || offset > size - data || tensor.bytes > size - data - offset) {
      fail(format(
          "{} has {} bytes at offset {} of the data, which begins at {}; the file ends at {}", what,
          tensor.bytes, offset, data, size));
    }
    offset += data;
    by_offset.push_back(i);
  }
  std::ranges::sort(by_offset, {}, [&](std::size_t i) { return header.offsets[i]; });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo& before = header.tensors[by_offset[i - 1]];
    const TensorInfo& tensor = header.tensors[by_offset[i]];
    if (header.offset_of(tensor) - header.offset_of(before) < before.bytes) {
      fail("tensor " + quoted(tensor.name) + " overlaps tensor " + quoted(before.name));
    }
  }
  if (!by_offset.empty()) header.tensors[by_offset.back()].ends_file = true;
}

GgufHeader Parser::parse() {
  GgufHeader header;
  if (file_.size() == 0) fail("the file is empty, expected a GGUF file");
  const auto magic = number<std::uint32_t>("the magic number");
  if (magic != kMagic) {
    const std::string_view found(reinterpret_cast<const char*>(bytes_.data()), 4);
    fail("expected a GGUF file, which begins with \"GGUF\"; found " + quoted(found));
  }
  const auto version = number<std::uint32_t>("the version");
  if (version != 0 && (version & 0xFFFF) == 0) {
    fail("the file is big-endian, which is not read");
  }
  if (version != 2 && version != 3) fail(format("GGUF version {}, expected 2 or 3", version));
  const auto tensor_count = number<std::uint64_t>("the tensor count");
  const auto key_count = number<std::uint64_t>("the key count");
  const std::uint64_t left = bytes_.left_from(at_);
  if (tensor_count > std::min(kMaxTensors, left / kMinTensorBytes)) {
    fail(format("a tensor count of {} does not fit the {} bytes left", tensor_count, left));
  }
  if (key_count > std::min(kMaxKeys, left / kMinKeyBytes)) {
    fail(format("a key count of {} does not fit the {} bytes left", key_count, left));
  }
  for (std::uint64_t i = 0; i < key_count; ++i) {
    const std::string key = name(format("key number {}", i), kMaxKeyBytes);
    GgufValue value;
    parse_value(key, value);
    if (!header.values.emplace(key, value).second) fail("key " + quoted(key) + " is there twice");
  }
  for (std::uint64_t i = 0; i < tensor_count; ++i) parse_tensor(header);
  std::unordered_set<std::string_view> names;
  for (const TensorInfo& tensor : header.tensors) {
    if (!names.insert(tensor.name).second) {
      fail("tensor " + quoted(tensor.name) + " is there twice");
    }
  }
  place_tensors(header);
  return header;
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  const ValueType* const known = find_value_type(type);
  return known != nullptr ? known->name : "unknown";
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kMaxShown = 80;
  std::string out = "\"";
  for (const char c : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F && c != '"' && c != '\\') {
      out += c;
    } else {
      out += format("\\x{:02x}", byte);
    }
  }
  return out + (text.size() > kMaxShown ? "…\"" : "\"");
}

HeaderBytes::~HeaderBytes() { give_pages(data_, capacity_); }

std::uint64_t HeaderBytes::left_from(std::uint64_t offset) const {
  return file_.size() - std::min(offset, file_.size());
}

void HeaderBytes::need(std::uint64_t end) {
  if (end <= filled_) return;
  // Some more than asked, so that a header takes few reads; doubling, so that it takes few moves.
  constexpr std::uint64_t kReadAhead = 1 << 20;
  const std::uint64_t wanted = std::min(file_.size(), end + kReadAhead);
  if (wanted > capacity_) {
    const std::uint64_t grown =
        std::min(file_.size(), std::max(wanted, std::uint64_t{2} * capacity_));
    data_ = grow_pages(data_, capacity_, static_cast<std::size_t>(grown));
    capacity_ = static_cast<std::size_t>(grown);
  }
  file_.read(filled_, {data_ + filled_, static_cast<std::size_t>(wanted) - filled_});
  filled_ = static_cast<std::size_t>(wanted);
}

GgufHeader parse_gguf_header(const File& file, HeaderBytes& bytes) {
  return Parser(file, bytes).parse();
}

}  // namespace lapidary
