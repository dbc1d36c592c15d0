#include "formats/weight_source.h"

#include <functional>
#include <numeric>

#include "formats/gguf.h"
#include "formats/hf_source.h"

namespace lapidary {

std::uint64_t TensorInfo::rows() const {
  if (shape.empty()) return 1;
  return std::accumulate(shape.begin() + 1, shape.end(), std::uint64_t{1}, std::multiplies<>());
}

std::unique_ptr<WeightSource> open_source(const std::string& path, Content content) {
  return is_folder(path) ? open_hf(path, content) : open_gguf(path, content);
}

std::vector<std::string> vision_paths(const std::string& path) {
  if (is_folder(path)) return {path};
  return gguf_vision_paths(path);
}

FileInfo list_file(const std::string& path) {
  return is_folder(path) ? list_hf(path) : GgufFile(path).list();
}

}  // namespace lapidary
