// libFuzzer entry of indexes: whatever model.safetensors.index.json says, the files that it names
// lie in its folder, or it is an Error.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "../unit/folder_builder.h"
#include "formats/hf_folder.h"
#include "formats/hf_source.h"
#include "lapidary/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lapidary::test::TempFolder at;
  static const bool laid = [] {
    lapidary::test::FolderBuilder().in_two().lay(at);
    return true;
  }();
  (void)laid;
  at.write("model.safetensors.index.json", {reinterpret_cast<const char*>(data), size});
  try {
    for (const std::string& name : lapidary::HfFolder(at.path()).shards().names) {
      const std::filesystem::path path = at.path() + "/" + name;
      if (path.lexically_normal().parent_path() != at.path()) std::abort();
    }
    lapidary::open_hf(at.path(), lapidary::Content::kText);
  } catch (const lapidary::Error&) {
    // As with any file.
  }
  return 0;
}
