// Damaged safetensors files and indexes: each is one line that names the file and the tensor.

#include <vector>

#include "folder_damage.h"

namespace lapidary::testing {
namespace {

std::vector<Damage> safetensors_damages() {
  const auto replaced = [](const char* header_text) {
    return [header_text](const std::string&) { return Safetensors::of(header_text, "0123456789"); };
  };
  return {
      bytes(
          "EmptyFile", [](const std::string&) { return std::string(); }, "0 bytes, expected 8"),
      bytes(
          "SevenBytes", [](const std::string& all) { return all.substr(0, 7); },
          "7 bytes, expected 8"),
      bytes(
          "HeaderBomb",
          [](const std::string& all) {
            return test::number_bytes(std::uint64_t{1} << 62) + all.substr(8);
          },
          "the header has 4611686018427387904 bytes, expected at most 100000000"),
      bytes(
          "HeaderOf100MB",
          [](const std::string& all) {
            return test::number_bytes(std::uint64_t{99'999'999}) + all.substr(8);
          },
          "the header has 99999999 bytes, but only"),
      bytes(
          "CutInTheHeader", [](const std::string& all) { return all.substr(0, 300); },
          "follow: the download may be incomplete"),
      bytes(
          "CutInTheData", [](const std::string& all) { return all.substr(0, all.size() - 1); },
          "bytes of data: the download may be incomplete"),
      bytes("NoHeader", replaced(""), "does not begin with {"),
      bytes(
          "APickle", [](const std::string& all) { return "\x80\x02}q" + all; },
          "no safetensors file"),
      bytes("AList", replaced("[]"), "does not begin with {"),
      bytes("HeaderCutInside", replaced("{\"a\":{\"dtype\":"), "is no valid JSON at byte"),
      bytes("BytesBehindTheJson", replaced("{} {}"), "is no valid JSON at byte 4"),
      bytes("NoUtf8", replaced("{\"\xFF\xFE\":{}}"), "is no valid JSON at byte"),
      bytes("NoNumber", replaced("{\"a\":1e999}"), "holds a number beyond 1.8e308"),
      bytes(
          "ManyLevels",
          [](const std::string&) {
            return Safetensors::of("{\"a\":" + std::string(100000, '['), "");
          },
          "has more than 64 levels of nesting"),
      bytes(
          "ManyValues",
          [](const std::string&) {
            std::string list = "{\"a\":[0";
            for (int i = 0; i < 300000; ++i) list += ",0";
            return Safetensors::of(list + "]}", "");
          },
          "has more than 200000 values"),
      bytes(
          "LongString",
          [](const std::string&) {
            return Safetensors::of("{\"" + std::string(2 << 20, 'n') + "\":{}}", "");
          },
          "has a string of more than 1048576 bytes"),
      bytes("TwiceTheSameName",
            replaced(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{}})"),
            "has \"a\" twice in one object"),
      bytes("TwiceTheSameMember", replaced(R"({"a":{"dtype":"F32","dtype":"F16"}})"),
            "has \"dtype\" twice in one object"),
      header(
          "MetadataIsAString", [](Json& h) { h["__metadata__"] = "pt"; },
          "__metadata__ is a string, expected an object"),
      header(
          "MetadataHoldsANumber",
          [](Json& h) {
            h["__metadata__"] = {{"format", 1}};
          },
          "__metadata__ holds an integer, expected strings"),
      header(
          "NoName", [](Json& h) { h[""] = h[kUp]; }, "a tensor has no name"),
      header(
          "LongName", [](Json& h) { h[std::string(2000, 'n')] = h[kUp]; },
          "a tensor's name has 2000 bytes, expected at most 1024"),
      header(
          "TensorIsAList", [](Json& h) { h[kUp] = Json::array(); },
          "is a list, expected an object"),
      tensor(
          "NoDtype", [](Json& t) { t.erase("dtype"); }, "has no dtype"),
      tensor(
          "DtypeIsANumber", [](Json& t) { t["dtype"] = 1; },
          "has an integer as dtype, expected a string"),
      tensor(
          "UnknownDtype", [](Json& t) { t["dtype"] = "Q4\n_0"; },
          "has dtype \"Q4 _0\", which is none that is known"),
      tensor(
          "IntegersAsWeights", [](Json& t) { t["dtype"] = "I16"; },
          "is of dtype I16, expected F32, F16 or BF16"),
      tensor(
          "NoShape", [](Json& t) { t.erase("shape"); }, "has no shape"),
      tensor(
          "ShapeIsANumber", [](Json& t) { t["shape"] = 2048; },
          "has an integer as shape, expected a list"),
      tensor(
          "NegativeDimension",
          [](Json& t) {
            t["shape"] = {-64, -32};
          },
          "has a negative integer in its shape"),
      tensor(
          "FractionalDimension",
          [](Json& t) {
            t["shape"] = {64.0, 32};
          },
          "has a fraction in its shape"),
      tensor(
          "NineDimensions", [](Json& t) { t["shape"] = Json(std::vector<int>(9, 1)); },
          "has 9 dimensions, expected at most 8"),
      tensor(
          "ProductOverflows",
          [](Json& t) {
            t["shape"] = {std::uint64_t{1} << 42, std::uint64_t{1} << 42};
          },
          "has more values than a file can hold"),
      tensor(
          "ZeroHidesAnOverflow",
          [](Json& t) {
            t["shape"] = {0, std::uint64_t{1} << 42, std::uint64_t{1} << 42};
          },
          "has more values than a file can hold"),
      tensor(
          "ZeroDimension",
          [](Json& t) {
            t["shape"] = {0, 32};
          },
          "has 4096 bytes, expected 0 by its shape and dtype"),
      tensor(
          "NoOffsets", [](Json& t) { t.erase("data_offsets"); }, "has no data_offsets"),
      tensor(
          "OneOffset", [](Json& t) { t["data_offsets"] = {0}; },
          "has data_offsets that are no list of two"),
      tensor(
          "OffsetIsAString",
          [](Json& t) {
            t["data_offsets"] = {"0", 1};
          },
          "has a string in its data_offsets"),
      tensor(
          "EndsBeforeItBegins",
          [](Json& t) {
            t["data_offsets"] = {5000, 904};
          },
          "ends at 904, before it begins at 5000"),
      tensor(
          "BeyondTheFile",
          [](Json& t) {
            t["data_offsets"] = {std::uint64_t{1} << 40, (std::uint64_t{1} << 40) + 4096};
          },
          "ends at 1099511631872, but the file has"),
      tensor(
          "OffsetOf2To63",
          [](Json& t) {
            t["data_offsets"] = {0, std::uint64_t{1} << 63};
          },
          "ends at 9223372036854775808, but the file has"),
      tensor(
          "TooFewBytes",
          [](Json& t) { t["data_offsets"][1] = t["data_offsets"][1].get<int>() - 2; },
          "has 4094 bytes, expected 4096 by its shape and dtype"),
      tensor(
          "SharedBytes",
          [](Json& t) {
            for (Json& at : t["data_offsets"]) at = at.get<int>() - 2;
          },
          "shares bytes with tensor"),
      tensor(
          "OtherShape",
          [](Json& t) {
            t["shape"] = {32, 64};
          },
          "is 64x32, expected 32x64"),
      tensor(
          "OtherShapeOfMoreDimensions",
          [](Json& t) {
            t["shape"] = {2, 32, 32};
          },
          "is 32x32x2, expected 32x64"),
      header(
          "MissingTensor", [](Json& h) { h.erase(kUp); },
          "tensor model.layers.1.mlp.up_proj.weight is missing"),
      header(
          "MissingEmbedding", [](Json& h) { h.erase("model.embed_tokens.weight"); },
          "embed_tokens.weight is missing"),
      header(
          "NothingAtAll", [](Json& h) { h = Json::object(); }, "embed_tokens.weight is missing"),
      header(
          "TwoOfOneMeaning",
          [](Json& h) {
            h["language_model." + std::string(kUp)] = {
                {"dtype", "BF16"}, {"shape", {0}}, {"data_offsets", {0, 0}}};
          },
          "is what language_model.model.layers.1.mlp.up_proj.weight is, too"),
      {"AnotherTensorOfALayer",
       [](FolderBuilder& f) {
         f.tensors.add("model.layers.0.mlp.router.weight", "BF16", {2}, test::bf16_values(2));
       },
       "belongs to a layer, but no Gemma 3 layer has it"},
      {"ATensorIsNotFinite",
       [](FolderBuilder& f) {
         const std::size_t at = f.tensors.header[kUp]["data_offsets"][0];
         f.tensors.data.replace(at, 2, test::number_bytes(std::uint16_t{0x7F80}));
       },
       "holds a scale or value that is not finite, in rows 0 to 15"},
  };
}

INSTANTIATE_TEST_SUITE_P(Safetensors, DamagedFolder, ::testing::ValuesIn(safetensors_damages()),
                         [](const auto& damage) { return damage.param.name; });

std::vector<Damage> folder_damages() {
  return {
      {"NoWeights", [](FolderBuilder& f) { f.whole = false; }, "has no model.safetensors"},
      {"APytorchFile",
       [](FolderBuilder& f) {
         f.whole = false;
         f.files["pytorch_model.bin"] = "PK";
       },
       "pytorch_model.bin, which is not read; save the model as safetensors"},
      {"NoConfig", [](FolderBuilder& f) { f.config = nullptr; },
       "has no config.json: expected a GGUF file or a folder"},
      {"NoTokenizer", [](FolderBuilder& f) { f.tokenizer.clear(); },
       "has neither tokenizer.model nor tokenizer.json"},
      file("IndexIsNoJson", kIndex, "weight_map", "index.json: is no valid JSON at byte 1"),
      file("IndexIsAList", kIndex, "[]", "index.json: holds a list, expected an object"),
      file("IndexWithoutMap", kIndex, "{}", "index.json: key weight_map is missing"),
      file("IndexWithNullMap", kIndex, R"({"weight_map":null})",
           "index.json: key weight_map is null, expected an object"),
      file("IndexWithEmptyMap", kIndex, R"({"weight_map":{}})", "key weight_map is empty"),
      file("IndexTwiceTheSame", kIndex, R"({"weight_map":{"a":"x","a":"y"}})",
           "has \"a\" twice in one object"),
      index(
          "IndexOfANumber", [](Json& i) { i["weight_map"][kUp] = 7; },
          "lies in an integer, expected the name of a file"),
      index(
          "IndexLeadsUp", [](Json& i) { i["weight_map"][kUp] = "../model.safetensors"; },
          "lies in \"../model.safetensors\", expected the name of a file in this folder"),
      index(
          "IndexLeadsToTheRoot", [](Json& i) { i["weight_map"][kUp] = "/etc/passwd"; },
          "lies in \"/etc/passwd\", expected the name of a file in this folder"),
      index(
          "IndexLeadsDown", [](Json& i) { i["weight_map"][kUp] = "a/b.safetensors"; },
          "lies in \"a/b.safetensors\", expected"),
      index(
          "IndexWithABackslash", [](Json& i) { i["weight_map"][kUp] = "..\\b.safetensors"; },
          "expected the name of a file in this folder"),
      index(
          "IndexOfTheFolder", [](Json& i) { i["weight_map"][kUp] = "."; },
          "lies in \".\", expected"),
      index(
          "IndexOfNoName", [](Json& i) { i["weight_map"][kUp] = ""; }, "lies in \"\", expected"),
      index(
          "IndexWithANul", [](Json& i) { i["weight_map"][kUp] = std::string("a\0b", 3); },
          "expected the name of a file in this folder"),
      index(
          "IndexNamesALostFile",
          [](Json& i) { i["weight_map"][kUp] = "model-00003-of-00003.safetensors"; },
          "model-00003-of-00003.safetensors is missing, though model.safetensors.index.json names "
          "it"),
      index(
          "IndexNamesTheOtherFile",
          [](Json& i) {
            Json& name = i["weight_map"][kUp];
            name = FolderBuilder::kNames[name == FolderBuilder::kNames[0] ? 1 : 0];
          },
          "up_proj.weight is missing, though model.safetensors.index.json says that it lies there"),
      index(
          "IndexNamesALostTensor",
          [](Json& i) { i["weight_map"]["model.more"] = FolderBuilder::kNames[0]; },
          "tensor model.more is missing, though"),
      index(
          "IndexOfTooManyFiles",
          [](Json& i) {
            for (int n = 0; n < 600; ++n)
              i["weight_map"]["t" + std::to_string(n)] = std::to_string(n);
          },
          "602 safetensors files, expected at most 512"),
      {"ATensorInTwoFiles",
       [](FolderBuilder& f) { f.files["model-extra.safetensors"] = f.tensors.build(); },
       "lies in "},
  };
}

INSTANTIATE_TEST_SUITE_P(Folder, DamagedFolder, ::testing::ValuesIn(folder_damages()),
                         [](const auto& damage) { return damage.param.name; });

// The whole one is good, so that each of those above is what its message says.
TEST(DamagedFolders, AreOfOneThatIsWhole) {
  const TempFolder folder, two, json;
  FolderBuilder().lay(folder);
  FolderBuilder().in_two().lay(two);
  FolderBuilder().with_json(FolderBuilder::small_json()).lay(json);
  for (const TempFolder* whole : {&folder, &two, &json}) {
    const Model model = Model::load(whole->path(), {.threads = 1});
    EXPECT_EQ(model.info().layers, 2);
    EXPECT_TRUE(model.info().warnings.empty());
  }
}

// As real files have them: spaces that fill up the header, holes, and bytes behind the last tensor.
TEST(DamagedFolders, HolesSpacesAndTrailingBytesAreNoDamage) {
  const TempFolder folder;
  FolderBuilder builder;
  builder.tensors.data += std::string(64, 'h');
  builder.tensors.add("model.more", "I64", {1}, std::string(8, '\0'));
  builder.tensors.data += "trailing";
  builder.whole = false;
  builder.files["model.safetensors"] =
      Safetensors::of(builder.tensors.header.dump() + "    ", builder.tensors.data);
  builder.lay(folder);
  EXPECT_EQ(Model::load(folder.path(), {.threads = 1}).info().layers, 2);
}

}  // namespace
}  // namespace lapidary::testing
