// libFuzzer entry of safetensors files: any bytes are tensors that can be read, or an Error.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../unit/gguf_builder.h"
#include "formats/safetensors.h"
#include "lapidary/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lapidary::test::TempFile file;
  file.write({reinterpret_cast<const char*>(data), size});
  try {
    const lapidary::SafetensorsFile source(file.path());
    for (const lapidary::SafetensorsEntry& entry : source.entries()) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(entry.bytes));
      source.read(entry, 0, bytes);
    }
  } catch (const lapidary::Error&) {
    // What is wrong with the bytes is said and nothing worse happens.
  }
  return 0;
}
