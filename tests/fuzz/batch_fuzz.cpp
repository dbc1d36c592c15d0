// libFuzzer entry of the lines of a batch: any bytes are a request or a RequestError, nothing else.

#include <cstddef>
#include <cstdint>
#include <string>

#include "batch_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string line(reinterpret_cast<const char*>(data), size);
  cli::BatchRequest request;
  try {
    cli::parse_request(line, {}, "folder", request);
    cli::meaning(request, "folder");
  } catch (const cli::RequestError& error) {
    // The answer to the line has both.
    cli::to_line({{"code", error.code}, {"message", error.message}});
  }
  cli::to_line(request.id);
  return 0;
}
