#include "commands.h"

namespace cli {

using lapidary::ErrorCode;

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kFailed:
      return 1;
    case ErrorCode::kUsage:
      return 2;
    case ErrorCode::kFile:
      return 3;
    case ErrorCode::kMemory:
      return 4;
    case ErrorCode::kContext:
      return 5;
    case ErrorCode::kInterrupted:
      return 130;
  }
  return 1;
}

}  // namespace cli
