#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "gguf_builder.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

namespace fs = std::filesystem;
using test::GgufBuilder;
using test::number_bytes;

constexpr int kParts = 3;

/// A model of three tensors, one a file, in a folder of its own.
class GgufParts : public testing::Test {
 protected:
  GgufParts() {
    std::string name = (fs::temp_directory_path() / "lapidary-parts-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    for (int i = 0; i < kParts; ++i) files.push_back(part(i));
  }
  ~GgufParts() override { fs::remove_all(folder_); }

  static GgufBuilder part(int number) {
    GgufBuilder file;
    if (number == 0)
      file.set_string("general.architecture", "gemma3").set_string("general.name", "whole");
    file.set("split.no", 2, number_bytes(static_cast<std::uint16_t>(number)));
    file.set("split.count", 2, number_bytes<std::uint16_t>(kParts));
    file.set_i32("split.tensors.count", kParts);
    const std::string tensor = "blk." + std::to_string(number) + ".weight";
    file.add_tensor(tensor, {32, 2}, BlockType::kF32,
                    std::string(256, static_cast<char>('a' + number)));
    return file;
  }

  std::string path(int number) const {
    return folder_ / ("m-0000" + std::to_string(number + 1) + "-of-00003.gguf");
  }
  void write() const {
    for (std::size_t i = 0; i < files.size(); ++i)
      write(path(static_cast<int>(i)), files[i].build());
  }
  static void write(const std::string& to, const std::string& content) {
    std::ofstream(to, std::ios::binary) << content;
  }

  /// The one line of the Error(kFile) of opening part `number`.
  std::string error(int number = 0) const {
    try {
      const GgufFile file(path(number));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFile);
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "no error";
    return {};
  }
  void expect_error(const std::vector<std::string>& words, int number = 0) const {
    const std::string message = error(number);
    for (const std::string& word : words)
      EXPECT_NE(message.find(word), std::string::npos) << message << " has no " << word;
  }

  std::vector<GgufBuilder> files;
  fs::path folder_;
};

TEST_F(GgufParts, AreOneModel) {
  write();
  const GgufFile file(path(0), "blk.");
  EXPECT_EQ(file.find_string("general.name"), "whole");
  ASSERT_EQ(file.tensors().size(), std::size_t{kParts});
  EXPECT_EQ(file.paths(), (std::vector{path(0), path(1), path(2)}));
  std::uint64_t bytes = 0;
  for (int i = 0; i < kParts; ++i) bytes += fs::file_size(path(i));
  EXPECT_EQ(file.file_bytes(), bytes);
  for (int i = 0; i < kParts; ++i) {
    const TensorInfo* tensor = file.find("blk." + std::to_string(i) + ".weight");
    ASSERT_NE(tensor, nullptr);
    EXPECT_TRUE(tensor->of_layer && tensor->ends_file);
    EXPECT_EQ(file.path_of(*tensor), path(i));
    std::vector<std::byte> content(256);
    file.read(*tensor, 0, content);
    for (const std::byte byte : content) ASSERT_EQ(byte, static_cast<std::byte>('a' + i));
  }
  EXPECT_EQ(file.list().tensors.size(), std::size_t{kParts});
}

TEST_F(GgufParts, TheFirstMayHaveNoTensors) {
  files[0].tensors.clear();
  for (GgufBuilder& file : files) file.set_i32("split.tensors.count", kParts - 1);
  write();
  EXPECT_EQ(GgufFile(path(0)).tensors().size(), std::size_t{kParts - 1});
}

TEST_F(GgufParts, OneOfOneIsAWholeFile) {
  files[0].set("split.count", 2, number_bytes<std::uint16_t>(1));
  write();
  EXPECT_EQ(GgufFile(path(0)).tensors().size(), 1U);
}

TEST_F(GgufParts, AMissingPartIsNamed) {
  write();
  fs::remove(path(1));
  expect_error({"part 2 of 3", path(1)});
}

TEST_F(GgufParts, ADamagedPartIsNamed) {
  write();
  fs::resize_file(path(2), 40);
  expect_error({"part 3 of 3", path(2)});
}

TEST_F(GgufParts, ALaterPartAsksForTheFirst) {
  write();
  expect_error({path(1), "part 2 of 3", "give the first", "-00001-of-00003.gguf"}, 1);
}

TEST_F(GgufParts, TheNameOfTheFirstMustTellThoseOfTheOthers) {
  write();
  fs::rename(path(0), path(7));
  expect_error({path(7), "part 1 of 3", "-00001-of-00003.gguf"}, 7);
}

TEST_F(GgufParts, PartsInTheWrongPlaceAreRefused) {
  write();
  write(path(1), files[2].build());
  expect_error({path(1), "\"split.no\"", "are 2 and 3, expected 1 and 3"});
}

TEST_F(GgufParts, PartsOfAnotherModelAreRefused) {
  files[1].set("split.count", 2, number_bytes<std::uint16_t>(4));
  write();
  expect_error({path(1), "are 1 and 4, expected 1 and 3"});
  files[1] = GgufBuilder().set_string("general.architecture", "gemma3");  // In no parts at all.
  write();
  expect_error({path(1), "are 0 and 1, expected 1 and 3"});
  files[1] = part(1);
  files[1].tensors[0].name = "blk.2.weight";
  write();
  expect_error({path(2), "\"blk.2.weight\"", "as well", path(1)});
  files[1] = part(1).add_tensor("other", {32}, BlockType::kF32, std::string(128, 'x'));
  write();
  expect_error({path(0), "\"split.tensors.count\" is 3", "4 tensors"});
}

TEST_F(GgufParts, NumbersThatAreNoneAreRefused) {
  files[0].set("split.count", 2, number_bytes<std::uint16_t>(60000));
  write();
  expect_error({path(0), "\"split.count\" is 60000", "at most 1000"});
  files[0].set_f32("split.count", 3.0F);
  write();
  expect_error({path(0), "\"split.count\" is float32", "an integer"});
  files[0].set_numbers<std::uint16_t>("split.count", 2, {3});
  write();
  expect_error({path(0), "\"split.count\" is an array of uint16", "an integer"});
  files[0] = part(0).set_i32("split.no", -1);
  write();
  expect_error({path(0), "\"split.no\""});
}

}  // namespace
}  // namespace lapidary
