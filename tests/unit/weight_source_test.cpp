// What a source promises whoever loads a model: GGUF's names behind the engine's, and that another
// kind of file need only translate.

#include "formats/weight_source.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "gguf_builder.h"
#include "model/weights.h"
#include "model_fixture.h"
#include "test_data.h"
#include "vision_builder.h"

namespace lapidary::testing {
namespace {

using test::GgufBuilder;
using test::TempFile;

TEST(GgufSource, SaysWhatTheFileCallsThings) {
  const TempFile file(test::tiny_model({}).build());
  const auto source = open_source(file.path(), Content::kText);
  EXPECT_EQ(source->name(Key::kLayers), "gemma3.block_count");
  EXPECT_EQ(source->where(Key::kTokens), file.path() + ": key tokenizer.ggml.tokens");
  EXPECT_EQ(source->where({Part::kQuery, 2}), file.path() + ": tensor blk.2.attn_q.weight");
  const TensorInfo* const query = source->find({Part::kQuery, 2});
  ASSERT_NE(query, nullptr);
  EXPECT_EQ(query->name, "blk.2.attn_q.weight");
  EXPECT_EQ(source->where(*query), source->where({Part::kQuery, 2}));
  EXPECT_TRUE(query->of_layer);
  EXPECT_FALSE(source->find({Part::kEmbedding})->of_layer);
  EXPECT_EQ(source->find({Part::kHead}), nullptr);
  EXPECT_EQ(source->find({Part::kPatches}), nullptr);
  EXPECT_FALSE(source->find_float(Key::kQueryScalar));
  const auto last = [](const TensorInfo& tensor) { return tensor.ends_file; };
  EXPECT_EQ(std::ranges::count_if(source->tensors(), last), 1);
  EXPECT_TRUE(source->tensors().back().ends_file);
}

TEST(GgufSource, OfVisionHasNamesOfItsOwn) {
  const TempFile file(test::tiny_vision().build());
  const auto source = open_source(file.path(), Content::kVision);
  EXPECT_EQ(source->name(Key::kLayers), "clip.vision.block_count");
  EXPECT_EQ(source->find({Part::kAttentionNorm, 1, true})->name, "v.blk.1.ln1.bias");
  EXPECT_EQ(source->find({Part::kProjection})->name, "mm.input_projection.weight");
}

TEST(GgufSource, HoldsWhatItIsOpenedFor) {
  const auto open_changed = [](Content content, const std::function<void(GgufBuilder&)>& change) {
    GgufBuilder builder = test::tiny_model({});
    change(builder);
    const TempFile file(builder.build());
    const auto source = open_source(file.path(), content);
    source->array_size(Key::kTokens);
  };
  const auto other = [](GgufBuilder& f) { f.set_string("general.architecture", "gemma2"); };
  EXPECT_NO_THROW(open_changed(Content::kVocabulary, other));
  const auto refused = [&](Content content, const std::function<void(GgufBuilder&)>& change) {
    return std::string(thrown_error([&] { open_changed(content, change); }).what());
  };
  EXPECT_TRUE(contains(refused(Content::kText, other),
                       "key general.architecture is \"gemma2\", expected \"gemma3\""));
  EXPECT_TRUE(contains(refused(Content::kVision, other), "expected \"clip\""));
  const auto model = [](const char* kind) {
    return [kind](GgufBuilder& f) { f.set_string("tokenizer.ggml.model", kind); };
  };
  EXPECT_TRUE(contains(refused(Content::kVocabulary, model("gpt2")),
                       "is \"gpt2\", expected \"llama\" (SentencePiece)"));
  EXPECT_TRUE(contains(
      refused(Content::kVocabulary, [](GgufBuilder& f) { f.remove_key("tokenizer.ggml.model"); }),
      "key tokenizer.ggml.model is missing"));
}

/// As a folder is that has a file for the matrices and one for the norms, less 1: made of a GGUF
/// file.
class Folder final : public WeightSource {
 public:
  explicit Folder(const std::string& path) : base_(open_source(path, Content::kText)) {
    for (const TensorInfo& tensor : base_->tensors()) {
      tensors_.push_back(tensor);
      tensors_.back().name = "model." + tensor.name;
    }
  }

  const TensorInfo* find(const TensorName& name) const override {
    const TensorInfo* const found = base_->find(name);
    return found == nullptr ? nullptr : &tensors_[index(*found, base_->tensors())];
  }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, std::uint64_t offset,
            std::span<std::byte> out) const override {
    base_->read(base_->tensors()[index(tensor, tensors_)], offset, out);
    if (tensor.shape.size() != 1) return;
    for (std::size_t i = 0; i < out.size(); i += sizeof(float)) {
      float value;
      std::memcpy(&value, &out[i], sizeof value);
      value += 1;
      std::memcpy(&out[i], &value, sizeof value);
    }
  }
  std::optional<std::uint64_t> find_uint(Key key) const override { return base_->find_uint(key); }
  std::optional<double> find_float(Key key) const override {
    return key == Key::kQueryScalar ? 16.0 : base_->find_float(key);
  }
  std::optional<std::string> find_string(Key key) const override { return base_->find_string(key); }
  std::optional<PagedVector<std::string>> find_strings(Key key) const override {
    return base_->find_strings(key);
  }
  std::optional<PagedVector<double>> find_floats(Key key) const override {
    return base_->find_floats(key);
  }
  std::optional<PagedVector<std::int64_t>> find_ints(Key key) const override {
    return base_->find_ints(key);
  }
  std::optional<ArraySize> array_size(Key key) const override { return base_->array_size(key); }
  std::string name(Key) const override { return "a_key"; }
  std::string where(Key key) const override { return "folder/config.json: key " + name(key); }
  std::string where(const TensorName&) const override { return "folder: tensor a_name"; }
  std::string where(const TensorInfo& tensor) const override {
    return (tensor.shape.size() == 1 ? "folder/norms: tensor " : "folder/matrices: tensor ") +
           tensor.name;
  }
  std::vector<std::string> files() const override { return {}; }
  std::uint64_t file_bytes() const override { return base_->file_bytes(); }

 private:
  static std::size_t index(const TensorInfo& tensor, std::span<const TensorInfo> of) {
    return static_cast<std::size_t>(&tensor - of.data());
  }

  std::unique_ptr<WeightSource> base_;
  std::vector<TensorInfo> tensors_;
};

TEST(OtherSource, OnlyTranslates) {
  const TempFile file(test::tiny_model({}).build());
  const Folder folder(file.path());
  const auto gguf = open_source(file.path(), Content::kText);
  const Config config = read_config(folder);
  EXPECT_EQ(config.query_scale, 0.25F);
  Team team(2);
  const auto load = [&](const WeightSource& source) {
    return load_weights(source, config, *kernels::best(), team, {});
  };
  const WeightsPtr own = load(folder), plain = load(*gguf);
  for (std::size_t i = 0; i < own->layers.size(); ++i) {
    const LayerWeights &a = own->layers[i], &b = plain->layers[i];
    for (int k = 0; k < config.width; ++k) EXPECT_EQ(a.ffn_norm[k], b.ffn_norm[k] + 1);
    EXPECT_TRUE(std::equal(a.down.panels, a.down.panels + a.down.bytes(), b.down.panels));
  }
  EXPECT_TRUE(unused_tensors(folder, config).empty());
}

TEST(OtherSource, NamesItsOwnFiles) {
  const auto said = [](const std::function<void(GgufBuilder&)>& change) {
    GgufBuilder builder = test::tiny_model({});
    change(builder);
    const TempFile file(builder.build());
    const Folder folder(file.path());
    Team team(2);
    const auto load = [&] {
      load_weights(folder, read_config(folder), *kernels::best(), team, {});
    };
    return std::string(thrown_error(load).what());
  };
  EXPECT_EQ(said([](GgufBuilder& f) { f.remove_key("gemma3.block_count"); }),
            "folder/config.json: key a_key is missing");
  EXPECT_EQ(said([](GgufBuilder& f) { f.remove_tensor("blk.1.ffn_norm.weight"); }),
            "folder: tensor a_name is missing");
  const std::string nan = test::number_bytes(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(said([&](GgufBuilder& f) { f.tensor("blk.1.attn_q.weight").data.replace(4, 4, nan); }),
            "folder/matrices: tensor model.blk.1.attn_q.weight holds a scale or value that is not "
            "finite, in rows 0 to 15");
}

}  // namespace
}  // namespace lapidary::testing
