#include "float_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "lapidary/error.h"
#include "terminal.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;
static_assert(std::endian::native == std::endian::little, "floats are little-endian in files");

FloatFile::FloatFile(std::string path)
    : path_(std::move(path)),
      file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (file_ < 0)
    throw Error(ErrorCode::kFile, "cannot write " + path_ + ": " + std::strerror(errno));
}

FloatFile::~FloatFile() { ::close(file_); }

bool FloatFile::write(std::span<const float> values) {
  if (error_ == 0)
    error_ = write_all(file_, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  return error_ == 0;
}

void FloatFile::check() const {
  if (error_ == EPIPE) throw ClosedPipe{};
  if (error_ != 0)
    throw Error(ErrorCode::kFailed, "cannot write " + path_ + ": " + std::strerror(error_));
}

}  // namespace cli
