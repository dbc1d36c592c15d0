#include "formats/gguf.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gguf_builder.h"
#include "lapidary/error.h"
#include "test_data.h"

namespace lapidary {
namespace {

using test::GgufBuilder;
using test::number_bytes;
using test::read_file;
using test::string_bytes;
using test::TempFile;
using test::tiny_model;
using test::TinyRandom;

const std::string kGolden = test_data("tiny-gemma3-text-bf16.gguf");

/// The message of the Error(kFile) that `action` throws: one line.
std::string file_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

std::string open_error(const std::string& content) {
  const TempFile file(content);
  const std::string message = file_error([&] { GgufFile{file.path()}; });
  EXPECT_NE(message.find(file.path()), std::string::npos) << message;
  return message;
}

/// A valid file of one key and two tensors.
GgufBuilder small_file() {
  GgufBuilder file;
  file.set_string("general.architecture", "gemma3");
  file.add_tensor("first.weight", {32, 2}, BlockType::kF32, std::string(256, 'a'));
  file.add_tensor("second.weight", {32}, BlockType::kQ8_0, std::string(34, 'b'));
  return file;
}

TEST(Gguf, ReadsWhatTheBuilderWrote) {
  GgufBuilder builder = small_file();
  builder.set_u32("u", 7).set_i32("i", -7).set_f32("f", 0.5F).set_bool("b", true);
  builder.set_string("s", "text").set_strings("ss", {"a", "", "ccc"});
  builder.set_numbers<float>("fs", 6, {1.5F, -2.0F}).set_numbers<std::int16_t>("is", 3, {-1, 300});
  builder.set_numbers<std::uint8_t>("bs", 7, {1, 0}).set("d", 12, number_bytes(2.25));
  builder.set("big", 10, number_bytes(std::numeric_limits<std::uint64_t>::max()));
  builder.set_numbers<std::uint64_t>("bigs", 10, {std::numeric_limits<std::uint64_t>::max()});
  for (const std::uint32_t version : {2U, 3U}) {
    builder.version = version;
    const TempFile file(builder.build());
    const GgufFile source(file.path());
    EXPECT_EQ(source.path(), file.path());
    EXPECT_EQ(source.file_bytes(), builder.build().size());
    EXPECT_EQ(source.find_uint("u"), 7U);
    EXPECT_EQ(source.find_uint("big"), std::numeric_limits<std::uint64_t>::max());
    EXPECT_EQ(source.find_float("f"), 0.5);
    EXPECT_EQ(source.find_float("d"), 2.25);
    EXPECT_EQ(source.find_string("s"), "text");
    EXPECT_EQ(source.find_strings("ss"), (PagedVector<std::string>{"a", "", "ccc"}));
    EXPECT_EQ(source.find_floats("fs"), (PagedVector<double>{1.5, -2.0}));
    EXPECT_EQ(source.find_ints("is"), (PagedVector<std::int64_t>{-1, 300}));
    EXPECT_EQ(source.find_ints("bs"), (PagedVector<std::int64_t>{1, 0}));
    EXPECT_EQ(source.list().metadata.front(), std::pair(std::string("b"), std::string("true")));
    EXPECT_TRUE(source.array_size("is"));
    EXPECT_FALSE(source.array_size("u"));
    EXPECT_FALSE(source.array_size("absent"));
  }
}

TEST(Gguf, AbsentKeysAreNothingAndOthersTypesAreErrors) {
  GgufBuilder builder = small_file();
  builder.set_i32("negative", -1).set_string("text", "t").set_numbers<float>("floats", 6, {1.0F});
  builder.set_u32("number", 1).set_strings("texts", {"t"});
  builder.set_numbers<std::uint64_t>("big", 10, {std::numeric_limits<std::uint64_t>::max()});
  const TempFile file(builder.build());
  const GgufFile source(file.path());
  EXPECT_FALSE(source.find_uint("absent") || source.find_float("absent"));
  EXPECT_FALSE(source.find_string("absent") || source.find_strings("absent"));
  EXPECT_FALSE(source.find_floats("absent") || source.find_ints("absent"));
  const auto names = [](const char* key, const std::function<void()>& action) {
    const std::string message = file_error(action);
    EXPECT_NE(message.find('"' + std::string(key) + '"'), std::string::npos) << message;
  };
  names("negative", [&] { source.find_uint("negative"); });
  names("text", [&] { source.find_uint("text"); });
  names("floats", [&] { source.find_uint("floats"); });
  names("number", [&] { source.find_float("number"); });
  names("number", [&] { source.find_string("number"); });
  names("texts", [&] { source.find_string("texts"); });
  names("text", [&] { source.find_strings("text"); });
  names("texts", [&] { source.find_floats("texts"); });
  names("floats", [&] { source.find_ints("floats"); });
  names("number", [&] { source.find_ints("number"); });
  names("big", [&] { source.find_ints("big"); });
}

TEST(Gguf, ReadsTensors) {
  const TempFile file(small_file().build());
  const GgufFile source(file.path());
  ASSERT_EQ(source.tensors().size(), 2U);
  EXPECT_EQ(source.find("third.weight"), nullptr);
  const TensorInfo* const second = source.find("second.weight");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->type, BlockType::kQ8_0);
  EXPECT_EQ(second->bytes, 34U);
  EXPECT_EQ(second->shape, std::vector<std::uint64_t>{32});
  std::string data(30, '?');
  source.read(*second, 4, std::as_writable_bytes(std::span(data)));
  EXPECT_EQ(data, std::string(30, 'b'));
  const auto beyond = [&] { source.read(*second, 5, std::as_writable_bytes(std::span(data))); };
  EXPECT_NE(file_error(beyond).find("\"second.weight\""), std::string::npos);
}

TEST(Gguf, AlignmentIsTheFilesOwn) {
  for (const std::uint32_t alignment : {1U, 8U, 64U, 4096U}) {
    GgufBuilder builder = small_file().set_u32("general.alignment", alignment);
    builder.alignment = alignment;
    const TempFile file(builder.build());
    const GgufFile source(file.path());
    std::string data(34, '?');
    source.read(*source.find("second.weight"), 0, std::as_writable_bytes(std::span(data)));
    EXPECT_EQ(data, std::string(34, 'b')) << alignment;
  }
}

TEST(Gguf, FileThatShrinksWhileItIsReadNamesTheTensor) {
  const std::string content = small_file().build();
  const TempFile file(content);
  const GgufFile source(file.path());
  const TensorInfo& tensor = *source.find("second.weight");
  ASSERT_EQ(
      ::truncate(file.path().c_str(), static_cast<off_t>(source.list().tensors[1].offset + 10)), 0);
  std::string data(34, '?');
  const auto read = [&] { source.read(tensor, 0, std::as_writable_bytes(std::span(data))); };
  const std::string message = file_error(read);
  EXPECT_NE(message.find("\"second.weight\""), std::string::npos) << message;
  EXPECT_NE(message.find("found 10"), std::string::npos) << message;
}

/// One way in which a file can be wrong, and what the message must name.
struct Corruption {
  const char* name;
  std::function<void(GgufBuilder&)> apply;
  std::vector<std::string> says;
};

GgufBuilder::Tensor& first(GgufBuilder& file) { return file.tensor("first.weight"); }

std::vector<Corruption> fixed_field_corruptions() {
  return {
      {"WrongMagic",
       [](GgufBuilder& f) { f.magic = "GGML"; },
       {"\"GGML\"", "expected a GGUF file"}},
      {"Version0", [](GgufBuilder& f) { f.version = 0; }, {"version 0", "expected 2 or 3"}},
      {"Version1", [](GgufBuilder& f) { f.version = 1; }, {"version 1"}},
      {"Version4", [](GgufBuilder& f) { f.version = 4; }, {"version 4"}},
      {"BigEndian", [](GgufBuilder& f) { f.version = 0x03000000; }, {"big-endian"}},
      {"TooManyTensors", [](GgufBuilder& f) { f.tensor_count = 1000; }, {"tensor count of 1000"}},
      {"AbsurdTensorCount",
       [](GgufBuilder& f) { f.tensor_count = ~0ULL; },
       {"tensor count of 18446744073709551615"}},
      {"TooManyKeys", [](GgufBuilder& f) { f.key_count = 1000; }, {"key count of 1000"}},
      {"AbsurdKeyCount",
       [](GgufBuilder& f) { f.key_count = ~0ULL; },
       {"key count of 18446744073709551615"}},
      {"SplitFile",
       [](GgufBuilder& f) { f.set("split.count", 2, number_bytes<std::uint16_t>(3)); },
       {"part 1 of 3", "-00001-of-00003.gguf"}},
  };
}

std::vector<Corruption> key_corruptions() {
  const auto raw = [](std::uint32_t type, std::string payload) {
    return [type, payload](GgufBuilder& f) { f.set("the.key", type, payload); };
  };
  const auto array = [](std::uint32_t type, std::uint64_t count) {
    return [type, count](GgufBuilder& f) { f.set_array("the.key", type, count, "12345678"); };
  };
  const auto alignment = [](std::uint32_t value) {
    return [value](GgufBuilder& f) { f.set_u32("general.alignment", value); };
  };
  return {
      {"DuplicateKey",
       [](GgufBuilder& f) { f.keys.push_back(f.keys[0]); },
       {"\"general.architecture\"", "twice"}},
      {"EmptyKey", [](GgufBuilder& f) { f.set_u32("", 1); }, {"key number 1", "0 bytes"}},
      {"LongKey",
       [](GgufBuilder& f) { f.set_u32(std::string(70000, 'k'), 1); },
       {"key number 1", "70000"}},
      {"UnknownValueType", raw(13, "1234"), {"\"the.key\"", "unknown type 13"}},
      {"UnknownArrayType", array(99, 1), {"\"the.key\"", "unknown array type 99"}},
      {"NestedArray", array(9, 1), {"\"the.key\"", "array of arrays"}},
      {"AbsurdStringLength",
       raw(8, number_bytes<std::uint64_t>(~0ULL)),
       {"\"the.key\"", "18446744073709551615"}},
      {"StringBeyondTheFile",
       raw(8, number_bytes<std::uint64_t>(100000)),
       {"\"the.key\"", "100000"}},
      {"AbsurdArrayCount",
       array(4, ~0ULL),
       {"\"the.key\"", "18446744073709551615 elements of type uint32"}},
      {"ArrayCountThatOverflows",
       array(10, (1ULL << 61) + 1),
       {"\"the.key\"", "elements of type uint64"}},
      {"ArrayBeyondTheFile", array(5, 100000), {"\"the.key\"", "100000 elements of type int32"}},
      {"AbsurdStringCount", array(8, 1ULL << 60), {"\"the.key\"", "elements of type string"}},
      {"StringInArrayBeyondTheFile", array(8, 1), {"\"the.key\"", "bytes at offset"}},
      {"BoolThatIsNone", raw(7, "\x02"), {"\"the.key\"", "bool 2"}},
      {"BoolInArrayThatIsNone", array(7, 8), {"\"the.key\"", "bool 49"}},
      {"Alignment0", alignment(0), {"\"general.alignment\" is 0", "power of two"}},
      {"AlignmentNotPowerOfTwo", alignment(48), {"\"general.alignment\" is 48", "power of two"}},
      {"AbsurdAlignment", alignment(1U << 31), {"\"general.alignment\" is 2147483648"}},
      {"AlignmentOfWrongType",
       [](GgufBuilder& f) { f.set_string("general.alignment", "32"); },
       {"\"general.alignment\"", "uint32"}},
      {"ControlCharactersInKey",
       [](GgufBuilder& f) { f.set("a\n\x1B[31m", 99, ""); },
       {"\"a\\x0a\\x1b[31m\"", "unknown type 99"}},
  };
}

std::vector<Corruption> tensor_corruptions() {
  const auto shape = [](std::vector<std::uint64_t> value) {
    return [value](GgufBuilder& f) { first(f).shape = value; };
  };
  const auto type = [](std::uint32_t value) {
    return [value](GgufBuilder& f) { first(f).type = value; };
  };
  const auto offset = [](const char* tensor, std::uint64_t value) {
    return [tensor, value](GgufBuilder& f) { f.tensor(tensor).offset = value; };
  };
  constexpr std::uint64_t k32Bits = 1ULL << 32;
  return {
      {"DuplicateTensor",
       [](GgufBuilder& f) { f.tensors.push_back(first(f)); },
       {"\"first.weight\"", "twice"}},
      {"EmptyTensorName",
       [](GgufBuilder& f) { first(f).name = ""; },
       {"tensor number 0", "0 bytes"}},
      {"LongTensorName",
       [](GgufBuilder& f) { first(f).name = std::string(2000, 't'); },
       {"tensor number 0", "2000"}},
      {"NoDimensions", shape({}), {"\"first.weight\"", "0 dimensions"}},
      {"FiveDimensions", shape({32, 1, 1, 1, 2}), {"\"first.weight\"", "5 dimensions"}},
      {"DimensionOf0", shape({32, 0}), {"\"first.weight\"", "dimension of 0"}},
      {"DimensionsThatOverflow", shape({k32Bits, k32Bits}), {"\"first.weight\"", "overflow"}},
      {"DimensionsThatOverflowToLittle",
       shape({k32Bits, k32Bits, 32, 2}),
       {"\"first.weight\"", "overflow"}},
      {"BytesThatOverflow", shape({1ULL << 62}), {"\"first.weight\"", "overflow"}},
      {"LargerThanTheFile", shape({32, 1000}), {"\"first.weight\"", "128000 bytes"}},
      {"TypeQ8_K", type(15), {"\"first.weight\"", "type Q8_K", "supported are F32"}},
      {"RemovedType",
       type(4),
       {"\"first.weight\"", "type Q4_2", "no longer have", "supported are"}},
      {"RepackedType", type(31), {"\"first.weight\"", "type Q4_0_4_4", "no longer have"}},
      {"TypeNVFP4", type(40), {"\"first.weight\"", "type NVFP4", "not supported"}},
      {"TypeIQ4_KS", type(144), {"\"first.weight\"", "type IQ4_KS", "ik_llama.cpp alone reads"}},
      {"TypeIQ2_K_R4", type(337), {"\"first.weight\"", "type IQ2_K_R4", "ik_llama.cpp alone"}},
      {"UnknownType", type(12345), {"\"first.weight\"", "type number 12345"}},
      {"RowsNoMultipleOfBlock",
       [](GgufBuilder& f) { f.tensor("second.weight").shape = {33}; },
       {"\"second.weight\"", "rows of 33", "multiple of 32"}},
      {"MisalignedOffset",
       offset("second.weight", 257),
       {"\"second.weight\"", "offset 257", "multiple of 32"}},
      {"OffsetBeyondTheFile", offset("second.weight", 1 << 20), {"\"second.weight\"", "1048576"}},
      {"OffsetThatOverflows",
       offset("second.weight", ~0ULL - 31),
       {"\"second.weight\"", "18446744073709551584"}},
      {"Overlap",
       offset("second.weight", 224),
       {"\"second.weight\"", "overlaps", "\"first.weight\""}},
      {"SameOffset", offset("second.weight", 0), {"weight\" overlaps tensor"}},
  };
}

class Corrupt : public testing::TestWithParam<Corruption> {};

TEST_P(Corrupt, IsOneLineThatNamesIt) {
  GgufBuilder builder = small_file();
  GetParam().apply(builder);
  const std::string message = open_error(builder.build());
  for (const std::string& words : GetParam().says) {
    EXPECT_NE(message.find(words), std::string::npos) << message << "\ndoes not say: " << words;
  }
}

std::string corruption_name(const testing::TestParamInfo<Corruption>& test) {
  return test.param.name;
}
INSTANTIATE_TEST_SUITE_P(Fixed, Corrupt, testing::ValuesIn(fixed_field_corruptions()),
                         corruption_name);
INSTANTIATE_TEST_SUITE_P(Keys, Corrupt, testing::ValuesIn(key_corruptions()), corruption_name);
INSTANTIATE_TEST_SUITE_P(Tensors, Corrupt, testing::ValuesIn(tensor_corruptions()),
                         corruption_name);

TEST(CorruptFile, EmptyMissingAndDirectory) {
  EXPECT_NE(open_error("").find("empty"), std::string::npos);
  EXPECT_NE(open_error("GG").find("magic"), std::string::npos);
  EXPECT_NE(file_error([] { GgufFile{"/nowhere/model.gguf"}; }).find("/nowhere/model.gguf"),
            std::string::npos);
  EXPECT_NE(file_error([] { GgufFile{std::filesystem::temp_directory_path()}; }).find("directory"),
            std::string::npos);
}

TEST(CorruptFile, TruncatedAnywhereInASmallOne) {
  const std::string content = small_file().build();
  const std::size_t needed =
      content.size() - (64 - 34);  // The last tensor's padding may be absent.
  for (std::size_t size = 0; size < needed; ++size) open_error(content.substr(0, size));
  const TempFile whole(content.substr(0, needed));
  EXPECT_NO_THROW(GgufFile{whole.path()});
}

/// Where the data of the golden file begins.
std::size_t golden_header_bytes() {
  std::uint64_t start = std::numeric_limits<std::uint64_t>::max();
  const GgufFile source(kGolden);
  for (const FileInfo::Tensor& tensor : source.list().tensors)
    start = std::min(start, tensor.offset);
  return static_cast<std::size_t>(start);
}

TEST(CorruptFile, TruncatedEvery4KiBAndAtRandomPlaces) {
  const std::string content = read_file(kGolden);
  const std::size_t header = golden_header_bytes();
  ASSERT_GT(header, 16384U);
  for (std::size_t size = 0; size <= header; size += 4096) open_error(content.substr(0, size));
  TinyRandom random(3);
  for (int i = 0; i < 200; ++i) {
    open_error(content.substr(0, static_cast<std::size_t>(random.below(content.size()))));
  }
}

/// Opens, and asks for everything that a model would. What is wrong must be an Error(kFile).
bool opens_whole(const std::string& path) {
  try {
    const GgufFile source(path);
    source.find_strings("tokenizer.ggml.tokens");
    source.find_floats("tokenizer.ggml.scores");
    source.find_ints("tokenizer.ggml.token_type");
    source.find_string("general.architecture");
    source.find_uint("gemma3.block_count");
    source.find_float("gemma3.rope.freq_base");
    std::vector<std::byte> data;
    for (const FileInfo::Tensor& tensor : source.list().tensors)
      EXPECT_LE(tensor.offset + tensor.bytes, source.file_bytes());
    for (const TensorInfo& tensor : source.tensors()) {
      data.resize(static_cast<std::size_t>(tensor.bytes));
      source.read(tensor, 0, data);
    }
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return false;
  }
}

TEST(CorruptFile, FlippedBitsInTheHeaderLoadOrAreErrors) {
  const std::string content = read_file(kGolden);
  const std::size_t header = golden_header_bytes();
  const TempFile file(content);
  TinyRandom random(4);
  int refused = 0;
  for (int i = 0; i < 1500; ++i) {
    // Half of them near the start and in the tensor table, where structure is denser than in the
    // tokens.
    const std::size_t spans[] = {header, header, 1200, 8000};
    const std::size_t span = spans[i % 4];
    const auto back = static_cast<std::size_t>(random.below(span));
    const std::size_t at = i % 4 == 3 ? header - 1 - back : back;
    file.patch(at, static_cast<char>(content[at] ^ 1 << random.below(8)));
    if (!opens_whole(file.path())) ++refused;
    file.patch(at, content[at]);
  }
  EXPECT_GT(refused, 100);
  EXPECT_LT(refused, 1400);
}

TEST(Gguf, GoldenFile) {
  const GgufFile source(kGolden);
  EXPECT_EQ(source.tensors().size(), 106U);
  EXPECT_EQ(source.find_string("general.architecture"), "gemma3");
  EXPECT_EQ(source.find_uint("gemma3.block_count"), 8U);
  EXPECT_EQ(source.find_float("gemma3.rope.scaling.factor"), 8.0);
  const auto tokens = source.find_strings("tokenizer.ggml.tokens");
  ASSERT_TRUE(tokens);
  ASSERT_EQ(tokens->size(), 1763U);
  EXPECT_EQ(tokens->at(2), "<bos>");
  const TensorInfo* const embedding = source.find("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->type, BlockType::kBF16);
  EXPECT_EQ(embedding->columns(), 64U);
  EXPECT_EQ(embedding->rows(), 1763U);
}

TEST(Gguf, TinyModelOpens) {
  for (const BlockType type : {BlockType::kF32, BlockType::kQ8_0}) {
    const TempFile file(tiny_model({.type = type}).build());
    const GgufFile source(file.path());
    EXPECT_EQ(source.tensors().size(), 6U * 13 + 2);
    EXPECT_EQ(source.find("token_embd.weight")->rows(), test::kTinyVocabulary);
    const auto tokens = source.find_strings("tokenizer.ggml.tokens");
    ASSERT_TRUE(tokens);
    EXPECT_EQ(tokens->size(), test::kTinyVocabulary);
    EXPECT_EQ(tokens->at(test::kTinyBytes), "<0x00>");
    EXPECT_EQ(tokens->at(test::kTinyLetters + 1), "a");
  }
}

TEST(Gguf, RealModelOpens) {
  const char* const path = std::getenv("LAPIDARY_TEST_MODEL");
  if (path == nullptr) GTEST_SKIP() << "LAPIDARY_TEST_MODEL is not set";
  const GgufFile source(path);
  const auto tokens = source.find_strings("tokenizer.ggml.tokens");
  ASSERT_TRUE(tokens);
  EXPECT_EQ(tokens->size(), 262144U);
  ASSERT_NE(source.find("token_embd.weight"), nullptr);
  EXPECT_EQ(source.find("token_embd.weight")->rows(), 262144U);
}

}  // namespace
}  // namespace lapidary
