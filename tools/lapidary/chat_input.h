#pragma once

#include <span>
#include <string>
#include <vector>

#include "line_editor.h"

namespace cli {

/// One message into `text`: a line, lines that end in a backslash and the one behind them, or what
/// stands between two """. It begins as `draft`, which is used up.
LineEditor::Event read_message(LineEditor& editor, std::string& draft, std::string& text);

/// `path` with a `~` in front of it replaced by the home folder.
std::string expand_home(const std::string& path);

/// What `line`, up to the cursor, may be continued to: a command, or behind /image, /read,
/// /save and /load a file.
std::vector<std::string> complete_line(const std::string& line,
                                       std::span<const std::string> commands);

/// The pictures whose names are all of `message`, as terminals paste files that are dragged into
/// them: as they are, in quotes, with escaped blanks or as file: addresses. Empty when one is none.
std::vector<std::string> pasted_pictures(const std::string& message);

}  // namespace cli
