// libFuzzer entry of vision files: any header is a vision model or an Error, nothing else. What
// stands behind the bytes is filled up, so that a header alone can describe a file that is whole.

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "../unit/gguf_builder.h"
#include "base/boundary.h"
#include "base/printable.h"
#include "base/team.h"
#include "formats/weight_source.h"
#include "kernels/kernels.h"
#include "lapidary/error.h"
#include "vision/encoder.h"
#include "vision/vision_weights.h"

namespace {

/// A file of 0x3c bytes, finite numbers in every type, that begins with the bytes under test.
class FilledFile {
 public:
  FilledFile() {
    file_.write(std::string(kBytes, '\x3c'));
    handle_ = ::open(file_.path().c_str(), O_WRONLY | O_CLOEXEC);
  }
  void begin_with(const std::uint8_t* data, std::size_t size) {
    const std::string filler(before_, '\x3c');
    if (::pwrite(handle_, filler.data(), before_, 0) != static_cast<ssize_t>(before_) ||
        ::pwrite(handle_, data, size, 0) != static_cast<ssize_t>(size)) {
      std::abort();
    }
    before_ = size;
  }
  const std::string& path() const { return file_.path(); }

 private:
  static constexpr std::size_t kBytes = std::size_t{2} << 20;
  lapidary::test::TempFile file_;
  int handle_ = -1;
  std::size_t before_ = 0;
};

void read_vision_file(const std::string& path) {
  static lapidary::Team team(1);
  const auto source = lapidary::open_source(path, lapidary::Content::kVision);
  lapidary::list_file(path);
  const lapidary::VisionConfig config = lapidary::read_vision_config(*source);
  lapidary::unused_vision_tensors(*source, config);
  lapidary::Encoder::memory_bytes(config, 1);
  lapidary::load_vision_weights(*source, config, *lapidary::kernels::best(), team, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static FilledFile file;
  file.begin_with(data, size);
  try {
    lapidary::at_boundary([&] { read_vision_file(file.path()); });
  } catch (const lapidary::Error& error) {
    if (error.code() != lapidary::ErrorCode::kFile) std::abort();
    if (!lapidary::is_printable(error.what(), lapidary::kMostOfALine)) std::abort();
  }
  return 0;
}
