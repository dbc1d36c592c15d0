#pragma once

#include <string>

#include "common.h"

namespace cli {

// What `inspect` says, apart from the memory that a model takes: as lines for a person, and as
// members of a JSON object. Text of a file is shortened and made printable in the lines.

/// Special tokens, repaired types, warnings, and the vision files beside the model.
std::string extra_lines(const lapidary::ModelInfo& info,
                        const std::vector<std::string>& vision_files);
void add_extra(Json& object, const lapidary::ModelInfo& info,
               const std::vector<std::string>& vision_files);

std::string vision_lines(const lapidary::VisionInfo& info);
Json describe_vision(const lapidary::VisionInfo& info);

std::string metadata_lines(const lapidary::FileInfo& file);
Json describe_metadata(const lapidary::FileInfo& file);

std::string tensor_lines(const lapidary::FileInfo& file);
Json describe_tensors(const lapidary::FileInfo& file);

}  // namespace cli
