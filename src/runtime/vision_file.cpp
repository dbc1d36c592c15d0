#include <string>
#include <vector>

#include "base/boundary.h"
#include "lapidary/error.h"
#include "lapidary/image_encoder.h"
#include "runtime/model_impl.h"
#include "vision/vision_weights.h"

namespace lapidary {

VisionInfo describe_vision(const std::string& path, const WeightSource& source,
                           const VisionConfig& config) {
  VisionInfo info;
  info.path = path;
  info.layers = config.layers;
  info.width = config.width;
  info.feed_forward = config.feed_forward;
  info.heads = config.heads;
  info.image_size = config.image_size;
  info.patch_size = config.patch_size;
  info.tokens = config.tokens();
  info.text_width = config.text_width;
  for (const TensorInfo& tensor : source.tensors())
    info.parameters += tensor.columns() * tensor.rows();
  info.file_bytes = source.file_bytes();
  info.weight_bytes = vision_weight_bytes(source, config);
  if (std::string unused = unused_vision_tensors(source, config); !unused.empty())
    info.warnings.push_back(std::move(unused));
  return info;
}

namespace {

std::string fitting_file(const std::string& model_path) {
  std::string fitting;
  try {
    const std::vector<std::string> paths = vision_paths(model_path);
    if (paths.empty()) return {};
    const int width = inspect(model_path).width;
    for (const std::string& path : paths) {
      try {
        if (read_vision_config(*open_source(path, Content::kVision)).text_width != width) continue;
      } catch (const Error&) {
        continue;  // Another model's, or damaged: then it is found by naming it.
      }
      if (!fitting.empty()) return {};
      fitting = path;
    }
  } catch (const Error&) {
    return {};  // The model itself cannot be read; loading it will say why.
  }
  return fitting;
}

}  // namespace

std::string find_vision_file(const std::string& model_path) {
  return at_boundary([&] { return fitting_file(model_path); });
}

}  // namespace lapidary
