#pragma once

#include "vision/bytes.h"

namespace lapidary {

/// The EXIF block of a JPEG, or nothing: what stands in its first APP1 segment of that kind.
ByteSpan jpeg_exif(ByteSpan bytes);

}  // namespace lapidary
