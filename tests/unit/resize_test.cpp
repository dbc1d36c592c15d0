#include "vision/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "lapidary/error.h"
#include "test_data.h"

namespace lapidary {
namespace {

using Bytes = std::vector<std::uint8_t>;

std::string fnv(std::span<const std::uint8_t> bytes) {
  std::uint64_t state = 0xCBF29CE484222325U;
  for (const std::uint8_t byte : bytes) state = (state ^ byte) * 0x100000001B3U;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(state));
  return text;
}

/// The same as in tests/data/vision/make_resize.py.
Image generate(const std::string& kind, std::uint32_t seed, int width, int height) {
  Bytes rgb;
  rgb.reserve(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
  std::uint32_t index = seed * 0x9E3779B1U;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c, ++index) {
        std::uint32_t bits = (index ^ index >> 16) * 0x7FEB352DU;
        bits = (bits ^ bits >> 15) * 0x846CA68BU;
        bits ^= bits >> 16;
        const int ramp = (x * (c + 1) * 80 / width + y * (3 - c) * 80 / height) & 255;
        const int byte = kind == "noise"   ? static_cast<int>(bits >> 24)
                         : kind == "edges" ? static_cast<int>(bits >> 31) * 255
                                           : std::min(ramp + static_cast<int>(bits >> 29), 255);
        rgb.push_back(static_cast<std::uint8_t>(byte));
      }
    }
  }
  return Image::from_rgb(width, height, rgb);
}

const nlohmann::json& expected() {
  static const auto parsed = [] {
    std::ifstream file(test_data("vision/resize.json"));
    return nlohmann::json::parse(file);
  }();
  return parsed;
}

const nlohmann::json& cases() { return expected().at("cases"); }

Image picture_of(const nlohmann::json& test) {
  return generate(test.at("kind"), test.at("seed"), test.at("picture")[0], test.at("picture")[1]);
}

ImageView view_of(const nlohmann::json& test) {
  const auto& view = test.at("view");
  return {view[0], view[1], view[2], view[3]};
}

TEST(Resize, MakesPillowsBytesWithEveryKernelOnOneThreadAndThree) {
  Team one(1), three(3);
  ASSERT_GT(cases().size(), 90U);
  for (const auto& test : cases()) {
    const Image image = picture_of(test);
    const int width = test.at("size")[0], height = test.at("size")[1];
    for (const kernels::Kernels* table : kernels::available()) {
      for (Team* team : {&one, &three}) {
        Bytes out(static_cast<std::size_t>(width * height * 3) + 16, 0xA5);
        resize(image, view_of(test), width, height, *table, *team, out.data());
        const std::span<const std::uint8_t> picture(out.data(), out.size() - 16);
        EXPECT_EQ(fnv(picture), test.at("hash")) << table->name << ' ' << test;
        EXPECT_TRUE(std::all_of(out.end() - 16, out.end(), [](int byte) { return byte == 0xA5; }))
            << "written past the end: " << test;
      }
    }
  }
}

TEST(EncoderInput, IsTheViewAsASquare) {
  int squares = 0;
  for (const auto& test : cases()) {
    if (test.at("size")[0] != test.at("size")[1]) continue;
    const int size = test.at("size")[0];
    for (const int threads : {1, 2}) {
      const Image input = encoder_input(picture_of(test), view_of(test), size, threads);
      EXPECT_EQ(input.width(), size);
      EXPECT_EQ(input.height(), size);
      EXPECT_EQ(fnv(input.rgb()), test.at("hash")) << test;
    }
    ++squares;
  }
  EXPECT_GT(squares, 20);
}

TEST(EncoderInput, IsTheEncodersSizeUnlessSaidOtherwise) {
  const auto& test = cases().at(1);
  ASSERT_EQ(test.at("size"), nlohmann::json({896, 896}));
  EXPECT_EQ(fnv(encoder_input(picture_of(test), view_of(test)).rgb()), test.at("hash"));
}

TEST(EncoderInput, OfFilesWithPanAndScan) {
  ImageOptions options;
  options.pan_and_scan = true;
  std::size_t inputs = 0;
  for (const auto& [name, hashes] : expected().at("files").items()) {
    const Image image = Image::load(test_data("vision/images/" + name));
    const std::vector<ImageView> views = image_views(image.width(), image.height(), options);
    ASSERT_EQ(views.size(), hashes.size()) << name;
    for (std::size_t i = 0; i < views.size(); ++i, ++inputs)
      EXPECT_EQ(fnv(encoder_input(image, views[i]).rgb()), hashes[i]) << name << " view " << i;
  }
  EXPECT_EQ(inputs, 9U);
}

TEST(EncoderInput, TakesTheKernelsThatTheEnvironmentNames) {
  const auto& test = cases().at(1);
  ::setenv("LAPIDARY_ISA", "scalar", 1);
  EXPECT_EQ(fnv(encoder_input(picture_of(test), view_of(test)).rgb()), test.at("hash"));
  ::setenv("LAPIDARY_ISA", "mmx", 1);
  EXPECT_THROW(encoder_input(picture_of(test), view_of(test)), Error);
  ::unsetenv("LAPIDARY_ISA");
}

void expect_usage_error(const ImageView& view, int size, int threads, const std::string& text) {
  const Image image = generate("noise", 1, 20, 10);
  try {
    encoder_input(image, view, size, threads);
    ADD_FAILURE() << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

TEST(EncoderInput, RefusesViewsOutsideThePicture) {
  constexpr int kMost = std::numeric_limits<int>::max();
  for (const ImageView& view :
       {ImageView{0, 0, 21, 10}, ImageView{0, 0, 20, 11}, ImageView{1, 0, 20, 10},
        ImageView{0, 1, 20, 10}, ImageView{-1, 0, 5, 5}, ImageView{0, -1, 5, 5},
        ImageView{0, 0, 0, 10}, ImageView{0, 0, 20, -1}, ImageView{}, ImageView{kMost, 0, 1, 1},
        ImageView{0, 1, 1, kMost}}) {
    expect_usage_error(view, 8, 1, "20x10");
  }
  expect_usage_error({0, 0, 20, 10}, 0, 1, "not 0");
  expect_usage_error({0, 0, 20, 10}, 10'001, 1, "not 10001");
  expect_usage_error({0, 0, 20, 10}, 8, -1, "-1");
  EXPECT_EQ(encoder_input(generate("noise", 1, 20, 10), {19, 9, 1, 1}, 1, 1).rgb().size(), 3U);
}

}  // namespace
}  // namespace lapidary
