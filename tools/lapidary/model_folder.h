#pragma once

#include <string>

namespace cli {

/// `$LAPIDARY_HOME`, or lapidary/ in the XDG data folder.
std::string model_folder();

/// The names that find_model() takes for the models in the model folder, a line each.
std::string model_names();

/// The model called `given`: a path, or the name of a file or folder in the model folder, with or
/// without its .gguf; empty: the only model there. Throws Error(kUsage), or Error(kFile) for a name
/// that is nowhere, saying what there is.
std::string find_model(const std::string& given);

}  // namespace cli
