#pragma once

#include <span>
#include <string>
#include <vector>

namespace cli {

/// `path` with a `~` in front of it replaced by the home folder.
std::string expand_home(const std::string& path);

/// What `line`, up to the cursor, may be continued to: a command, or behind /image and /read a
/// file.
std::vector<std::string> complete_line(const std::string& line,
                                       std::span<const std::string> commands);

/// The picture whose name is all of `message`, as terminals paste a file that is dragged into them:
/// as it is, in quotes, with escaped blanks or as a file: address. Empty when it is none.
std::string pasted_picture(const std::string& message);

}  // namespace cli
