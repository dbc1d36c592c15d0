#pragma once

#include <string>

namespace lapidary {

/// The path of `name` in tests/data. The folder stands in one object file, so that those of the
/// tests are the same in every checkout and a compiler cache can hand them on.
std::string test_data(const std::string& name);

}  // namespace lapidary
