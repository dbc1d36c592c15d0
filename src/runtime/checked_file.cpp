#include "runtime/checked_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/cancel.h"
#include "base/format.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

constexpr std::size_t kNameBytes = 8;
constexpr std::size_t kHeaderBytes =
    kNameBytes + sizeof(std::uint64_t);  // Of a file, of a section.
constexpr std::size_t kMostSections = 64;
constexpr std::size_t kReadBytes = std::size_t{256} << 10;  // That are read at a time.
constexpr std::string_view kEnd = "end";

using Name = std::array<char, kNameBytes>;

Name padded(std::string_view name) {
  Name out{};
  std::copy_n(name.begin(), std::min(name.size(), out.size()), out.begin());
  return out;
}

std::vector<std::byte> section_header(const Name& name, std::uint64_t bytes) {
  FieldWriter out;
  out.bytes(std::as_bytes(std::span(name)));
  out.number(bytes);
  return {out.written().begin(), out.written().end()};
}

std::vector<std::byte> file_header(const FileKind& kind) {
  FieldWriter out;
  out.bytes(std::as_bytes(std::span(kind.magic)));
  out.number(kind.version);
  out.number(std::uint32_t{0});
  return {out.written().begin(), out.written().end()};
}

std::uint64_t little_endian(ConstBytes bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

}  // namespace

CheckedWriter::CheckedWriter(const std::string& path, const FileKind& kind, ::mode_t mode)
    : file_(path, mode) {
  const std::vector<std::byte> header = file_header(kind);
  file_.write(header);
  before_ = Hasher().bytes(header).finish();
}

void CheckedWriter::section(std::string_view name, std::span<const ConstBytes> parts,
                            const std::atomic<bool>* cancel) {
  std::uint64_t bytes = 0;
  for (const ConstBytes part : parts) bytes += part.size();
  const std::vector<std::byte> header = section_header(padded(name), bytes);
  Hasher hasher;
  hasher.digest(before_).bytes(header);
  file_.write(header);
  for (const ConstBytes part : parts) {
    check_cancel(cancel, "writing a file");
    hasher.bytes(part);
    file_.write(part);
  }
  before_ = hasher.finish();
  file_.write(std::as_bytes(std::span(before_)));
}

void CheckedWriter::commit(Outlives what) {
  section(kEnd, ConstBytes{});
  file_.commit(what);
}

CheckedReader::CheckedReader(const std::string& path, const FileKind& kind)
    : file_(path), kind_(kind.name) {
  std::array<std::byte, kHeaderBytes> header{};
  const bool has_header = file_.size() >= header.size();
  if (has_header) file_.read(0, header);
  if (!has_header || !std::equal(kind.magic.begin(), kind.magic.end(),
                                 reinterpret_cast<const char*>(header.data())))
    throw Error(ErrorCode::kFile, format("{}: expected a {}", path, kind.name));
  if (!std::ranges::equal(header, file_header(kind))) {
    const std::uint64_t version = little_endian(std::span(header).subspan(kNameBytes, 4));
    if (version == kind.version) damaged("its header");
    throw Error(ErrorCode::kFile, format("{}: expected a {} of version {}, found version {}", path,
                                         kind.name, kind.version, version));
  }
  find_sections(Hasher().bytes(header).finish());
}

/// As many as have their places within the file.
void CheckedReader::find_sections(const Digest& header) {
  Digest before = header;
  std::uint64_t at = kHeaderBytes;
  while (sections_.size() < kMostSections) {
    std::uint64_t left = file_.size() - at;
    if (left < kHeaderBytes + sizeof(Digest)) return;
    std::array<std::byte, kHeaderBytes> bytes{};
    file_.read(at, bytes);
    Section section{{}, little_endian(std::span(bytes).subspan(kNameBytes)), 0, before, {}};
    std::memcpy(section.name.data(), bytes.data(), kNameBytes);
    left -= kHeaderBytes + sizeof(Digest);
    if (section.bytes > left) return;
    section.at = at + kHeaderBytes;
    at = section.at + section.bytes;
    file_.read(at, std::as_writable_bytes(std::span(section.digest)));
    at += sizeof(Digest);
    before = section.digest;
    sections_.push_back(section);
    if (section.name == padded(kEnd)) {
      whole_ = section.bytes == 0 && at == file_.size();
      return;
    }
  }
}

void CheckedReader::damaged(const std::string& what) const {
  throw Error(ErrorCode::kFile, format("{}: the {} is damaged: {}", path(), kind_, what));
}

void CheckedReader::check_whole() const {
  if (!whole_) damaged("it does not end as it must");
  check(kEnd);
}

const CheckedReader::Section& CheckedReader::find(std::string_view name) const {
  const Name wanted = padded(name);
  const auto found =
      std::ranges::find_if(sections_, [&](const Section& s) { return s.name == wanted; });
  if (found == sections_.end()) damaged(format("section \"{}\" is missing or cut", name));
  return *found;
}

Hasher CheckedReader::hasher_of(const Section& section) {
  Hasher hasher;
  hasher.digest(section.before).bytes(section_header(section.name, section.bytes));
  return hasher;
}

void CheckedReader::check(const Section& section, Hasher& hasher) const {
  if (hasher.finish() == section.digest) return;
  const std::string_view name(section.name.data(), section.name.size());
  damaged(format("section \"{}\" has another checksum", name.substr(0, name.find('\0'))));
}

std::uint64_t CheckedReader::bytes(std::string_view name) const { return find(name).bytes; }

std::vector<std::byte> CheckedReader::read(std::string_view name, std::uint64_t most,
                                           const std::atomic<bool>* cancel) const {
  const std::uint64_t bytes = find(name).bytes;
  if (bytes > most || bytes > std::numeric_limits<std::size_t>::max())
    damaged(format("section \"{}\" has {} bytes, expected at most {}", name, bytes, most));
  std::vector<std::byte> out(static_cast<std::size_t>(bytes));
  const Bytes part(out);
  read(name, {&part, 1}, cancel);
  return out;
}

void CheckedReader::read(std::string_view name, std::span<const Bytes> parts,
                         const std::atomic<bool>* cancel) const {
  const Section& section = find(name);
  std::uint64_t expected = 0;
  for (const Bytes part : parts) expected += part.size();
  if (section.bytes != expected)
    damaged(format("section \"{}\" has {} bytes, expected {}", name, section.bytes, expected));
  Hasher hasher = hasher_of(section);
  std::uint64_t at = section.at;
  for (Bytes part : parts) {
    for (; !part.empty(); part = part.subspan(std::min(part.size(), kReadBytes))) {
      check_cancel(cancel, "reading a file");
      const Bytes next = part.first(std::min(part.size(), kReadBytes));
      file_.read(at, next);
      hasher.bytes(next);
      at += next.size();
    }
  }
  check(section, hasher);
}

void CheckedReader::check(std::string_view name, const std::atomic<bool>* cancel) const {
  const Section& section = find(name);
  Hasher hasher = hasher_of(section);
  std::vector<std::byte> buffer(
      static_cast<std::size_t>(std::min<std::uint64_t>(kReadBytes, section.bytes)));
  for (std::uint64_t done = 0; done < section.bytes;) {
    check_cancel(cancel, "reading a file");
    const auto left = std::min<std::uint64_t>(buffer.size(), section.bytes - done);
    const Bytes next = Bytes(buffer).first(static_cast<std::size_t>(left));
    file_.read(section.at + done, next);
    hasher.bytes(next);
    done += next.size();
  }
  check(section, hasher);
}

int FieldReader::number_to(int most) {
  const auto value = number<std::uint32_t>();
  if (value > static_cast<std::uint32_t>(most))
    damaged(format("{} has the number {}, expected at most {}", what_, value, most));
  return static_cast<int>(value);
}

ConstBytes FieldReader::bytes(std::size_t count) {
  if (count > rest_.size()) damaged(format("{} ends early", what_));
  const ConstBytes taken = rest_.first(count);
  rest_ = rest_.subspan(count);
  return taken;
}

Digest FieldReader::digest() {
  Digest out{};
  const ConstBytes taken = bytes(out.size());
  std::memcpy(out.data(), taken.data(), out.size());
  return out;
}

void FieldReader::finish() const {
  if (!rest_.empty()) damaged(format("{} is longer than it should be", what_));
}

void FieldReader::damaged(const std::string& what) const { file_.damaged(what); }

}  // namespace lapidary
