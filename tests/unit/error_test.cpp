// What an Error says: one printable line of bounded length, whatever a file, a path, a name or
// another library put into it, with the useful parts left. And that it comes with the code that
// the headers promise.

#include "lapidary/error.h"

#include <functional>
#include <string>
#include <vector>

#include "base/boundary.h"
#include "base/printable.h"
#include "gguf_builder.h"
#include "model_fixture.h"
#include "vision_builder.h"

namespace lapidary::testing {
namespace {

using test::GgufBuilder;
using test::TempFile;

// Line breaks, a terminal's escape codes, C1 controls, marks that turn the direction of writing,
// and no UTF-8.
const std::string kHostile =
    "a\nb\r\x1b[31mred\x1b[0m\x07\x7f \xC2\x9B"
    "1m \xE2\x80\xAE"
    "txet \xE2\x81\xA6 \xE2\x80\xA8 \xFF\xC0\x80 \xED\xA0\x80";
const std::string kLong = kHostile + std::string(900'000, 'x') + kHostile;

void expect_good_line(const Error& error, const std::vector<std::string>& parts) {
  const std::string line = error.what();
  EXPECT_TRUE(is_printable(line, kMostOfALine)) << line.substr(0, 3000);
  for (const std::string& part : parts) EXPECT_TRUE(contains(line, part)) << part << "\n" << line;
}

TEST(Printable, WhatPassesAndWhatBecomesOfTheRest) {
  EXPECT_EQ(printable_value("Grüße, 世界 👩‍🚀.gguf"),
            "Grüße, 世界 👩‍🚀.gguf");
  EXPECT_EQ(printable_value("a\tb\nc\x1b[1m\x7f"), "a b c [1m ");
  EXPECT_EQ(printable_value("\xC2\x85|\xC2\xA0|"), "?|\xC2\xA0|");
  EXPECT_EQ(printable_value("\xE2\x80\xAA\xE2\x80\xAE\xE2\x81\xA6\xE2\x81\xA9|\xE2\x80\xA8"),
            "????|?");
  EXPECT_EQ(printable_value("\xFF|\xC3|\xED\xA0\x80|"), "?|?|???|");
  EXPECT_FALSE(is_printable("a\nb", 10));
  EXPECT_FALSE(is_printable("\xE2\x80\xAE", 10));
  EXPECT_FALSE(is_printable("abc", 2));
  EXPECT_TRUE(is_printable("ü", 2));
}

TEST(Printable, IsCutBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "世";
  for (std::size_t shift = 0; shift < 3; ++shift) {
    const std::string moved = std::string(shift, 'a') + text;
    const std::string value = printable_value(moved);
    EXPECT_TRUE(is_printable(value, kMostOfAValue));
    EXPECT_TRUE(value.ends_with("世…"));
    EXPECT_GE(value.size(), kMostOfAValue - 4);
    const std::string line = printable_line(moved + "end");
    EXPECT_TRUE(is_printable(line, kMostOfALine));
    EXPECT_TRUE(line.ends_with("世end"));
    EXPECT_TRUE(contains(line, "世…世"));
    EXPECT_EQ(printable_line(line), line);
  }
}

struct Case {
  std::string name;
  ErrorCode code;
  std::function<void()> act;
  std::vector<std::string> says;
};

/// A file in which `change` was made to a whole model.
std::function<void()> load_changed(const std::function<void(GgufBuilder&)>& change) {
  return [change] {
    GgufBuilder builder = test::tiny_model();
    change(builder);
    const TempFile file(builder.build());
    Model::load(file.path());
  };
}

std::function<void()> see_changed(const std::function<void(GgufBuilder&)>& change) {
  return [change] {
    GgufBuilder builder = test::tiny_vision();
    change(builder);
    const TempFile file(builder.build());
    inspect_vision(file.path());
  };
}

std::vector<Case> hostile_files() {
  const auto key = [](const std::string& name, const std::string& value) {
    return load_changed([=](GgufBuilder& file) { file.set_string(name, value); });
  };
  return {
      {"Tokenizer",
       ErrorCode::kFile,
       key("tokenizer.ggml.model", kHostile),
       {"tokenizer.ggml.model", "expected \"llama\""}},
      {"LongTokenizer",
       ErrorCode::kFile,
       key("tokenizer.ggml.model", kLong),
       {"tokenizer.ggml.model", "expected \"llama\""}},
      {"Architecture",
       ErrorCode::kFile,
       key("general.architecture", kLong),
       {"general.architecture", "expected \"gemma3\""}},
      {"Scaling",
       ErrorCode::kFile,
       key("gemma3.rope.scaling.type", kLong),
       {"rope.scaling.type", "expected linear or none"}},
      {"KeyTwice",
       ErrorCode::kFile,
       load_changed([](GgufBuilder& file) {
         file.keys.push_back({kHostile, 4, test::number_bytes(1)});
         file.keys.push_back({kHostile, 4, test::number_bytes(1)});
       }),
       {"is there twice"}},
      {"UnknownType",
       ErrorCode::kFile,
       load_changed([](GgufBuilder& file) {
         file.keys.push_back({kHostile, 99, ""});
       }),
       {"unknown type 99"}},
      {"TensorOfALayer",
       ErrorCode::kFile,
       load_changed([](GgufBuilder& file) {
         file.add_tensor("blk.0." + kHostile, {4}, BlockType::kF32, std::string(16, '\1'));
       }),
       {"belongs to a layer"}},
      {"TokenTwice",
       ErrorCode::kFile,
       load_changed([](GgufBuilder& file) {
         test::set_tiny_vocabulary(file);
         std::vector<std::string> tokens(4, kHostile);
         tokens[0] = "<bos>", tokens[1] = "<eos>", tokens[2] = "<unk>";
         std::vector<std::int32_t> types = {3, 3, 2, 1};
         for (int byte = 0; byte < 256; ++byte) {
           char text[8];
           std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
           tokens.emplace_back(text);
           types.push_back(6);
         }
         tokens.push_back(kHostile);
         types.push_back(1);
         file.set_strings("tokenizer.ggml.tokens", tokens);
         file.set_numbers("tokenizer.ggml.token_type", 5, types);
         file.set_numbers("tokenizer.ggml.scores", 6, std::vector<float>(types.size(), 0));
       }),
       {"SentencePiece refuses the vocabulary"}},
      {"Projector",
       ErrorCode::kFile,
       see_changed([](GgufBuilder& file) { file.set_string("clip.projector_type", kLong); }),
       {"clip.projector_type", "expected \"gemma3\""}},
  };
}

std::vector<Case> hostile_arguments() {
  const std::string folder = "/nowhere/" + kHostile;
  const std::string missing = "cannot be opened: No such file";
  const Tokenizer& tokenizer = tiny_model().tokenizer();
  const auto chat = [&tokenizer](std::vector<Message> messages) {
    return [&tokenizer, messages] { chat_prompt(tokenizer, messages); };
  };
  return {
      {"Load", ErrorCode::kFile, [=] { Model::load(folder); }, {"/nowhere/a b", missing}},
      {"LongPath",
       ErrorCode::kFile,
       [] { Model::load("/nowhere/" + kLong); },
       {"/nowhere/a b", "cannot be opened: File name too long"}},
      {"Inspect", ErrorCode::kFile, [=] { inspect(folder); }, {missing}},
      {"InspectFile", ErrorCode::kFile, [=] { inspect_file(folder); }, {missing}},
      {"InspectVision", ErrorCode::kFile, [=] { inspect_vision(folder); }, {missing}},
      {"Tokenizer", ErrorCode::kFile, [=] { load_tokenizer(folder); }, {missing}},
      {"Plan", ErrorCode::kFile, [=] { plan_memory(folder); }, {missing}},
      {"PictureFile", ErrorCode::kFile, [=] { Image::load(folder); }, {missing}},
      {"PictureName",
       ErrorCode::kFile,
       [] { Image::decode({}, kLong); },
       {"a b", "expected a PNG", "it is empty"}},
      {"Isa",
       ErrorCode::kUsage,
       [] { Model::load(test_data("tiny-gemma3-text-bf16.gguf"), {.isa = kLong}); },
       {"instruction set", "this machine has: "}},
      {"Machine", ErrorCode::kUsage, [] { measure_machine(1, kHostile); }, {"this machine has: "}},
      {"Role", ErrorCode::kUsage, chat({{kLong, "x"}}), {"message 1", "expected "}},
      {"NulInARole",
       ErrorCode::kUsage,
       chat({{std::string("a\0b", 3), "x"}}),
       {"\"a b\"", "expected "}},
  };
}

class Hostile : public ::testing::TestWithParam<Case> {};

TEST_P(Hostile, IsOneGoodLine) {
  const Error error = thrown_error(GetParam().act);
  EXPECT_EQ(error.code(), GetParam().code) << error.what();
  expect_good_line(error, GetParam().says);
}
INSTANTIATE_TEST_SUITE_P(File, Hostile, ::testing::ValuesIn(hostile_files()),
                         [](const auto& c) { return c.param.name; });
INSTANTIATE_TEST_SUITE_P(Argument, Hostile, ::testing::ValuesIn(hostile_arguments()),
                         [](const auto& c) { return c.param.name; });

// What is told for people without an Error is as good.
TEST(Hostile, WarningsAndDescriptionsAreLines) {
  GgufBuilder builder = test::tiny_model();
  builder.set_string(kHostile, kLong);
  builder.add_tensor(kHostile, {4}, BlockType::kF32, std::string(16, '\1'));
  const TempFile file(builder.build());
  for (const std::string& warning : inspect(file.path()).warnings)
    EXPECT_TRUE(is_printable(warning, kMostOfALine)) << warning;
  const FileInfo info = inspect_file(file.path());
  for (const auto& [name, value] : info.metadata) {
    EXPECT_TRUE(is_printable(name, kMostOfAValue)) << name;
    EXPECT_TRUE(is_printable(value, 5 * kMostOfAValue)) << value;
  }
  for (const FileInfo::Tensor& tensor : info.tensors)
    EXPECT_TRUE(is_printable(tensor.name, kMostOfAValue)) << tensor.name;
}

// An Error of the host's own is none of ours.
TEST(Hostile, WhatTheHostThrowsStaysAsItIs) {
  const Error error = thrown_error([] {
    Model::load(test_data("tiny-gemma3-text-bf16.gguf"),
                {.progress = [](auto, auto) { throw Error(ErrorCode::kFailed, kHostile); }});
  });
  EXPECT_EQ(std::string(error.what()), kHostile);
}

TEST(Hostile, WhatOtherLibrariesThrowIsALine) {
  const Error error =
      thrown_error([] { at_boundary([] { throw std::runtime_error("two\nlines"); }); });
  EXPECT_EQ(error.code(), ErrorCode::kFailed);
  EXPECT_STREQ(error.what(), "two lines");
}

/// The codes that the headers promise, function by function, as far as no other test has them.
std::vector<Case> promises() {
  const auto usage = [](const std::string& name, const std::function<void()>& act) {
    return Case{name, ErrorCode::kUsage, act, {}};
  };
  const std::string text = test_data("tiny-gemma3-text-bf16.gguf");
  const Tokenizer& tokenizer = tiny_model().tokenizer();
  static Session session(tiny_model(), {.context = 64});
  const TokenId beyond = 1'000'000;
  const auto picture = [] {
    return Image::from_rgb(2, 2, std::vector<std::uint8_t>(std::size_t{12}));
  };
  return {
      usage("DecodeAnId",
            [&] {
              tokenizer.decode({&beyond, 1});
            }),
      usage("PieceOfAnId", [&tokenizer] { tokenizer.piece(-1); }),
      usage("ControlOfAnId", [&] { tokenizer.is_control(beyond); }),
      usage("PushAnId", [&] { Detokenizer(tokenizer).push(beyond); }),
      usage("DetokenizerOfNothing", [] { Detokenizer(Tokenizer()).push(5); }),
      usage("PicturesSize", [] { Image::from_rgb(2, 2, {}); }),
      usage("InputBesideThePicture",
            [picture] { encoder_input(picture(), {.x = 1, .y = 1, .width = 2, .height = 2}); }),
      usage("InputsSize", [picture] { encoder_input(picture(), {.width = 2, .height = 2}, 0); }),
      usage("InputsThreads",
            [picture] { encoder_input(picture(), {.width = 2, .height = 2}, 8, -1); }),
      usage("ViewsOfNothing", [] { image_views(0, 1, {}); }),
      usage("NoViews", [&tokenizer] { image_prompt_tokens(tokenizer, 0); }),
      usage("TooManyViews", [&tokenizer] { image_prompt_tokens(tokenizer, 4097); }),
      usage("PlansContext", [text] { plan_memory(text, {}, {.context = -1}); }),
      usage("PlansThreads", [text] { plan_memory(text, {}, {.threads = -1}); }),
      usage("LoadsThreads", [text] { Model::load(text, {.threads = 2000}); }),
      usage("MachinesThreads", [] { measure_machine(-1); }),
      usage("EncoderWithoutAVisionFile", [] { ImageEncoder{tiny_model()}; }),
      usage("PictureWithoutAVisionFile",
            [picture] { session.add_user("x", std::vector<Image>{picture()}); }),
      usage("LogitsForNobody", [] { session.append_with_logits(tiny_ids(), {}); }),
      usage("NoMessages", [&tokenizer] { chat_prompt(tokenizer, {}); }),
      usage("RepliesOptions", [] { session.reply({.max_tokens = -2}); }),
      usage("RepliesOptionsToTheEnd", [] { session.reply_to_end({.max_draft = 0}); }),
      {"PlanOfNoModel", ErrorCode::kFile, [] { plan_memory(test_data("tokenizer.jsonl")); }, {}},
      {"TokenizerOfNoModel",
       ErrorCode::kFile,
       [] { load_tokenizer(test_data("tokenizer.jsonl")); },
       {}},
      {"VisionOfATextModel", ErrorCode::kFile, [text] { inspect_vision(text); }, {}},
      {"LoadWithATextModelAsVision",
       ErrorCode::kFile,
       [text] { Model::load(text, {.vision = text}); },
       {}},
      {"LoadOverTheLimit",
       ErrorCode::kMemory,
       [text] { Model::load(text, {.memory_limit = 1}); },
       {}},
      {"SessionOverTheLimit",
       ErrorCode::kMemory,
       [] { Session(tiny_model(), {.context = 64, .memory_limit = 1}); },
       {}},
      {"PromptThatDoesNotFit",
       ErrorCode::kContext,
       [] { session.append(std::vector<TokenId>(65, 5)); },
       {}},
  };
}

class Promise : public ::testing::TestWithParam<Case> {};

TEST_P(Promise, IsKept) {
  const Error error = thrown_error(GetParam().act);
  EXPECT_EQ(error.code(), GetParam().code) << error.what();
  expect_good_line(error, {});
}
INSTANTIATE_TEST_SUITE_P(Of, Promise, ::testing::ValuesIn(promises()),
                         [](const auto& c) { return c.param.name; });

TEST(Promise, FindingAVisionFileThrowsNothingOfFiles) {
  EXPECT_EQ(find_vision_file("/nowhere/" + kHostile), "");
  EXPECT_EQ(find_vision_file(""), "");
}

}  // namespace
}  // namespace lapidary::testing
