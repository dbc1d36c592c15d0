// The header of a vision file: what it says, what is refused, and how it is found beside a model.

#include <filesystem>
#include <functional>

#include "gguf_builder.h"
#include "model_fixture.h"
#include "test_data.h"
#include "vision/vision_config.h"
#include "vision_builder.h"

namespace lapidary::testing {
namespace {

namespace fs = std::filesystem;

const std::string kTiny = test_data("tiny-gemma3-text-bf16.gguf");
const std::string kVision = test_data("tiny-gemma3-mmproj-f16.gguf");

/// A header that is right; the tensors play no part yet.
test::GgufBuilder vision_header(std::uint32_t text_width = 64) {
  test::GgufBuilder file;
  file.set_string("general.architecture", "clip").set_string("clip.projector_type", "gemma3");
  file.set_u32("clip.vision.image_size", 896).set_u32("clip.vision.patch_size", 14);
  file.set_u32("clip.vision.embedding_length", 1152);
  file.set_u32("clip.vision.feed_forward_length", 4304);
  file.set_u32("clip.vision.block_count", 27).set_u32("clip.vision.attention.head_count", 16);
  file.set_u32("clip.vision.projection_dim", text_width);
  file.add_tensor("v.post_ln.bias", {8}, BlockType::kF32, std::string(32, '\0'));
  return file;
}

VisionConfig config_of(const test::GgufBuilder& file) {
  const test::TempFile on_disk(file.build());
  return read_vision_config(*open_source(on_disk.path(), Content::kVision));
}

TEST(VisionConfig, ReadsTheTinyFile) {
  const VisionConfig c = read_vision_config(*open_source(kVision, Content::kVision));
  EXPECT_EQ(c.image_size, 896);
  EXPECT_EQ(c.patch_size, 14);
  EXPECT_EQ(c.width, 72);
  EXPECT_EQ(c.feed_forward, 144);
  EXPECT_EQ(c.layers, 2);
  EXPECT_EQ(c.heads, 4);
  EXPECT_EQ(c.head_dim, 18);
  EXPECT_EQ(c.text_width, 64);
  EXPECT_EQ(c.patches(), 4096);
  EXPECT_EQ(c.tokens(), 256);
  EXPECT_FLOAT_EQ(c.norm_epsilon, 1e-6F);
}

TEST(VisionConfig, ReadsWhatIsOptional) {
  VisionConfig c = config_of(vision_header());
  EXPECT_EQ(c.head_dim, 72);
  EXPECT_EQ(c.pool, 4);
  EXPECT_FLOAT_EQ(c.norm_epsilon, 1e-6F);
  EXPECT_EQ(c.mean, (std::array{0.5F, 0.5F, 0.5F}));
  EXPECT_EQ(c.deviation, (std::array{0.5F, 0.5F, 0.5F}));

  test::GgufBuilder file = vision_header();
  file.remove_key("clip.projector_type").set_string("clip.vision.projector_type", "gemma3");
  file.set_u32("clip.vision.projector.scale_factor", 2).set_u32("clip.vision.image_size", 448);
  file.set_f32("clip.vision.attention.layer_norm_epsilon", 1e-5F);
  file.set_numbers<float>("clip.vision.image_mean", 6, {0.25F, 0.5F, 0.75F});
  file.set_numbers<float>("clip.vision.image_std", 6, {0.125F, 0.25F, 1.0F});
  c = config_of(file);
  EXPECT_EQ(c.pool, 2);
  EXPECT_EQ(c.tokens(), 256);
  EXPECT_FLOAT_EQ(c.norm_epsilon, 1e-5F);
  EXPECT_EQ(c.mean, (std::array{0.25F, 0.5F, 0.75F}));
  EXPECT_EQ(c.deviation, (std::array{0.125F, 0.25F, 1.0F}));
}

TEST(VisionFile, TensorsThatNothingUsesAreToldOrRefused) {
  test::GgufBuilder builder = test::tiny_vision();
  EXPECT_TRUE(inspect_vision(test::TempFile(builder.build()).path()).warnings.empty());
  builder.add_tensor("a.blk.0.weight", {8}, BlockType::kF32, std::string(32, '\1'));
  const test::TempFile heard(builder.build());
  EXPECT_EQ(inspect_vision(heard.path()).warnings,
            std::vector<std::string>{"tensor a.blk.0.weight is not used"});
  builder.add_tensor("v.blk.1.ls1.weight", {64}, BlockType::kF32, std::string(256, '\1'));
  const test::TempFile scaled(builder.build());
  const Error error = thrown_error([&] { Model::load(kTiny, {.vision = scaled.path()}); });
  EXPECT_EQ(error.code(), ErrorCode::kFile);
  EXPECT_TRUE(contains(error.what(), "v.blk.1.ls1.weight belongs to a layer")) << error.what();
}

TEST(VisionConfig, RefusesWhatIsWrongNamingTheKey) {
  using Change = std::function<void(test::GgufBuilder&)>;
  const auto number = [](const char* key, std::uint32_t value) {
    return [=](test::GgufBuilder& file) { file.set_u32(key, value); };
  };
  const auto text = [](const char* key, const char* value) {
    return [=](test::GgufBuilder& file) { file.set_string(key, value); };
  };
  const auto colours = [](const char* key, std::vector<float> values) {
    return [=](test::GgufBuilder& file) { file.set_numbers(key, 6, values); };
  };
  const std::vector<std::pair<Change, const char*>> changes = {
      {text("general.architecture", "gemma3"), "text part"},
      {text("general.architecture", "llama\n"), "\"llama \", expected"},
      {text("clip.projector_type", "mlp"), "clip.projector_type"},
      {text("clip.vision.projector_type", "mlp"), "clip.vision.projector_type"},
      {number("clip.vision.image_size", 0), "image_size is 0"},
      {number("clip.vision.image_size", 897), "multiple of 14"},
      {number("clip.vision.image_size", 1 << 20), "image_size"},
      {number("clip.vision.image_size", 14 * 62), "multiple of 4"},
      {number("clip.vision.image_size", 448), "64 soft tokens"},
      {number("clip.vision.patch_size", 0), "patch_size"},
      {number("clip.vision.embedding_length", 0), "embedding_length"},
      {number("clip.vision.attention.head_count", 0), "attention.head_count"},
      {number("clip.vision.attention.head_count", 7), "attention.head_count"},
      {number("clip.vision.block_count", 0), "block_count"},
      {number("clip.vision.block_count", 100000), "block_count"},
      {number("clip.vision.projector.scale_factor", 0), "scale_factor"},
      {colours("clip.vision.image_mean", {0.5F, 0.5F}), "2 values"},
      {colours("clip.vision.image_mean", {0.5F, 0.5F, std::nanf("")}), "image_mean"},
      {colours("clip.vision.image_std", {0.5F, 0.5F, 0.0F}), "image_std"},
      {text("clip.vision.image_size", "896"), "image_size"},
      {[](test::GgufBuilder& file) {
         file.set_f32("clip.vision.attention.layer_norm_epsilon", -1.0F);
       },
       "layer_norm_epsilon is -1"},
      {[](test::GgufBuilder& file) {
         file.set("clip.vision.attention.layer_norm_epsilon", 12, test::number_bytes(1e-320));
       },
       "layer_norm_epsilon is 9.99989e-321"},
  };
  for (const auto& [change, part] : changes) {
    test::GgufBuilder file = vision_header();
    change(file);
    const Error error = thrown_error([&] { config_of(file); });
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    EXPECT_TRUE(contains(error.what(), part)) << part << ": " << error.what();
    EXPECT_FALSE(contains(error.what(), "\n"));
  }
  const test::GgufBuilder whole = vision_header();
  for (const test::GgufBuilder::Key& key : whole.keys) {
    test::GgufBuilder file = whole;
    file.remove_key(key.name);
    const Error error = thrown_error([&] { config_of(file); });
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    EXPECT_TRUE(contains(error.what(), key.name)) << key.name << ": " << error.what();
  }
}

TEST(VisionFile, IsReadWithTheModel) {
  const Model model = Model::load(kTiny, {.vision = kVision});
  ASSERT_NE(model.vision(), nullptr);
  EXPECT_EQ(model.vision()->path, kVision);
  EXPECT_EQ(model.vision()->layers, 2);
  EXPECT_EQ(model.vision()->tokens, 256);
  EXPECT_EQ(model.vision()->text_width, model.info().width);
  EXPECT_EQ(model.vision()->file_bytes, fs::file_size(kVision));
  EXPECT_GT(model.vision()->parameters, 400'000U);
  EXPECT_EQ(tiny_model().vision(), nullptr);
}

TEST(VisionFile, OfAnotherModelIsRefusedBeforeWeightsAreRead) {
  const test::TempFile other(vision_header(128).build());
  bool progressed = false;
  const auto load = [&](const std::string& vision) {
    return thrown_error([&] {
      Model::load(kTiny, {.progress = [&](std::uint64_t, std::uint64_t) { progressed = true; },
                          .vision = vision});
    });
  };
  const Error error = load(other.path());
  EXPECT_EQ(error.code(), ErrorCode::kFile);
  for (const std::string& part : {other.path(), kTiny, std::string("128"), std::string("64")})
    EXPECT_TRUE(contains(error.what(), part)) << error.what();
  EXPECT_EQ(load(kTiny).code(), ErrorCode::kFile);
  EXPECT_EQ(load("/no/such/mmproj.gguf").code(), ErrorCode::kFile);
  EXPECT_FALSE(progressed);
}

/// A folder of its own with a copy of the tiny model in it.
class FindVisionFile : public ::testing::Test {
 protected:
  void SetUp() override {
    const test::TempFile name;
    folder_ = name.path() + ".folder";
    fs::create_directory(folder_);
    fs::copy_file(kTiny, model());
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string model() const { return (folder_ / "model.gguf").string(); }
  std::string put(const std::string& name, const std::string& content) const {
    std::ofstream((folder_ / name).string(), std::ios::binary) << content;
    return (folder_ / name).string();
  }

  fs::path folder_;
};

TEST_F(FindVisionFile, TakesTheOneThatFits) {
  EXPECT_EQ(find_vision_file(model()), "");
  put("mmproj-other.gguf", vision_header(128).build());
  put("mmproj-damaged.gguf", vision_header().build().substr(0, 100));
  put("mmproj.txt", vision_header().build());
  put("vision.gguf", vision_header().build());
  EXPECT_EQ(find_vision_file(model()), "");
  const std::string fitting = put("tiny-MMProj-f16.gguf", vision_header().build());
  EXPECT_EQ(find_vision_file(model()), fitting);
  put("mmproj-too.gguf", vision_header().build());
  EXPECT_EQ(find_vision_file(model()), "") << "two of them fit";
}

TEST_F(FindVisionFile, GivesNothingWithoutAModel) {
  put("mmproj.gguf", vision_header().build());
  EXPECT_NE(find_vision_file(model()), "");
  EXPECT_EQ(find_vision_file((folder_ / "none.gguf").string()), "");
  EXPECT_EQ(find_vision_file("/no/such/folder/model.gguf"), "");
}

TEST_F(FindVisionFile, LooksInTheCurrentFolderForABareName) {
  put("mmproj.gguf", vision_header().build());
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  const std::string found = find_vision_file("model.gguf");
  fs::current_path(before);
  EXPECT_EQ(found, "mmproj.gguf");
}

}  // namespace
}  // namespace lapidary::testing
