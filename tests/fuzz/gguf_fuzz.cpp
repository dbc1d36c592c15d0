// libFuzzer entry of the GGUF reader: any bytes are a source or an Error, nothing else.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../unit/gguf_builder.h"
#include "formats/gguf.h"
#include "lapidary/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lapidary::test::TempFile file;
  file.write({reinterpret_cast<const char*>(data), size});
  try {
    const lapidary::GgufFile source(file.path());
    source.find_strings("tokenizer.ggml.tokens");
    source.find_floats("tokenizer.ggml.scores");
    source.find_ints("tokenizer.ggml.token_type");
    source.find_uint("gemma3.block_count");
    source.list();
    for (const lapidary::TensorInfo& tensor : source.tensors()) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes));
      source.read(tensor, 0, bytes);
      std::vector<float> values(static_cast<std::size_t>(tensor.columns() * tensor.rows()));
      lapidary::dequantize(tensor.type, bytes, values);
    }
  } catch (const lapidary::Error&) {
    // What is wrong with the bytes is said and nothing worse happens.
  }
  return 0;
}
