#include "model_folder.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "json.h"
#include "lapidary/error.h"

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

std::string model_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (std::string home = variable("LAPIDARY_HOME"); !home.empty()) return home;
  if (const std::string data = variable("XDG_DATA_HOME"); !data.empty()) return data + "/lapidary";
  return variable("HOME") + "/.local/share/lapidary";
}

namespace {

namespace fs = std::filesystem;

// Of every model in the model folder, sorted. The vision half of a model lies beside it and is
// none.
std::vector<fs::path> models_in_folder() {
  std::vector<fs::path> found;
  std::error_code none;
  for (fs::directory_iterator entry(model_folder(), none), end; !none && entry != end;
       entry.increment(none)) {
    const fs::path& path = entry->path();
    const bool projector = path.filename().string().find("mmproj") != std::string::npos;
    std::error_code unreadable;
    const bool file =
        path.extension() == ".gguf" && !projector && fs::is_regular_file(path, unreadable);
    if (file || fs::is_regular_file(path / "config.json", unreadable)) found.push_back(path);
  }
  std::ranges::sort(found);
  return found;
}

// What find_model() takes for it: a file's name without its extension, a folder's whole.
std::string short_name(const fs::path& path) {
  return (path.extension() == ".gguf" ? path.stem() : path.filename()).string();
}

// "a.gguf, b.gguf and 3 more"
std::string list_names(const std::vector<fs::path>& paths) {
  constexpr std::size_t kMost = 10;
  std::string text;
  for (std::size_t i = 0; i < std::min(paths.size(), kMost); ++i)
    text += (i == 0 ? "" : ", ") + paths[i].filename().string();
  if (paths.size() > kMost) text += " and " + std::to_string(paths.size() - kMost) + " more";
  return text;
}

std::string what_there_is(const std::vector<fs::path>& models) {
  const std::string folder = "the model folder, " + model_folder() + ", ";
  if (!models.empty()) return folder + "has " + list_names(models);
  return folder +
         "has none; tools/get_model.py fetches one, and any Gemma 3 GGUF file or folder may lie "
         "there";
}

std::string only_model() {
  const std::vector<fs::path> models = models_in_folder();
  if (models.size() == 1) return models.front().string();
  throw Error(ErrorCode::kUsage,
              "no model given: use -m FILE, -m NAME or LAPIDARY_MODEL; " + what_there_is(models));
}

}  // namespace

std::string model_names() {
  std::string names;
  for (const fs::path& path : models_in_folder()) names += short_name(path) + "\n";
  return names;
}

std::string find_model(const std::string& given) {
  if (given.empty()) return only_model();
  std::error_code none;
  // What looks like a path is one; so that what is wrong with it can be said.
  if (fs::exists(given, none) || given.find('/') != std::string::npos) return given;
  std::vector<fs::path> fitting;
  const std::vector<fs::path> models = models_in_folder();
  for (const fs::path& path : models) {
    if (path.filename() == given || short_name(path) == given) return path.string();
    if (path.filename().string().starts_with(given)) fitting.push_back(path);
  }
  if (fitting.size() == 1) return fitting.front().string();
  if (fitting.size() > 1)
    throw Error(ErrorCode::kUsage,
                "several models are called " + shortened(given) + "…: " + list_names(fitting));
  throw Error(ErrorCode::kFile,
              "cannot open " + shortened(given) + ": no such file, and " + what_there_is(models));
}

}  // namespace cli
