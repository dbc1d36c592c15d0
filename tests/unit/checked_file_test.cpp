// Files of checked sections: every byte and every length counts, and nothing is allocated for what
// a damaged one says.

#include "runtime/checked_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <string_view>

#include "file_folder.h"
#include "lapidary/error.h"

namespace lapidary::testing {
namespace {

constexpr FileKind kKind{"TESTFILE", 3, "test file"};

ConstBytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void write_sample(const std::string& path, const FileKind& kind = kKind) {
  CheckedWriter out(path, kind);
  FieldWriter fields;
  fields.number(std::uint8_t{1});
  fields.number(std::uint16_t{0x1234});
  fields.number(std::uint32_t{0xDEADBEEF});
  fields.number(std::uint64_t{1} << 63);
  out.section("fields", fields.written());
  const std::vector<ConstBytes> parts = {bytes_of("one, "), {}, bytes_of("two")};
  out.section("parts", parts);
  out.section("12345678", bytes_of(""));
  out.commit(Outlives::kProcess);
}

/// All that write_sample() wrote, or throws.
void read_sample(const std::string& path) {
  const CheckedReader in(path, kKind);
  in.check_whole();
  const std::vector<std::byte> bytes = in.read("fields", 100);
  FieldReader fields(bytes, in, "the sample");
  ASSERT_EQ(fields.number<std::uint8_t>(), 1U);
  ASSERT_EQ(fields.number<std::uint16_t>(), 0x1234U);
  ASSERT_EQ(fields.number<std::uint32_t>(), 0xDEADBEEFU);
  ASSERT_EQ(fields.number<std::uint64_t>(), std::uint64_t{1} << 63);
  fields.finish();
  ASSERT_EQ(text_of(in.read("parts", 8)), "one, two");
  in.check("parts");
  std::string first(3, ' '), rest(5, ' ');
  const std::vector<Bytes> parts = {std::as_writable_bytes(std::span(first)),
                                    std::as_writable_bytes(std::span(rest))};
  in.read("parts", parts);
  ASSERT_EQ(first + rest, "one, two");
  ASSERT_EQ(in.bytes("12345678"), 0U);
  in.check("12345678");
}

template <class F>
std::string file_error(F&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

TEST(CheckedFile, HoldsItsSections) {
  const Folder folder;
  write_sample(folder.path("a"));
  read_sample(folder.path("a"));
  EXPECT_EQ(folder.names().size(), 1U);
}

TEST(CheckedFile, EveryDamagedByteIsFound) {
  const Folder folder;
  write_sample(folder.path("a"));
  const std::string whole = folder.read("a");
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    folder.write("b", damaged);
    const std::string message = file_error([&] { read_sample(folder.path("b")); });
    EXPECT_TRUE(message.starts_with(folder.path("b") + ": ")) << message;
  }
}

TEST(CheckedFile, EveryLengthIsFound) {
  const Folder folder;
  write_sample(folder.path("a"));
  const std::string whole = folder.read("a");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    folder.write("b", whole.substr(0, size));
    file_error([&] { read_sample(folder.path("b")); });
  }
  folder.write("b", whole + '\0');
  file_error([&] { read_sample(folder.path("b")); });
}

TEST(CheckedFile, SectionsInFrontOfDamageAreRight) {
  const Folder folder;
  write_sample(folder.path("a"));
  const std::string whole = folder.read("a");
  const std::size_t second = 16 + 16 + 15 + 32;  // Headers, fields, digest.
  folder.write("b", whole.substr(0, second + 20));
  const CheckedReader in(folder.path("b"), kKind);
  EXPECT_EQ(in.read("fields", 15).size(), 15U);
  EXPECT_EQ(file_error([&] { in.read("parts", 100); }),
            folder.path("b") + ": the test file is damaged: section \"parts\" is missing or cut");
  EXPECT_EQ(file_error([&] { in.check_whole(); }),
            folder.path("b") + ": the test file is damaged: it does not end as it must");
  std::string damaged = whole;
  damaged[second + 16] = 'O';
  folder.write("b", damaged);
  const CheckedReader other(folder.path("b"), kKind);
  other.check("fields");
  EXPECT_EQ(
      file_error([&] { other.check("parts"); }),
      folder.path("b") + ": the test file is damaged: section \"parts\" has another checksum");
}

// Two files of the same sections: what one has cannot stand in the other.
TEST(CheckedFile, SectionsOfTwoWritingsDoNotMix) {
  const Folder folder;
  for (const char* const name : {"a", "b"}) {
    CheckedWriter out(folder.path(name), kKind);
    out.section("first", bytes_of(name));
    out.section("second", bytes_of(name));
    out.commit(Outlives::kProcess);
  }
  const std::string a = folder.read("a"), b = folder.read("b");
  const std::size_t cut = 16 + 16 + 1 + 32;
  folder.write("c", a.substr(0, cut) + b.substr(cut));
  const CheckedReader in(folder.path("c"), kKind);
  EXPECT_EQ(text_of(in.read("first", 1)), "a");
  file_error([&] { in.read("second", 1); });
}

TEST(CheckedFile, LengthsAreHeldAgainstTheFile) {
  const Folder folder;
  write_sample(folder.path("a"));
  for (const std::uint64_t length :
       {~std::uint64_t{0}, ~std::uint64_t{0} - 47, std::uint64_t{1} << 62}) {
    std::string damaged = folder.read("a");
    for (std::size_t i = 0; i < 8; ++i) damaged[24 + i] = static_cast<char>(length >> (8 * i));
    folder.write("b", damaged);
    const CheckedReader in(folder.path("b"), kKind);
    file_error([&] { in.read("fields", ~std::uint64_t{0}); });
  }
  const CheckedReader in(folder.path("a"), kKind);
  EXPECT_EQ(file_error([&] { in.read("fields", 14); }),
            folder.path("a") +
                ": the test file is damaged: section \"fields\" has 15 bytes, "
                "expected at most 14");
}

TEST(CheckedFile, FieldsAreHeldAgainstTheirSection) {
  const Folder folder;
  write_sample(folder.path("a"));
  const CheckedReader in(folder.path("a"), kKind);
  const std::vector<std::byte> bytes = in.read("fields", 15);
  FieldReader fields(bytes, in, "the sample");
  const std::string front = folder.path("a") + ": the test file is damaged: the sample ";
  EXPECT_EQ(file_error([&] { fields.bytes(16); }), front + "ends early");
  EXPECT_EQ(file_error([&] { fields.finish(); }), front + "is longer than it should be");
  fields.bytes(3);
  EXPECT_EQ(file_error([&] { fields.number_to(7); }),
            front + "has the number 3735928559, expected at most 7");
  fields.bytes(4);
  file_error([&] { fields.digest(); });
}

TEST(CheckedFile, OtherFilesAreRefused) {
  const Folder folder;
  const auto refused = [](const std::string& path, const std::string& why) {
    EXPECT_EQ(file_error([&] { CheckedReader(path, kKind); }), path + ": " + why);
  };
  std::filesystem::create_directory(folder.path("folder"));
  ASSERT_EQ(::mkfifo(folder.path("fifo").c_str(), 0600), 0);
  folder.write("empty", "");
  folder.write("other", "GGUF and more of it");
  write_sample(folder.path("version"), {"TESTFILE", 4, "test file"});
  write_sample(folder.path("kind"), {"ELSEFILE", 3, "test file"});
  refused(folder.path("folder"), "expected a file, found a directory");
  refused(folder.path("fifo"), "expected a regular file");
  refused("/dev/null", "expected a regular file");
  refused(folder.path("none"), "cannot be opened: No such file or directory");
  refused(folder.path("empty"), "expected a test file");
  refused(folder.path("other"), "expected a test file");
  refused(folder.path("kind"), "expected a test file");
  refused(folder.path("version"), "expected a test file of version 3, found version 4");
}

TEST(CheckedFile, ACancelLeavesNothing) {
  const Folder folder;
  const std::atomic<bool> cancel{true};
  const ConstBytes part = bytes_of("x");
  try {
    CheckedWriter out(folder.path("a"), kKind);
    out.section("x", {&part, 1}, &cancel);
    ADD_FAILURE() << "was not interrupted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
  EXPECT_TRUE(folder.names().empty());
}

}  // namespace
}  // namespace lapidary::testing
