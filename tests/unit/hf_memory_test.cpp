// No file of a folder makes the process own more than twice its size and 64 MiB.

#include <filesystem>
#include <functional>
#include <vector>

#include "folder_builder.h"
#include "model_fixture.h"
#include "resident.h"

namespace lapidary::testing {
namespace {

using test::FolderBuilder;
using test::Safetensors;
using test::TempFolder;

struct Huge {
  const char* name;
  std::function<void(FolderBuilder&)> make;
};

std::vector<Huge> huge_folders() {
  const auto repeated = [](const std::string& begin, const std::string& unit, std::size_t bytes) {
    std::string text = begin;
    text.reserve(begin.size() + bytes + unit.size());
    while (text.size() < bytes) text += unit;
    return text;
  };
  const auto header = [=](const std::string& begin, const std::string& unit) {
    return [=](FolderBuilder& f) {
      f.whole = false;
      f.files["model.safetensors"] = Safetensors::of(repeated(begin, unit, 30'000'000), "");
    };
  };
  const auto other = [=](const char* name, const std::string& begin, const std::string& unit,
                         std::size_t bytes) {
    return [=](FolderBuilder& f) {
      if (std::string(name) == "config.json") f.config = nullptr;
      if (std::string(name).starts_with("tokenizer")) f.tokenizer.clear();
      f.files[name] = repeated(begin, unit, bytes);
    };
  };
  const std::string vocabulary = R"({"model":{"vocab":{"a":0)";
  return {
      {"HeaderOfBrackets", header("{\"a\":", "[")},
      {"HeaderOfNumbers", header("{\"a\":[1", ",1")},
      {"HeaderOfNames", header("{\"a\":{}", ",\"b\":{}")},
      {"HeaderOfSpaces", header("{", " ")},
      {"HeaderOfSpacesInside", header("{\"a\":", " ")},
      {"HeaderOfOneString", header("{\"", "n")},
      {"HeaderOfEscapes", header("{\"", "\\u0041")},
      {"ConfigOfNumbers", other("config.json", "{\"a\":[1", ",1", 15'000'000)},
      {"ConfigOfObjects", other("config.json", "{\"a\":[{}", ",{\"\":{}}", 15'000'000)},
      {"IndexOfNumbers", other("model.safetensors.index.json", "{\"a\":[1", ",1", 15'000'000)},
      {"TokenizerOfBrackets", other("tokenizer.json", "", "[", 30'000'000)},
      {"TokenizerOfNumbers", other("tokenizer.json", "{\"added_tokens\":[1", ",1", 30'000'000)},
      {"TokenizerOfOneToken", other("tokenizer.json", vocabulary, ",\"a\":0", 30'000'000)},
      {"TokenizerOfEmptyTokens", other("tokenizer.json", vocabulary, ",\"\":1", 30'000'000)},
      {"TokenizerOfMerges",
       other("tokenizer.json", R"({"model":{"merges":[["a","b"])", ",[\"\",\"\"]", 30'000'000)},
      {"TokenizerOfOneMerge",
       other("tokenizer.json", R"({"model":{"merges":[["a")", ",\"\"", 30'000'000)},
      {"TokenizerOfLongTokens",
       other("tokenizer.json", R"({"added_tokens":[0)",
             ",{\"content\":\"" + std::string(900'000, 'n') + "\"}", 60'000'000)},
      {"PiecesWithoutText", other("tokenizer.model", "", std::string("\x0A\x00", 2), 20'000'000)},
      {"PiecesOfALetter", other("tokenizer.model", "", "\x0A\x03\x0A\x01z", 20'000'000)},
  };
}

class HugeFolder : public ::testing::TestWithParam<Huge> {};

TEST_P(HugeFolder, TakesAtMostTwiceItsSizeAnd64Mebibytes) {
  if (test::kSanitized) GTEST_SKIP() << "a sanitizer keeps what is freed";
  const TempFolder folder;
  {
    FolderBuilder builder;
    GetParam().make(builder);
    builder.lay(folder);
  }
  std::uint64_t size = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    size += entry.file_size();
  const auto try_it = [&](const char* what, const std::function<void()>& act) {
    SCOPED_TRACE(what);
    const test::Peak peak;
    if (!peak.can_tell()) return;
    const Error error = thrown_error(act);
    EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
    EXPECT_LE(peak.bytes(), 2 * size + (std::uint64_t{64} << 20)) << error.what();
    RecordProperty(what, static_cast<int>(peak.bytes() >> 20));
  };
  try_it("load", [&] { Model::load(folder.path(), {.threads = 1}); });
  if (!std::string(GetParam().name).starts_with("Config") &&
      !std::string(GetParam().name).starts_with("Header") &&
      !std::string(GetParam().name).starts_with("Index"))
    try_it("load_tokenizer", [&] { load_tokenizer(folder.path()); });
}
INSTANTIATE_TEST_SUITE_P(Each, HugeFolder, ::testing::ValuesIn(huge_folders()),
                         [](const auto& huge) { return huge.param.name; });

}  // namespace
}  // namespace lapidary::testing
