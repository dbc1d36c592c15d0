#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "formats/gguf_header.h"

namespace lapidary {

/// One GGUF file: a model, or a part of one. Immutable; safe to read from several threads.
struct GgufPart {
  /// Reads the header. Throws Error(kFile) as parse_gguf_header() does.
  explicit GgufPart(const std::string& path);
  GgufPart(const GgufPart&) = delete;
  GgufPart& operator=(const GgufPart&) = delete;

  File file;
  HeaderBytes bytes;
  GgufHeader header;
};

/// The file at `path` and, where it is the first of several, all others in order, which lie beside
/// it: PREFIX-00001-of-0000N.gguf is the first of N. Throws Error(kFile) that names the file: for
/// any part but the first, for one that is missing, and for one that belongs to other parts.
std::vector<std::unique_ptr<GgufPart>> open_gguf_parts(const std::string& path);

}  // namespace lapidary
