#pragma once

// Folders with one thing wrong, and the test that each is refused by a line that says it. Every
// kind of damage is one of its own: gtest refuses two of a name.

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/printable.h"
#include "folder_builder.h"
#include "model_fixture.h"

namespace lapidary::testing {

using test::FolderBuilder;
using test::Safetensors;
using test::TempFolder;
using Json = FolderBuilder::Json;

struct Damage {
  const char* name;
  std::function<void(FolderBuilder&)> make;
  const char* says;  // In the message.
};

inline constexpr const char* kUp = "model.layers.1.mlp.up_proj.weight";
inline constexpr const char* kIndex = "model.safetensors.index.json";

/// The header of the one file, changed.
inline Damage header(const char* name, const std::function<void(Json&)>& change, const char* says) {
  return {name, [change](FolderBuilder& f) { change(f.tensors.header); }, says};
}
/// The description of one tensor, changed.
inline Damage tensor(const char* name, const std::function<void(Json&)>& change, const char* says) {
  return {name, [change](FolderBuilder& f) { change(f.tensors.header[kUp]); }, says};
}
/// The file as bytes.
inline Damage bytes(const char* name, const std::function<std::string(std::string)>& change,
                    const char* says) {
  const auto make = [change](FolderBuilder& f) {
    f.whole = false;
    f.files["model.safetensors"] = change(f.tensors.build());
  };
  return {name, make, says};
}
inline Damage config(const char* name, const std::function<void(Json&)>& change, const char* says) {
  return {name, [change](FolderBuilder& f) { change(f.config); }, says};
}
/// A file beside the weights, instead of what was there.
inline Damage file(const char* name, const char* path, const std::string& content,
                   const char* says) {
  const auto make = [path, content](FolderBuilder& f) {
    if (std::string(path) == "config.json") f.config = nullptr;
    if (std::string(path) == "tokenizer.model") f.tokenizer.clear();
    f.files[path] = content;
  };
  return {name, make, says};
}
inline Damage index(const char* name, const std::function<void(Json&)>& change, const char* says) {
  const auto make = [change](FolderBuilder& f) {
    f.in_two();
    Json content = Json::parse(f.files[kIndex]);
    change(content);
    f.files[kIndex] = content.dump();
  };
  return {name, make, says};
}
inline Damage tokenizer_json(const char* name, const std::function<void(Json&)>& change,
                             const char* says) {
  const auto make = [change](FolderBuilder& f) {
    Json content = FolderBuilder::small_json();
    change(content);
    f.with_json(content);
  };
  return {name, make, says};
}
inline Damage proto(const char* name, const std::function<void(std::string&)>& change,
                    const char* says) {
  return {name, [change](FolderBuilder& f) { change(f.tokenizer); }, says};
}

class DamagedFolder : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedFolder, IsOneLineThatSaysWhatIsWrong) {
  const TempFolder folder;
  FolderBuilder builder;
  GetParam().make(builder);
  builder.lay(folder);
  const Error error = thrown_error([&] { Model::load(folder.path(), {.threads = 1}); });
  const std::string said = error.what();
  EXPECT_EQ(error.code(), ErrorCode::kFile);
  EXPECT_TRUE(contains(said, GetParam().says)) << said;
  EXPECT_TRUE(said.starts_with(folder.path())) << said;
  EXPECT_TRUE(is_printable(said, kMostOfALine)) << said;
}

}  // namespace lapidary::testing
