#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lapidary/error.h"
#include "lapidary/image.h"
#include "test_data.h"

namespace lapidary {
namespace {

using Views = std::vector<ImageView>;

ImageOptions pan_and_scan() {
  ImageOptions options;
  options.pan_and_scan = true;
  return options;
}

ImageOptions auto_tiles() {
  ImageOptions options;
  options.auto_tiles = true;
  return options;
}

ImageOptions grid(int columns, int rows) {
  ImageOptions options;
  options.tile_columns = columns;
  options.tile_rows = rows;
  return options;
}

std::size_t crops(int width, int height, const ImageOptions& options) {
  return image_views(width, height, options).size() - 1;
}

/// That the crops cover the picture, each pixel once, in reading order.
void expect_cover(int width, int height, const Views& views) {
  ASSERT_EQ(views.at(0), (ImageView{0, 0, width, height}));
  std::int64_t area = 0;
  for (std::size_t i = 1; i < views.size(); ++i) {
    const ImageView& view = views[i];
    EXPECT_TRUE(view.x >= 0 && view.y >= 0 && view.width > 0 && view.height > 0);
    EXPECT_LE(view.x + view.width, width);
    EXPECT_LE(view.y + view.height, height);
    area += std::int64_t{view.width} * view.height;
    if (i == 1) continue;
    const ImageView& before = views[i - 1];
    const bool right_of = view.y == before.y && view.x == before.x + before.width;
    const bool next_row =
        view.x == 0 && view.y == before.y + before.height && before.x + before.width == width;
    EXPECT_TRUE(right_of || next_row) << width << 'x' << height << " crop " << i;
  }
  if (views.size() > 1) {
    EXPECT_EQ(area, std::int64_t{width} * height);
  }
}

TEST(Views, OnlyTheWholePictureUnlessAsked) {
  EXPECT_EQ(image_views(4000, 100, {}), (Views{{0, 0, 4000, 100}}));
  EXPECT_EQ(image_views(1, 1, {}), (Views{{0, 0, 1, 1}}));
}

TEST(PanAndScan, AsManyViewsAsTheGoldenPictures) {
  std::ifstream file(test_data("vision/vision.jsonl"));
  int cut = 0;
  for (std::string line; std::getline(file, line);) {
    const auto golden = nlohmann::json::parse(line);
    if (!golden.contains("size_wh")) continue;
    ImageOptions options;
    options.pan_and_scan = golden.at("pan_and_scan");
    const Views views = image_views(golden.at("size_wh")[0], golden.at("size_wh")[1], options);
    EXPECT_EQ(views.size(), golden.at("images_to_encoder")) << golden.at("image");
    if (views.size() > 1) ++cut;
  }
  EXPECT_EQ(cut, 2);
}

TEST(PanAndScan, CutsStripsTheLastOneAtTheBorder) {
  EXPECT_EQ(image_views(1600, 500, pan_and_scan()),
            (Views{{0, 0, 1600, 500}, {0, 0, 534, 500}, {534, 0, 534, 500}, {1068, 0, 532, 500}}));
  EXPECT_EQ(image_views(420, 1000, pan_and_scan()),
            (Views{{0, 0, 420, 1000}, {0, 0, 420, 500}, {0, 500, 420, 500}}));
}

TEST(PanAndScan, BeginsAtTheRatioItself) {
  EXPECT_EQ(crops(1200, 1000, pan_and_scan()), 2U);
  EXPECT_EQ(crops(1199, 1000, pan_and_scan()), 0U);
  EXPECT_EQ(crops(1000, 1200, pan_and_scan()), 2U);
  EXPECT_EQ(crops(1000, 1199, pan_and_scan()), 0U);
  ImageOptions always = pan_and_scan();
  always.min_ratio = 1.0;
  EXPECT_EQ(image_views(600, 600, always),
            (Views{{0, 0, 600, 600}, {0, 0, 300, 600}, {300, 0, 300, 600}}));
}

TEST(PanAndScan, RoundsTheNumberOfStripsAndKeepsItInBounds) {
  EXPECT_EQ(crops(2499, 1000, pan_and_scan()), 2U);  // Half rounds up.
  EXPECT_EQ(crops(2500, 1000, pan_and_scan()), 3U);
  EXPECT_EQ(crops(9000, 1000, pan_and_scan()), 4U);  // max_crops
  ImageOptions many = pan_and_scan();
  many.max_crops = 7;
  EXPECT_EQ(crops(9000, 1000, many), 7U);
  EXPECT_EQ(crops(900, 256, pan_and_scan()), 3U);  // Four would be under min_crop.
}

TEST(PanAndScan, CutsNothingWhereAStripWouldBeTooSmall) {
  EXPECT_EQ(crops(511, 300, pan_and_scan()), 2U);  // Half of 511, rounded up.
  EXPECT_EQ(crops(510, 300, pan_and_scan()), 0U);
  EXPECT_EQ(crops(3000, 256, pan_and_scan()), 4U);
  EXPECT_EQ(crops(3000, 255, pan_and_scan()), 0U);
  EXPECT_EQ(crops(255, 3000, pan_and_scan()), 0U);
  ImageOptions small = pan_and_scan();
  small.min_crop = 2;
  EXPECT_EQ(crops(9, 3, small), 3U);
  small.min_crop = 1;  // Four strips of two pixels: three cover five pixels.
  const Views views = image_views(5, 1, small);
  expect_cover(5, 1, views);
  EXPECT_EQ(views.size(), 4U);
}

TEST(Tiles, AGridInReadingOrder) {
  EXPECT_EQ(image_views(100, 50, grid(3, 2)), (Views{{0, 0, 100, 50},
                                                     {0, 0, 34, 25},
                                                     {34, 0, 34, 25},
                                                     {68, 0, 32, 25},
                                                     {0, 25, 34, 25},
                                                     {34, 25, 34, 25},
                                                     {68, 25, 32, 25}}));
  EXPECT_EQ(crops(100, 50, grid(1, 1)), 0U);           // It would be the whole again.
  EXPECT_EQ(crops(100, 50, grid(16, 16)), 15U * 13U);  // Of 7x4 pixels.
  EXPECT_EQ(crops(2, 2, grid(9, 9)), 4U);
}

TEST(Tiles, NoneWhereThePictureIsAboutOneTile) {
  for (const int size : {1, 300, 896, 900, 1120}) EXPECT_EQ(crops(size, size, auto_tiles()), 0U);
  EXPECT_EQ(crops(1120, 300, auto_tiles()), 0U);
  EXPECT_EQ(crops(1121, 1121, auto_tiles()), 4U);
}

TEST(Tiles, OfScansKeepTheirPixels) {
  EXPECT_EQ(crops(1240, 1754, auto_tiles()), 4U);   // A4 at 150 dots an inch: 2 x 2.
  EXPECT_EQ(crops(2480, 3508, auto_tiles()), 12U);  // At 300: 3 x 4 of 827x877.
  // At 600 the limit of 16 counts: 3 x 5.
  EXPECT_EQ(image_views(4960, 7016, auto_tiles()).at(1), (ImageView{0, 0, 1654, 1404}));
  EXPECT_EQ(crops(4960, 7016, auto_tiles()), 15U);
  ImageOptions all = auto_tiles();
  all.max_tiles = 64;
  EXPECT_EQ(crops(4960, 7016, all), 35U);  // 5 x 7 of 992x1003.
  all.max_tiles = 1;
  EXPECT_EQ(crops(4960, 7016, all), 0U);
  EXPECT_EQ(crops(400, 2000, auto_tiles()), 4U);  // A receipt.
  EXPECT_EQ(crops(255, 2000, auto_tiles()), 0U);  // Narrower than min_crop.
}

TEST(Tiles, KeepTheirBoundsWhateverThePicture) {
  for (const int min_crop : {1, 7, 256, 800}) {
    for (const int max_tiles : {1, 2, 5, 16, 100}) {
      ImageOptions options = auto_tiles();
      options.min_crop = min_crop;
      options.max_tiles = max_tiles;
      for (const int width : {1, 5, 255, 256, 257, 511, 513, 1000, 1121, 1793, 4001, 13000}) {
        for (const int height : {1, 6, 254, 256, 300, 800, 895, 1119, 1600, 2241, 7016}) {
          const Views views = image_views(width, height, options);
          expect_cover(width, height, views);
          EXPECT_LE(views.size(), static_cast<std::size_t>(max_tiles) + 1);
          for (std::size_t i = 1; i < views.size(); ++i) {
            EXPECT_GE(std::min(views[i].width, views[i].height), min_crop)
                << width << 'x' << height << " max_tiles " << max_tiles;
          }
        }
      }
    }
  }
}

TEST(Tiles, AreNotMuchLongerThanWideWhereTheLimitAllows) {
  ImageOptions options = auto_tiles();
  options.max_tiles = 256;
  for (int width = 256; width < 5000; width += 97) {
    for (int height = 256; height < 5000; height += 113) {
      const Views views = image_views(width, height, options);
      if (views.size() == 1) {
        EXPECT_TRUE(std::max(width, height) <= 1120);
        continue;
      }
      const auto [shorter, longer] = std::minmax({views[1].width, views[1].height});
      EXPECT_LE(longer, 1120);
      EXPECT_LE(longer, 2 * shorter) << width << 'x' << height;
    }
  }
}

template <class Change>
void expect_usage_error(const std::string& text, Change&& change) {
  ImageOptions options;
  change(options);
  try {
    image_views(2000, 1000, options);
    ADD_FAILURE() << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

TEST(Views, OptionsOutOfRangeAreNamed) {
  for (const int value :
       {0, -1, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()}) {
    expect_usage_error("least side of a strip", [&](ImageOptions& o) { o.min_crop = value; });
    expect_usage_error("number of strips", [&](ImageOptions& o) { o.max_crops = value; });
    expect_usage_error("number of tiles", [&](ImageOptions& o) { o.max_tiles = value; });
  }
  expect_usage_error("number of strips", [](ImageOptions& o) { o.max_crops = 1; });
  for (const double value :
       {0.0, 0.99, -2.0, std::nan(""), std::numeric_limits<double>::infinity()})
    expect_usage_error("ratio of sides", [&](ImageOptions& o) { o.min_ratio = value; });
  for (const int value : {-1, 257, std::numeric_limits<int>::max()}) {
    expect_usage_error("number of columns", [&](ImageOptions& o) {
      o.tile_columns = value;
      o.tile_rows = 1;
    });
    expect_usage_error("number of rows", [&](ImageOptions& o) {
      o.tile_columns = 1;
      o.tile_rows = value;
    });
  }
  expect_usage_error("number of rows", [](ImageOptions& o) { o.tile_columns = 3; });
  expect_usage_error("number of columns", [](ImageOptions& o) { o.tile_rows = 3; });
  expect_usage_error("number of tiles", [](ImageOptions& o) { o.tile_columns = o.tile_rows = 17; });
}

TEST(Views, OnlyOneWayOfCutting) {
  expect_usage_error("strips and tiles",
                     [](ImageOptions& o) { o.pan_and_scan = o.auto_tiles = true; });
  expect_usage_error("strips and tiles", [](ImageOptions& o) {
    o.pan_and_scan = true;
    o.tile_columns = o.tile_rows = 2;
  });
  expect_usage_error("a grid is chosen by the picture or given", [](ImageOptions& o) {
    o.auto_tiles = true;
    o.tile_columns = o.tile_rows = 2;
  });
  for (const auto& [width, height] : {std::pair{0, 5}, {5, 0}, {-3, 5}})
    EXPECT_THROW(image_views(width, height, {}), Error);
}

}  // namespace
}  // namespace lapidary
