// libFuzzer entry of the texts of a folder: whatever config.json, generation_config.json and
// tokenizer_config.json hold, they are the settings of a model or an Error. A line of dashes parts
// them.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../unit/folder_builder.h"
#include "formats/hf_config.h"
#include "lapidary/error.h"

namespace {

using lapidary::Content;
using lapidary::Key;

void ask(const lapidary::HfFolder& folder, Content content) {
  const lapidary::HfConfig config(folder, content);
  for (const Key key : {Key::kLayers, Key::kHeads, Key::kSlidingWindow, Key::kPool, Key::kEos})
    config.find_uint(key);
  for (const Key key : {Key::kNormEpsilon, Key::kRopeBase, Key::kRopeFactor, Key::kQueryScalar})
    config.find_float(key);
  for (const Key key : {Key::kName, Key::kRopeScaling, Key::kChatTemplate}) config.find_string(key);
  if (config.array_size(Key::kSlidingPattern)) config.find_ints(Key::kSlidingPattern);
  config.find_floats(Key::kImageMean);
  config.where(Key::kLocalRopeBase);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lapidary::test::TempFolder at;
  constexpr std::string_view kPart = "\n---\n";
  std::string_view left(reinterpret_cast<const char*>(data), size);
  for (const char* name : {"config.json", "generation_config.json", "tokenizer_config.json"}) {
    const std::size_t end = left.find(kPart);
    at.write(name, std::string(left.substr(0, end)));
    left = end == std::string_view::npos ? std::string_view("{}") : left.substr(end + kPart.size());
  }
  const lapidary::HfFolder folder(at.path());
  for (const Content content : {Content::kText, Content::kVision, Content::kVocabulary}) {
    try {
      ask(folder, content);
    } catch (const lapidary::Error&) {
      // As with any file.
    }
  }
  try {
    lapidary::HfConfig::list(folder);
  } catch (const lapidary::Error&) {
    // The same.
  }
  return 0;
}
