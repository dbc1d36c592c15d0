#include "base/boundary.h"

#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "base/printable.h"
#include "lapidary/error.h"

namespace lapidary {

namespace {

/// Made before memory runs out: throwing a copy of it takes none.
const Error& out_of_memory() {
  static const Error error(ErrorCode::kMemory, "not enough memory");
  return error;
}
[[maybe_unused]] const Error& made_at_start = out_of_memory();

/// The same as an Error of one printable line; nothing for what is one already or the host's own.
void throw_as_error() {
  try {
    throw;
  } catch (const Error& error) {
    // Whatever a file, a path or another library put into it.
    if (!is_printable(error.what(), kMostOfALine))
      throw Error(error.code(), printable_line(error.what()));
  } catch (const HostException&) {
  } catch (const std::bad_alloc&) {
    throw out_of_memory();
  } catch (const std::length_error&) {
    throw Error(ErrorCode::kMemory, "more memory was asked for than there can be");
  } catch (const std::exception& error) {
    throw Error(ErrorCode::kFailed, printable_line(error.what()));
  } catch (...) {
    throw Error(ErrorCode::kFailed, "an exception of an unknown type");
  }
}

}  // namespace

void rethrow_to_host() {
  try {
    throw_as_error();
    throw;
  } catch (const HostException& host) {
    std::rethrow_exception(host.original);
  } catch (const std::bad_alloc&) {  // While an Error was made.
    throw out_of_memory();
  }
}

void throw_empty(const char* name) {
  throw Error(ErrorCode::kUsage,
              std::string(name) + " is empty: it was made without one to hold, or moved from");
}

}  // namespace lapidary
