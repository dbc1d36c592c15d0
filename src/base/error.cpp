#include "lapidary/error.h"

namespace lapidary {

Error::~Error() = default;

}  // namespace lapidary
