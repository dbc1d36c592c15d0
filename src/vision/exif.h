#pragma once

#include "vision/bytes.h"

namespace lapidary {

/// The orientation, 1 to 8, in an EXIF block: a TIFF header and its first directory, with or
/// without "Exif\0\0" before it. 1 where there is none or the block is damaged: it never throws.
int exif_orientation(ByteSpan exif);

}  // namespace lapidary
