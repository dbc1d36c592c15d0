// libFuzzer entry of the files that a folder may have its tokenizer in: whatever they hold, it is
// tokens or an Error. What begins as JSON does is read as tokenizer.json, all else as
// tokenizer.model.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "../unit/gguf_builder.h"
#include "formats/tokenizer_json.h"
#include "formats/tokenizer_model.h"
#include "lapidary/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lapidary::test::TempFile file;
  file.write({reinterpret_cast<const char*>(data), size});
  try {
    const bool json = size > 0 && data[0] == '{';
    const lapidary::TokenTable table = json ? lapidary::read_tokenizer_json(file.path())
                                            : lapidary::read_tokenizer_model(file.path());
    for (const lapidary::TokenTable::Piece& piece : table.pieces) {
      if (piece.begin > table.text.size() || piece.bytes > table.text.size() - piece.begin)
        std::abort();
    }
  } catch (const lapidary::Error&) {
    // As with any file.
  }
  return 0;
}
