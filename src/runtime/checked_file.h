#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/new_file.h"
#include "runtime/digest.h"

// Files of sections, each with the SHA-256 of what it holds and of all digests in front of it: a
// section is right on its own, whatever happened behind it, and all are of one writing. Numbers are
// little-endian and of fixed width:
//
//   magic [8], version u32, 0 u32
//   sections: name [8], bytes u64, what it holds, digest [32]
//   the last one is called "end", holds nothing, and nothing follows it

namespace lapidary {

/// What a kind of checked file is known by.
struct FileKind {
  std::string_view magic;     // 8 bytes.
  std::uint32_t version = 1;  // Only files of this one are read.
  const char* name;           // In messages: "session file".
};

using ConstBytes = std::span<const std::byte>;
using Bytes = std::span<std::byte>;

/// Writes one, as NewFile does. One thread at a time.
class CheckedWriter {
 public:
  /// Begins the file that will be `path`. Throws Error(kFile), as all of these.
  CheckedWriter(const std::string& path, const FileKind& kind, ::mode_t mode = 0600);

  /// Adds a section: `parts` one behind the other. `name` has at most 8 characters and is not
  /// "end". Throws Error(kInterrupted) once `cancel` is set.
  void section(std::string_view name, std::span<const ConstBytes> parts,
               const std::atomic<bool>* cancel = nullptr);
  void section(std::string_view name, ConstBytes bytes) { section(name, {&bytes, 1}); }

  /// Once, at the end.
  void commit(Outlives what);

 private:
  NewFile file_;
  Digest before_{};  // Of the last section.
};

/// Reads one. Nothing is allocated for what a damaged length says: lengths are held against the
/// file's size when it is opened, and whoever reads a section says how long it may be. Safe to use
/// from several threads.
class CheckedReader {
 public:
  /// Opens `path`. Throws Error(kFile) when it is no regular file, of another kind or version. A
  /// file that is damaged or cut further on is opened: its first sections can be read.
  CheckedReader(const std::string& path, const FileKind& kind);

  /// Throws Error(kFile) when sections are missing at the end, or something follows it.
  void check_whole() const;

  /// Bytes of a section. Throws Error(kFile) when it is not there.
  std::uint64_t bytes(std::string_view name) const;

  /// What a section of at most `most` bytes holds. Throws Error(kFile) when it is not there,
  /// longer, or damaged, Error(kInterrupted) once `cancel` is set.
  std::vector<std::byte> read(std::string_view name, std::uint64_t most,
                              const std::atomic<bool>* cancel = nullptr) const;

  /// The same into `parts`, as long together as the section. When it throws they hold anything.
  void read(std::string_view name, std::span<const Bytes> parts,
            const std::atomic<bool>* cancel = nullptr) const;

  /// The same into nothing: whether the section is right.
  void check(std::string_view name, const std::atomic<bool>* cancel = nullptr) const;

  const std::string& path() const { return file_.path(); }

  /// Throws Error(kFile): "PATH: is damaged: WHAT".
  [[noreturn]] void damaged(const std::string& what) const;

 private:
  struct Section {
    std::array<char, 8> name;
    std::uint64_t bytes;
    std::uint64_t at;  // Where what it holds begins.
    Digest before;     // Of the section in front of it.
    Digest digest;     // That it must have.
  };
  void find_sections(const Digest& header);
  const Section& find(std::string_view name) const;
  static Hasher hasher_of(const Section& section);
  void check(const Section& section, Hasher& hasher) const;

  File file_;
  const char* kind_;
  std::vector<Section> sections_;
  bool whole_ = false;  // They end as they must.
};

/// Puts numbers behind each other, little-endian.
class FieldWriter {
 public:
  template <std::unsigned_integral T>
  void number(T value) {
    for (std::size_t i = 0; i < sizeof value; ++i)
      bytes_.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i)));
  }
  void bytes(ConstBytes value) { bytes_.insert(bytes_.end(), value.begin(), value.end()); }
  void digest(const Digest& value) { bytes(std::as_bytes(std::span(value))); }

  ConstBytes written() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// Takes them apart again. Throws Error(kFile) beyond the end: "PATH: is damaged: WHAT ends early".
class FieldReader {
 public:
  /// `bytes` and `file` must outlive it.
  FieldReader(ConstBytes bytes, const CheckedReader& file, const char* what)
      : rest_(bytes), file_(file), what_(what) {}

  template <std::unsigned_integral T>
  T number() {
    std::uint64_t value = 0;
    const ConstBytes bytes = this->bytes(sizeof(T));
    for (std::size_t i = 0; i < sizeof(T); ++i)
      value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
    return static_cast<T>(value);
  }
  /// A number of at most `most`. Throws Error(kFile) for a larger one.
  int number_to(int most);
  ConstBytes bytes(std::size_t count);
  Digest digest();

  std::size_t left() const { return rest_.size(); }
  /// Throws Error(kFile) where something is left.
  void finish() const;
  [[noreturn]] void damaged(const std::string& what) const;

 private:
  ConstBytes rest_;
  const CheckedReader& file_;
  const char* what_;
};

}  // namespace lapidary
