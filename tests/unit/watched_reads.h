#pragma once

// Takes the place of pread, to see reads of files and to let them fail. For one file of a test.

#include <dlfcn.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <functional>

namespace injection {

inline std::atomic<int> reads{0};
inline std::atomic<int> failing_read{-1};        // By number, from 0; negative: none.
inline std::function<void(int number)> on_read;  // Called before each, on the reading thread.

}  // namespace injection

extern "C" ssize_t pread(int file, void* to, size_t bytes, off_t offset) {
  using Read = ssize_t (*)(int, void*, size_t, off_t);
  static const Read read = reinterpret_cast<Read>(dlsym(RTLD_NEXT, "pread"));
  const int number = injection::reads.fetch_add(1);
  if (injection::on_read) injection::on_read(number);
  if (number == injection::failing_read.load()) {
    errno = EIO;
    return -1;
  }
  return read(file, to, bytes, offset);
}
