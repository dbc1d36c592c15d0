#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/boundary.h"
#include "base/format.h"
#include "lapidary/error.h"
#include "lapidary/image.h"

namespace lapidary {
namespace {

constexpr int kMaxViews = 256;  // Of one picture: 65,536 tokens.
constexpr int kMaxSide = 100'000'000;

// Auto tiles: a tile may be a quarter longer than the encoder's picture, which then shrinks it by a
// fifth: print stays as sharp as it was, near enough, and a picture that hardly exceeds one tile is
// not cut into four.
constexpr int kLongestTile = 896 * 5 / 4;

// Auto tiles: the encoder sees every tile as a square, so none is much longer than wide.
constexpr double kTileRatio = 1.5;

struct Grid {
  int columns = 0;
  int rows = 0;
};

void check_range(const char* option, int value, int least, int most) {
  if (value >= least && value <= most) return;
  throw Error(ErrorCode::kUsage, format("{} must be {} to {}, not {}", option, least, most, value));
}

void check(int width, int height, const ImageOptions& o) {
  if (width < 1 || height < 1) {
    throw Error(ErrorCode::kUsage,
                format("a picture must have at least one pixel, not {}x{}", width, height));
  }
  check_range("the least side of a strip", o.min_crop, 1, kMaxSide);
  check_range("the number of strips", o.max_crops, 2, kMaxViews);
  check_range("the number of tiles", o.max_tiles, 1, kMaxViews);
  if (!(o.min_ratio >= 1.0 && std::isfinite(o.min_ratio))) {
    throw Error(ErrorCode::kUsage,
                format("the ratio of sides must be a number of at least 1, not {}", o.min_ratio));
  }
  const bool grid = o.tile_columns != 0 || o.tile_rows != 0;
  if (grid) {
    check_range("the number of columns", o.tile_columns, 1, kMaxViews);
    check_range("the number of rows", o.tile_rows, 1, kMaxViews);
    check_range("the number of tiles", o.tile_columns * o.tile_rows, 1, kMaxViews);
  }
  if (grid && o.auto_tiles) {
    throw Error(ErrorCode::kUsage, "a grid is chosen by the picture or given, not both");
  }
  if (o.pan_and_scan && (grid || o.auto_tiles)) {
    throw Error(ErrorCode::kUsage,
                "strips and tiles cut the same picture: only one of them can be chosen");
  }
}

int divide_up(int n, int parts) { return (n - 1) / parts + 1; }

/// Strips along the longer side, or none: transformers' Gemma3ImageProcessor.
Grid pan_and_scan(int width, int height, const ImageOptions& options) {
  const bool wide = width >= height;
  const int longer = std::max(width, height), shorter = std::min(width, height);
  const double ratio = static_cast<double>(longer) / shorter;
  if (ratio < options.min_ratio) return {};
  int strips = std::min(longer / options.min_crop, static_cast<int>(std::floor(ratio + 0.5)));
  strips = std::min(std::max(strips, 2), options.max_crops);
  if (std::min(divide_up(longer, strips), shorter) < options.min_crop) return {};
  return wide ? Grid{strips, 1} : Grid{1, strips};
}

/// The most parts of at least `least` pixels, up to `parts`; the last one is the smallest.
int parts_of_at_least(int n, int parts, int least) {
  parts = std::min(parts, n / least);
  while (parts > 1 && n - (parts - 1) * divide_up(n, parts) < least) --parts;
  return parts;
}

/// The smallest grid whose tiles keep their pixels; where that is over max_tiles, the one that
/// loses the least: whose longest side is shortest, then its other side.
Grid auto_grid(int width, int height, const ImageOptions& options) {
  if (std::max(width, height) <= kLongestTile) return {};
  if (std::min(width, height) < options.min_crop) return {};
  const int side =
      std::min(kLongestTile, static_cast<int>(std::ceil(kTileRatio * std::min(width, height))));
  const int most_columns = divide_up(width, side), most_rows = divide_up(height, side);
  const auto sides = [&](const Grid& grid) {
    return std::minmax({divide_up(width, grid.columns), divide_up(height, grid.rows)});
  };
  Grid best{1, 1};
  for (int columns = 1; columns <= std::min(most_columns, options.max_tiles); ++columns) {
    if (parts_of_at_least(width, columns, options.min_crop) != columns) continue;
    const int rows = std::min(most_rows, options.max_tiles / columns);
    const Grid grid{columns, parts_of_at_least(height, rows, options.min_crop)};
    const auto [shorter, longer] = sides(grid);
    const auto [best_shorter, best_longer] = sides(best);
    if (longer < best_longer || (longer == best_longer && shorter < best_shorter)) best = grid;
  }
  return best;
}

/// Tiles in reading order, as large as the first one but for those that the border cuts. A picture
/// with fewer pixels than tiles has fewer tiles.
void cut(int width, int height, const Grid& grid, std::vector<ImageView>& views) {
  const int tile_width = divide_up(width, grid.columns), tile_height = divide_up(height, grid.rows);
  for (int y = 0; y < height; y += tile_height) {
    for (int x = 0; x < width; x += tile_width) {
      views.push_back({x, y, std::min(tile_width, width - x), std::min(tile_height, height - y)});
    }
  }
}

}  // namespace

std::vector<ImageView> image_views(int width, int height, const ImageOptions& options) {
  return at_boundary([&] {
    check(width, height, options);
    Grid grid{options.tile_columns, options.tile_rows};
    if (options.pan_and_scan) grid = pan_and_scan(width, height, options);
    if (options.auto_tiles) grid = auto_grid(width, height, options);
    std::vector<ImageView> views{{0, 0, width, height}};
    if (grid.columns > 1 || grid.rows > 1) cut(width, height, grid, views);
    return views;
  });
}

}  // namespace lapidary
