#include <algorithm>

#include "bench.h"
#include "json.h"
#include "terminal.h"
#include "text.h"

namespace cli {

namespace {

constexpr int kSize = 896;  // Of the published models' views: nothing has to be resized.

// Gradients under a little noise, the same ones always: neither flat nor noise alone.
lapidary::Image built_in_picture() {
  std::vector<std::uint8_t> rgb;
  rgb.reserve(std::size_t{3} * kSize * kSize);
  std::uint32_t state = 1;
  const auto pixel = [&](int value) {
    state = state * 1664525U + 1013904223U;
    const int noise = static_cast<int>(state >> 27U) - 16;
    rgb.push_back(static_cast<std::uint8_t>(std::clamp(value + noise, 0, 255)));
  };
  for (int y = 0; y < kSize; ++y) {
    for (int x = 0; x < kSize; ++x) {
      pixel(x * 255 / (kSize - 1));
      pixel(y * 255 / (kSize - 1));
      pixel((x + y) * 255 / (2 * kSize - 2));
    }
  }
  return lapidary::Image::from_rgb(kSize, kSize, rgb);
}

std::string table_row(const Json& test) {
  return format("%-8s %5d tokens of %d x %d: %8.2f s (%.2f to %.2f), features %s\n",
                test["test"].get<std::string>().c_str(), test["tokens"].get<int>(),
                test["width"].get<int>(), test["height"].get<int>(), test["seconds"].get<double>(),
                test["lowest"].get<double>(), test["highest"].get<double>(),
                test["hash"].get<std::string>().c_str());
}

}  // namespace

int bench_image(const ModelFlags& flags, ImageFlags images, int rounds, bool json) {
  images.cache_bytes = 0;
  const lapidary::Model model =
      load_model(flags, images, Vision::kNeeded, {.screened_head = false});
  hold_interrupts(Interrupts::kStop);
  const lapidary::Image picture = built_in_picture();
  lapidary::ImageEncoder encoder(model,
                                 {.threads = flags.threads, .memory_limit = flags.memory_limit});
  {
    ProgressBar bar("loading vision", flags.quiet);
    encoder.load(bar.callback());
  }
  ProgressBar bar("encoding", flags.quiet);
  const auto encode = [&] { return encoder.encode(picture, {}, bar.callback(), &interrupted); };
  // A pass can take a minute: where one is enough, there is none to warm up.
  if (rounds > 1) encode();
  std::vector<double> seconds;
  lapidary::ImageFeatures features;
  for (int round = 0; round < rounds; ++round) {
    const double start = now();
    features = encode().features.front();
    seconds.push_back(now() - start);
  }
  bar.finish();

  const auto [low, high] = std::minmax_element(seconds.begin(), seconds.end());
  Json object;
  object["test"] = "image";
  object["seconds"] = median(seconds);
  object["lowest"] = *low;
  object["highest"] = *high;
  object["width"] = picture.width();
  object["height"] = picture.height();
  object["tokens"] = features.tokens;
  object["rounds"] = rounds;
  // The encoder does not say how many it took: as many as any session takes.
  object["threads"] = lapidary::Session(model, {.context = 1, .threads = flags.threads}).threads();
  object["isa"] = model.isa();
  object["hash"] = format("%016llx", static_cast<unsigned long long>(hash_of(*features.values)));
  Output output;
  output.write(json ? to_line(object) + "\n" : table_row(object));
  output.check();
  return 0;
}

}  // namespace cli
