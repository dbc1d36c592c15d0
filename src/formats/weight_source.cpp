#include "formats/weight_source.h"

#include <cstdio>
#include <functional>
#include <map>
#include <numeric>
#include <unordered_set>

#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {

std::uint64_t TensorInfo::rows() const {
  if (shape.empty()) return 1;
  return std::accumulate(shape.begin() + 1, shape.end(), std::uint64_t{1}, std::multiplies<>());
}

std::string describe_unused(const WeightSource& source, std::span<const TensorInfo* const> used,
                            std::string_view layers) {
  const std::unordered_set<const TensorInfo*> known(used.begin(), used.end());
  std::map<std::string_view, std::vector<const TensorInfo*>> families;  // By name up to the dot.
  std::size_t count = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    if (known.contains(&tensor)) continue;
    if (tensor.name.starts_with(layers)) {
      throw Error(ErrorCode::kFile, source.path() + ": tensor " + printable_value(tensor.name) +
                                        " belongs to a layer, but no Gemma 3 layer has it; the "
                                        "model would be another without it");
    }
    const std::string_view name = tensor.name;
    families[name.substr(0, name.find('.'))].push_back(&tensor);
    ++count;
  }
  if (count == 0) return {};
  if (count == 1)
    return "tensor " + printable_value(families.begin()->second.front()->name) + " is not used";
  constexpr std::size_t kShown = 4;
  std::string text = std::to_string(count) + " tensors are not used:";
  std::size_t shown = 0;
  for (const auto& [family, members] : families) {
    if (shown++ == kShown) return text + ", …";
    text += (shown == 1 ? " " : ", ") + printable_value(members.front()->name);
    if (members.size() > 1) text += " and " + std::to_string(members.size() - 1) + " like it";
  }
  return text;
}

float read_float(const WeightSource& source, const std::string& key, double low, double high,
                 float fallback) {
  const std::optional<double> value = source.find_float(key);
  if (!value) return fallback;
  if (*value >= low && *value <= high) return static_cast<float>(*value);
  char text[120];
  std::snprintf(text, sizeof text, "%.6g, expected a number from %.15g to %.15g", *value, low,
                high);
  throw Error(ErrorCode::kFile, source.path() + ": key " + key + " is " + text);
}

}  // namespace lapidary
