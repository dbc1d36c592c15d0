// The vision encoder: the reference's features, the same bits on every instruction set and number
// of threads, files of every age and weight type, and damaged ones.

#include "vision/encoder.h"

#include <functional>
#include <limits>

#include "kernels/half.h"
#include "model_fixture.h"
#include "vision/vision_config.h"
#include "vision_builder.h"

namespace lapidary::testing {
namespace {

using test::GgufBuilder;
using test::number_bytes;
using test::TempFile;
using test::tiny_vision;

/// A picture of `size` × `size` pixels with edges, gradients and noise.
std::vector<std::uint8_t> picture(int size) {
  test::TinyRandom random(7);
  std::vector<std::uint8_t> rgb;
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      for (int c = 0; c < 3; ++c) {
        const int value = (x * (c + 1) / 2 + y) % 200 + (x / 32 % 2 == 0 ? 40 : 0);
        rgb.push_back(static_cast<std::uint8_t>(value + static_cast<int>(random.below(16))));
      }
    }
  }
  return rgb;
}

std::vector<float> encode(const GgufBuilder& file, int threads = 2, const char* isa = nullptr) {
  const TempFile on_disk(file.build());
  const auto source = open_source(on_disk.path(), Content::kVision);
  const VisionConfig config = read_vision_config(*source);
  const kernels::Kernels& kernels = isa != nullptr ? *kernels::find(isa) : *kernels::best();
  Team team(threads);
  const auto weights = load_vision_weights(*source, config, kernels, team, {});
  Encoder encoder(*weights, team);
  std::vector<float> out(static_cast<std::size_t>(config.tokens() * config.text_width));
  EXPECT_TRUE(encoder.encode(picture(config.image_size), out, [](int) { return true; }));
  return out;
}

double relative_error(std::span<const float> got, std::span<const float> want) {
  double error = 0, length = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += (double{got[i]} - want[i]) * (double{got[i]} - want[i]);
    length += double{want[i]} * want[i];
  }
  return std::sqrt(error / length);
}

/// The plain formulas of a file with F32 weights, in fp64.
class Reference {
 public:
  explicit Reference(const GgufBuilder& file) : file_(file) {
    const TempFile on_disk(file.build());
    c_ = read_vision_config(*open_source(on_disk.path(), Content::kVision));
  }

  std::vector<float> encode(const std::vector<std::uint8_t>& rgb) {
    embed(rgb);
    for (int i = 0; i < c_.layers; ++i) layer("v.blk." + std::to_string(i) + ".");
    return project();
  }

 private:
  using Rows = std::vector<std::vector<double>>;

  std::vector<float> tensor(const std::string& name) {
    const std::string& data = file_.tensor(name).data;
    std::vector<float> out(data.size() / sizeof(float));
    std::memcpy(out.data(), data.data(), data.size());
    return out;
  }

  Rows linear(const Rows& x, const std::string& name) {
    const std::vector<float> w = tensor(name + ".weight"), bias = tensor(name + ".bias");
    Rows out;
    for (const std::vector<double>& row : x) {
      out.emplace_back(bias.begin(), bias.end());
      for (std::size_t r = 0; r < bias.size(); ++r) {
        for (std::size_t k = 0; k < row.size(); ++k)
          out.back()[r] += w[r * row.size() + k] * row[k];
      }
    }
    return out;
  }

  Rows norm(const Rows& x, const std::string& name) {
    const std::vector<float> w = tensor(name + ".weight"), bias = tensor(name + ".bias");
    Rows out = x;
    for (std::vector<double>& row : out) {
      double mean = 0, variance = 0;
      for (const double v : row) mean += v / c_.width;
      for (const double v : row) variance += (v - mean) * (v - mean) / c_.width;
      for (std::size_t i = 0; i < row.size(); ++i)
        row[i] = (row[i] - mean) / std::sqrt(variance + c_.norm_epsilon) * w[i] + bias[i];
    }
    return out;
  }

  static void add(Rows& x, const Rows& y) {
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (std::size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
    }
  }

  void embed(const std::vector<std::uint8_t>& rgb) {
    const int side = c_.patches_per_side();
    Rows patches;
    for (int patch = 0; patch < c_.patches(); ++patch) {
      patches.emplace_back();
      for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < c_.patch_size; ++y) {
          for (int x = 0; x < c_.patch_size; ++x) {
            const int row = patch / side * c_.patch_size + y,
                      column = patch % side * c_.patch_size + x;
            const double v = rgb[static_cast<std::size_t>((row * c_.image_size + column) * 3 + c)];
            patches.back().push_back((v / 255 - 0.5) / 0.5);
          }
        }
      }
    }
    x_ = linear(patches, "v.patch_embd");
    const std::vector<float> positions = tensor("v.position_embd.weight");
    for (std::size_t t = 0; t < x_.size(); ++t) {
      for (std::size_t i = 0; i < x_[t].size(); ++i) x_[t][i] += positions[t * x_[t].size() + i];
    }
  }

  void layer(const std::string& prefix) {
    const Rows h = norm(x_, prefix + "ln1");
    add(x_, linear(attention(linear(h, prefix + "attn_q"), linear(h, prefix + "attn_k"),
                             linear(h, prefix + "attn_v")),
                   prefix + "attn_out"));
    Rows hidden = linear(norm(x_, prefix + "ln2"), prefix + "ffn_up");
    for (std::vector<double>& row : hidden) {
      for (double& v : row)
        v = v / 2 * (1 + std::tanh(std::sqrt(2 / 3.141592653589793) * (v + 0.044715 * v * v * v)));
    }
    add(x_, linear(hidden, prefix + "ffn_down"));
  }

  Rows attention(const Rows& q, const Rows& k, const Rows& v) const {
    const auto dim = static_cast<std::size_t>(c_.head_dim);
    Rows out(q.size(), std::vector<double>(q[0].size(), 0.0));
    for (std::size_t first = 0; first < q[0].size(); first += dim) {
      for (std::size_t t = 0; t < q.size(); ++t) {
        std::vector<double> weights;
        double sum = 0;
        for (const std::vector<double>& key : k) {
          double score = 0;
          for (std::size_t d = first; d < first + dim; ++d) score += q[t][d] * key[d];
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(dim))));
          sum += weights.back();
        }
        for (std::size_t j = 0; j < v.size(); ++j) {
          for (std::size_t d = first; d < first + dim; ++d) out[t][d] += weights[j] / sum * v[j][d];
        }
      }
    }
    return out;
  }

  std::vector<float> project() {
    const Rows x = norm(x_, "v.post_ln");
    const std::vector<float> soft = tensor("mm.soft_emb_norm.weight");
    const std::vector<float> w = tensor("mm.input_projection.weight");
    std::vector<float> out;
    const int across = c_.tokens_per_side();
    for (int token = 0; token < c_.tokens(); ++token) {
      std::vector<double> mean(soft.size(), 0.0);
      for (int i = 0; i < c_.pool * c_.pool; ++i) {
        const int row = token / across * c_.pool + i / c_.pool;
        const int column = token % across * c_.pool + i % c_.pool;
        const auto& patch = x[static_cast<std::size_t>(row * c_.patches_per_side() + column)];
        for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += patch[d] / (c_.pool * c_.pool);
      }
      double squares = 0;
      for (const double v : mean) squares += v * v / static_cast<double>(mean.size());
      for (std::size_t d = 0; d < mean.size(); ++d) mean[d] *= soft[d] / std::sqrt(squares + 1e-6);
      for (std::size_t o = 0; o < static_cast<std::size_t>(c_.text_width); ++o) {
        double sum = 0;
        for (std::size_t d = 0; d < mean.size(); ++d)
          sum += mean[d] * w[d * static_cast<std::size_t>(c_.text_width) + o];
        out.push_back(static_cast<float>(sum));
      }
    }
    return out;
  }

  GgufBuilder file_;
  VisionConfig c_;
  Rows x_;
};

TEST(Encoder, IsItsFormulas) {
  // Heads and widths that fill no panel, several blocks of 128, and pooling.
  for (const test::TinyVision& shape :
       {test::TinyVision{}, test::TinyVision{.width = 72, .feed_forward = 300, .heads = 4},
        test::TinyVision{.image = 448, .pool = 2, .width = 160, .layers = 1, .heads = 2}}) {
    const GgufBuilder file = tiny_vision(shape);
    const std::vector<float> want = Reference(file).encode(picture(static_cast<int>(shape.image)));
    EXPECT_LT(relative_error(encode(file), want), 0.0015);
  }
}

TEST(Encoder, GivesTheSameBitsOnAnyNumberOfThreadsAndEveryInstructionSet) {
  const GgufBuilder file = tiny_vision({.width = 72, .feed_forward = 300});
  const std::vector<float> want = encode(file, 1);
  EXPECT_EQ(encode(file, 2), want);
  EXPECT_EQ(encode(file, 3), want);
  for (const kernels::Kernels* table : kernels::available())
    EXPECT_EQ(encode(file, 2, table->name), want);
}

TEST(Encoder, StopsBetweenLayersWhenAsked) {
  const TempFile on_disk(tiny_vision({.layers = 5}).build());
  const auto source = open_source(on_disk.path(), Content::kVision);
  const VisionConfig config = read_vision_config(*source);
  Team team(2);
  const auto weights = load_vision_weights(*source, config, *kernels::best(), team, {});
  Encoder encoder(*weights, team);
  std::vector<float> out(static_cast<std::size_t>(config.tokens() * config.text_width));
  int layers = 0;
  EXPECT_FALSE(encoder.encode(picture(config.image_size), out, [&](int layer) {
    EXPECT_EQ(layer, layers++);
    return layer < 2;
  }));
  EXPECT_EQ(layers, 3);
}

/// The same values as BF16 or F16, where they are exact, or the other way round.
void convert(GgufBuilder& file, BlockType type) {
  for (GgufBuilder::Tensor& tensor : file.tensors) {
    if (tensor.shape.size() != 2 || tensor.name == "v.position_embd.weight") continue;
    std::vector<float> values(tensor.data.size() / sizeof(float));
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    std::string narrow, rounded;
    for (const float v : values) {
      const std::uint16_t bits = kernels::float_to_bf16(v);
      rounded += number_bytes(kernels::bf16_to_float(bits));
      narrow += number_bytes(bits);
    }
    tensor.data = type == BlockType::kBF16 ? narrow : rounded;
    tensor.type = static_cast<std::uint32_t>(type);
  }
}

TEST(VisionWeights, OfEveryTypeAreReadAsTheValuesTheyAre) {
  GgufBuilder bf16 = tiny_vision(), f32 = tiny_vision();
  convert(bf16, BlockType::kBF16);
  convert(f32, BlockType::kF32);
  EXPECT_EQ(encode(bf16), encode(f32));

  GgufBuilder q8 = tiny_vision({.type = BlockType::kQ8_0}), plain = q8;
  for (GgufBuilder::Tensor& tensor : plain.tensors) {
    if (tensor.type != static_cast<std::uint32_t>(BlockType::kQ8_0)) continue;
    std::vector<float> values(tensor.data.size() / 34 * 32);
    dequantize(BlockType::kQ8_0, std::as_bytes(std::span(tensor.data)), values);
    tensor.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    tensor.type = static_cast<std::uint32_t>(BlockType::kF32);
  }
  EXPECT_EQ(encode(q8), encode(plain));
}

TEST(VisionWeights, BiasesMayBeZeros) {
  GgufBuilder file = tiny_vision();
  for (GgufBuilder::Tensor& tensor : file.tensors) {
    if (tensor.name.ends_with(".bias")) tensor.data.assign(tensor.data.size(), '\0');
  }
  for (const float value : encode(file)) ASSERT_TRUE(std::isfinite(value));
}

TEST(VisionWeights, OlderFilesCallUpAndDownByEachOthersNames) {
  GgufBuilder file = tiny_vision();
  const std::vector<float> want = encode(file);
  for (GgufBuilder::Tensor& tensor : file.tensors) {
    const std::size_t up = tensor.name.find("ffn_up"), down = tensor.name.find("ffn_down");
    if (up != std::string::npos) tensor.name.replace(up, 6, "ffn_down");
    if (down != std::string::npos) tensor.name.replace(down, 8, "ffn_up");
  }
  EXPECT_EQ(encode(file), want);
}

struct Damage {
  std::string name;
  std::string named;  // What the message must say.
  std::function<void(GgufBuilder&)> apply;
};

std::vector<Damage> damages() {
  const std::string nan = number_bytes(std::numeric_limits<float>::quiet_NaN());
  const auto holds_nan = [=](const std::string& tensor) {
    return [=](GgufBuilder& file) { file.tensor(tensor).data.replace(40, 4, nan); };
  };
  const auto ends_in_zeros = [](const std::string& tensor) {
    return [=](GgufBuilder& file) {
      std::string& data = file.tensor(tensor).data;
      data.replace(data.size() / 4, std::string::npos, data.size() - data.size() / 4, '\0');
    };
  };
  return {
      {"MatrixThatEndsInZeros", "v.blk.1.ffn_up.weight is zeros from byte",
       ends_in_zeros("v.blk.1.ffn_up.weight")},
      {"NormThatEndsInZeros", "v.blk.0.ln2.weight is zeros from byte 64 of 256 on: the download",
       ends_in_zeros("v.blk.0.ln2.weight")},
      {"ProjectionThatEndsInZeros", "mm.input_projection.weight is zeros",
       ends_in_zeros("mm.input_projection.weight")},
      {"MissingMatrix", "v.blk.1.attn_q.weight",
       [](GgufBuilder& file) { file.remove_tensor("v.blk.1.attn_q.weight"); }},
      {"MissingBias", "v.blk.0.ffn_up.bias",
       [](GgufBuilder& file) { file.remove_tensor("v.blk.0.ffn_up.bias"); }},
      {"OneLayerMoreThanThereIs", "v.blk.2.ln1.weight",
       [](GgufBuilder& file) { file.set_u32("clip.vision.block_count", 3); }},
      {"ProjectionOfAnotherModel", "mm.input_projection.weight",
       [](GgufBuilder& file) { file.set_u32("clip.vision.projection_dim", 32); }},
      {"FlatPatches", "v.patch_embd.weight",
       [](GgufBuilder& file) {
         file.tensor("v.patch_embd.weight").shape = {588, 64};
       }},
      {"OddHeads", "heads of 1",
       [](GgufBuilder& file) { file.set_u32("clip.vision.attention.head_count", 64); }},
      {"NanInAMatrix", "v.blk.0.attn_out.weight", holds_nan("v.blk.0.attn_out.weight")},
      {"NanInTheProjection", "mm.input_projection.weight", holds_nan("mm.input_projection.weight")},
      {"NanInANorm", "v.post_ln.bias", holds_nan("v.post_ln.bias")},
  };
}

class DamagedVision : public ::testing::TestWithParam<Damage> {};

TEST_P(DamagedVision, IsOneLineThatNamesIt) {
  GgufBuilder builder = tiny_vision();
  GetParam().apply(builder);
  const TempFile file(builder.build());
  const Error error = thrown_error([&] {
    const auto source = open_source(file.path(), Content::kVision);
    Team team(2);
    load_vision_weights(*source, read_vision_config(*source), *kernels::best(), team, {});
  });
  EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
  EXPECT_TRUE(contains(error.what(), GetParam().named)) << error.what();
  EXPECT_TRUE(contains(error.what(), file.path())) << error.what();
  EXPECT_FALSE(contains(error.what(), "\n")) << error.what();
}
INSTANTIATE_TEST_SUITE_P(Each, DamagedVision, ::testing::ValuesIn(damages()),
                         [](const auto& damage) { return damage.param.name; });

}  // namespace
}  // namespace lapidary::testing
