#include "test_data.h"

namespace lapidary {

std::string test_data(const std::string& name) {
  return std::string(LAPIDARY_TEST_DATA "/") + name;
}

}  // namespace lapidary
