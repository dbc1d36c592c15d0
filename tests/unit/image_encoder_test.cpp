// Pictures through the public interface: the reference's features, the cache, and sessions.

#include <filesystem>
#include <fstream>
#include <thread>

#include "kernels/half.h"
#include "model_fixture.h"
#include "test_data.h"
#include "vision_builder.h"

namespace lapidary::testing {
namespace {

namespace fs = std::filesystem;

const std::string kText = test_data("tiny-gemma3-text-bf16.gguf");
const std::string kVision = test_data("tiny-gemma3-mmproj-f16.gguf");

Model load(ModelOptions options = {}) {
  options.vision = kVision;
  return Model::load(kText, options);
}

/// With an encoder that takes milliseconds: one patch a soft token.
Model load_quick(ModelOptions options = {}) {
  static const test::TempFile vision(test::tiny_vision().build());
  options.vision = vision.path();
  return Model::load(kText, options);
}

Image golden_picture(const std::string& name) {
  // Alpha dropped, as in the reference.
  return Image::load(test_data("vision/images/" + name), {.alpha = ImageLoadOptions::Alpha::kDrop});
}

/// A small picture that is quick to make and to tell from others.
Image plain_picture(std::uint8_t shade) {
  std::vector<std::uint8_t> rgb(64 * 48 * 3);
  for (std::size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<std::uint8_t>(shade + i % 97);
  return Image::from_rgb(64, 48, rgb);
}

bool same(const EncodedImage& a, const EncodedImage& b) {
  if (a.features.size() != b.features.size()) return false;
  for (std::size_t i = 0; i < a.features.size(); ++i) {
    if (*a.features[i].values != *b.features[i].values) return false;
  }
  return true;
}

/// A folder that goes away with the test.
class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("lapidary-cache-" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string path() const { return path_.string(); }
  std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    for (const auto& entry : fs::directory_iterator(path_)) out.push_back(entry.path());
    return out;
  }

 private:
  fs::path path_;
};

struct GoldenPicture {
  std::string file;
  bool pan_and_scan;
};

class GoldenFeatures : public ::testing::TestWithParam<GoldenPicture> {};

TEST_P(GoldenFeatures, AreTheReferences) {
  const auto& [file, pan_and_scan] = GetParam();
  const fs::path name(file);
  std::ifstream in(
      test_data("vision/" + name.stem().string() + (pan_and_scan ? "_pas" : "") + ".features.f16"),
      std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  ImageEncoder encoder(load());
  const EncodedImage got = encoder.encode(golden_picture(file), {.pan_and_scan = pan_and_scan});
  ASSERT_EQ(got.features.size() * 256 * 64 * 2, bytes.size());
  double error = 0, length = 0;
  const char* at = bytes.data();
  for (const ImageFeatures& features : got.features) {
    EXPECT_EQ(features.tokens, 256);
    EXPECT_EQ(features.width, 64);
    for (const float v : *features.values) {
      std::uint16_t half;
      std::memcpy(&half, at, 2);
      at += 2;
      const double want = kernels::half_to_float(half);
      error += (v - want) * (v - want);
      length += want * want;
    }
  }
  // JPEG decoders differ by a few levels.
  EXPECT_LT(std::sqrt(error / length), name.extension() == ".png" ? 0.001 : 0.02);
}
INSTANTIATE_TEST_SUITE_P(
    Each, GoldenFeatures,
    ::testing::Values(GoldenPicture{"china_png.png", false}, GoldenPicture{"gray.png", false},
                      GoldenPicture{"rgba.png", false}, GoldenPicture{"tiny_5x3.png", false},
                      GoldenPicture{"hopper.jpg", false}, GoldenPicture{"exif6.jpg", false},
                      GoldenPicture{"progressive.jpg", false},
                      GoldenPicture{"wide_1600x500.png", true},
                      GoldenPicture{"tall_420x1000.jpg", true}),
    [](const auto& picture) {
      std::string name = fs::path(picture.param.file).stem().string();
      return name + (picture.param.pan_and_scan ? "_pas" : "");
    });

TEST(ImageEncoder, ReportsEveryLayerOfEveryView) {
  ImageEncoder encoder(load());
  std::vector<std::uint64_t> done;
  const auto progress = [&](std::uint64_t n, std::uint64_t total) {
    EXPECT_EQ(total, 8U);  // Two layers of four views.
    done.push_back(n);
  };
  const EncodedImage image =
      encoder.encode(golden_picture("wide_1600x500.png"), {.pan_and_scan = true}, progress);
  EXPECT_EQ(done, (std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_GT(image.seconds, 0);
  EXPECT_EQ(image.views.front(), (ImageView{0, 0, 1600, 500}));
}

TEST(ImageEncoder, StopsWhenAsked) {
  ImageEncoder encoder(load_quick());
  std::atomic<bool> cancel{false};
  const auto stop = [&](std::uint64_t, std::uint64_t) { cancel = true; };
  const Error error = thrown_error([&] { encoder.encode(plain_picture(1), {}, stop, &cancel); });
  EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  EXPECT_TRUE(contains(error.what(), "1 of 2 layers")) << error.what();
}

TEST(ImageEncoder, NeedsAVisionFile) {
  const Error error = thrown_error([] { ImageEncoder encoder(tiny_model()); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  EXPECT_TRUE(contains(error.what(), "vision file")) << error.what();
}

TEST(ImageEncoder, RefusesWhatExceedsTheMemoryLimit) {
  const Model model = load_quick();
  const std::uint64_t weights = model.info().weight_bytes + model.info().vocabulary_bytes;
  ImageEncoder small(model, {.memory_limit = weights + 1000});
  const Error error = thrown_error([&] { small.encode(plain_picture(1)); });
  EXPECT_EQ(error.code(), ErrorCode::kMemory);
  EXPECT_TRUE(contains(error.what(), "vision model")) << error.what();
  const std::uint64_t both = weights + model.vision()->weight_bytes;
  ImageEncoder larger(model, {.memory_limit = both + 1000});
  EXPECT_EQ(thrown_error([&] { larger.encode(plain_picture(1)); }).code(), ErrorCode::kMemory);
  ImageEncoder enough(model, {.memory_limit = both + larger.memory_bytes()});
  EXPECT_EQ(enough.encode(plain_picture(1)).features.size(), 1U);
  ImageEncoder beside(model, {.memory_limit = both + larger.memory_bytes(), .held_bytes = 1});
  EXPECT_EQ(thrown_error([&] { beside.encode(plain_picture(2)); }).code(), ErrorCode::kMemory);
  // A session counts its own cache and buffers.
  const std::uint64_t own = Session(model, {.context = 512}).memory_bytes();
  const std::uint64_t all = both + larger.memory_bytes() + own;
  Session session(model, {.context = 512, .memory_limit = all});
  session.add_user("Hm?", {plain_picture(3)});
  Session tight(model, {.context = 512, .memory_limit = all - 1});
  EXPECT_EQ(thrown_error([&] { tight.add_user("Hm?", {plain_picture(4)}); }).code(),
            ErrorCode::kMemory);
}

TEST(FeatureCache, KeepsWhatFitsItsBudget) {
  // Room for two pictures of 256 × 64 floats.
  ImageEncoder encoder(load_quick({.image_cache_bytes = 2 * 256 * 64 * 4}));
  const EncodedImage first = encoder.encode(plain_picture(1));
  EXPECT_EQ(first.cached, 0);
  const EncodedImage again = encoder.encode(plain_picture(1));
  EXPECT_EQ(again.cached, 1);
  EXPECT_TRUE(same(again, first));
  encoder.encode(plain_picture(2));
  EXPECT_EQ(encoder.encode(plain_picture(1)).cached, 1);  // Used last: the next drops the other.
  encoder.encode(plain_picture(3));
  EXPECT_EQ(encoder.encode(plain_picture(1)).cached, 1);
  EXPECT_EQ(encoder.encode(plain_picture(2)).cached, 0);
  ImageEncoder forgetful(load_quick({.image_cache_bytes = 0}));
  forgetful.encode(plain_picture(1));
  EXPECT_EQ(forgetful.encode(plain_picture(1)).cached, 0);
}

TEST(FeatureCache, TellsViewsApartAndSharesTheWhole) {
  ImageEncoder encoder(load_quick());
  const Image wide = golden_picture("wide_1600x500.png");
  EXPECT_EQ(encoder.encode(wide).cached, 0);
  const EncodedImage cut = encoder.encode(wide, {.pan_and_scan = true});
  EXPECT_EQ(cut.cached, 1);
  EXPECT_EQ(cut.features.size(), 4U);
  EXPECT_NE(*cut.features[1].values, *cut.features[2].values);
}

TEST(FeatureCache, IsSharedThroughAFolder) {
  const Folder folder;
  const ModelOptions options{.image_cache_folder = folder.path()};
  const EncodedImage first = ImageEncoder(load_quick(options)).encode(plain_picture(1));
  ASSERT_EQ(folder.files().size(), 1U);
  const EncodedImage second = ImageEncoder(load_quick(options)).encode(plain_picture(1));
  EXPECT_EQ(second.cached, 1);
  EXPECT_TRUE(same(second, first));
  // Another instruction set's features count as others, though they are the same bits.
  ModelOptions scalar = options;
  scalar.isa = "scalar";
  if (load_quick().isa() != "scalar") {
    const EncodedImage other = ImageEncoder(load_quick(scalar)).encode(plain_picture(1));
    EXPECT_EQ(other.cached, 0);
    EXPECT_TRUE(same(other, first));
  }
}

TEST(FeatureCache, TakesADamagedFileForNone) {
  const Folder folder;
  const ModelOptions options{.image_cache_folder = folder.path()};
  const EncodedImage first = ImageEncoder(load_quick(options)).encode(plain_picture(1));
  const fs::path file = folder.files().at(0);
  const std::uintmax_t size = fs::file_size(file);
  const auto damages = {
      std::function<void()>([&] { fs::resize_file(file, size - 1); }),
      std::function<void()>([&] { fs::resize_file(file, 0); }),
      std::function<void()>([&] {
        std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
        out.seekp(static_cast<std::streamoff>(size / 2));
        const char byte = static_cast<char>(out.peek() ^ 1);
        out.write(&byte, 1);
      }),
  };
  for (const auto& damage : damages) {
    damage();
    const EncodedImage again = ImageEncoder(load_quick(options)).encode(plain_picture(1));
    EXPECT_EQ(again.cached, 0);
    EXPECT_TRUE(same(again, first));
    EXPECT_EQ(folder.files().size(), 1U);  // Written again, and no rest of it beside.
    EXPECT_EQ(ImageEncoder(load_quick(options)).encode(plain_picture(1)).cached, 1);
  }
}

TEST(FeatureCache, WorksWhereItsFolderCannotBeWritten) {
  const Folder folder;
  const Model model = load_quick({.image_cache_folder = folder.path()});
  fs::remove_all(folder.path());
  EXPECT_EQ(ImageEncoder(model).encode(plain_picture(1)).cached, 0);
  std::ofstream(folder.path()) << "in the way";
  const Error error = thrown_error([&] { load_quick({.image_cache_folder = folder.path()}); });
  EXPECT_EQ(error.code(), ErrorCode::kFile);
  EXPECT_TRUE(contains(error.what(), folder.path())) << error.what();
}

TEST(ImageEncoder, OneModelServesSeveralThreads) {
  const Model model = load_quick();
  const EncodedImage want = ImageEncoder(load_quick(), {.threads = 1}).encode(plain_picture(9));
  std::vector<EncodedImage> got(3);
  std::vector<std::thread> threads;
  for (EncodedImage& out : got) {
    threads.emplace_back(
        [&] { out = ImageEncoder(model, {.threads = 1}).encode(plain_picture(9)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const EncodedImage& out : got) EXPECT_TRUE(same(out, want));
}

TEST(Session, TakesPicturesWithAUserTurn) {
  const Model model = load();
  const Image hopper = golden_picture("hopper.jpg"), china = golden_picture("china_png.png");
  Session session(model, {.context = 2048});
  session.add_user("What are these?", {hopper, china}, "Be brief.");
  const GenerateOptions greedy{.max_tokens = 4, .sampling = {.temperature = 0}};
  const Completion reply = session.reply_to_end(greedy);
  session.add_user("And this?", {china});
  const Completion second = session.reply_to_end(greedy);

  ImageEncoder encoder(model);
  std::vector<Message> messages(2);
  messages[0] = {"system", "Be brief."};
  messages[1].role = "user";
  messages[1].parts = {
      {{}, encoder.encode(hopper)}, {{}, encoder.encode(china)}, {"What are these?", {}}};
  Session other(model, {.context = 2048, .chunk = 100, .threads = 1});
  other.append(chat_prompt(model.tokenizer(), messages));
  EXPECT_EQ(other.generate(greedy).ids, reply.ids);
  other.add_user("And this?", {china});
  EXPECT_EQ(other.reply_to_end(greedy).ids, second.ids);
  EXPECT_TRUE(std::ranges::equal(other.ids(), session.ids()));
}

TEST(Session, WithoutAVisionFileRefusesPictures) {
  Session session(tiny_model(), {.context = 512});
  const Error error = thrown_error([&] { session.add_user("Hm?", {plain_picture(1)}); });
  EXPECT_EQ(error.code(), ErrorCode::kUsage);
  session.add_user("Hello");  // Nothing of the other is left behind.
  EXPECT_EQ(session.reply_to_end({.max_tokens = 1}).usage.completion_tokens, 1);
}

}  // namespace
}  // namespace lapidary::testing
