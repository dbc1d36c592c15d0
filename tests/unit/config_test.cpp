// What a text model's metadata means where files say it in several ways.

#include "model/config.h"

#include <gtest/gtest.h>

#include <functional>

#include "gguf_builder.h"

namespace lapidary {
namespace {

using test::GgufBuilder;

Config config_of(const std::function<void(GgufBuilder&)>& change) {
  GgufBuilder file = test::tiny_model({.layers = 1});
  change(file);
  const test::TempFile on_disk(file.build());
  return read_config(*open_source(on_disk.path(), Content::kText));
}

constexpr const char* kType = "gemma3.rope.scaling.type";
constexpr const char* kFactor = "gemma3.rope.scaling.factor";
constexpr const char* kOld = "gemma3.rope.scale_linear";

TEST(Config, RopeScalingIsLinearUnlessTheFileSaysNone) {
  const auto factor = [](const std::function<void(GgufBuilder&)>& change) {
    return config_of(change).global_rope_factor;
  };
  EXPECT_EQ(factor([](GgufBuilder&) {}), 1.0F);
  EXPECT_EQ(factor([](GgufBuilder& f) { f.set_f32(kFactor, 8).set_string(kType, "linear"); }), 8);
  EXPECT_EQ(factor([](GgufBuilder& f) { f.set_f32(kFactor, 8); }), 8);
  EXPECT_EQ(factor([](GgufBuilder& f) { f.set_f32(kOld, 4); }), 4);
  EXPECT_EQ(factor([](GgufBuilder& f) { f.set_f32(kOld, 4).set_f32(kFactor, 8); }), 8);
  EXPECT_EQ(factor([](GgufBuilder& f) { f.set_f32(kFactor, 8).set_string(kType, "none"); }), 1);
}

TEST(Config, SoftcapOf0IsNone) {
  constexpr const char* kCap = "gemma3.final_logit_softcapping";
  EXPECT_EQ(config_of([](GgufBuilder& f) { f.set_f32(kCap, 0); }).logit_softcap, 0.0F);
  EXPECT_EQ(config_of([](GgufBuilder& f) { f.set_f32(kCap, 30); }).logit_softcap, 30.0F);
}

}  // namespace
}  // namespace lapidary
