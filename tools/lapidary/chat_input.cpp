#include "chat_input.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "batch_images.h"
#include "batch_request.h"
#include "chat_pictures.h"

namespace cli {

namespace {

bool close_quotes(std::string& text) {
  const std::size_t end = text.find_last_not_of(" \t\r");
  if (end == std::string::npos || end < 2 || text.compare(end - 2, 3, "\"\"\"") != 0) return false;
  text.resize(end - 2);
  return true;
}

}  // namespace

LineEditor::Event read_message(LineEditor& editor, std::string& draft, std::string& text) {
  LineEditor::Event event = editor.read(">>> ", text, draft);
  draft.clear();
  if (event != LineEditor::Event::kLine) return event;
  const auto more = [&](std::string& line) {
    event = editor.read("... ", line);
    return event == LineEditor::Event::kLine;
  };
  std::string line;
  if (text.starts_with("\"\"\"")) {
    text.erase(0, 3);
    while (!close_quotes(text)) {
      if (!more(line)) break;
      text += '\n' + line;
    }
  } else {
    while (text.ends_with('\\')) {
      text.pop_back();
      if (!more(line)) break;
      text += '\n' + line;
    }
  }
  // Lines that were there already are a text that is cleared.
  if (event == LineEditor::Event::kInterrupt) return LineEditor::Event::kCleared;
  if (event == LineEditor::Event::kCleared) return event;
  editor.remember(text);
  return LineEditor::Event::kLine;
}

namespace {

namespace fs = std::filesystem;

bool names_picture(const std::string& name) {
  constexpr std::array<std::string_view, 11> kEndings = {
      ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".heic", ".heif", ".avif", ".tiff", ".tif"};
  std::string ending = fs::path(name).extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::ranges::find(kEndings, ending) != kEndings.end();
}

// Blanks and quotes with a backslash, as split_file_names() reads them.
std::string escaped(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (c == ' ' || c == '\\' || c == '"' || c == '\'') out += '\\';
    out += c;
  }
  return out;
}

std::string unescaped(const std::string& name) {
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '\\' && i + 1 < name.size()) ++i;
    out += name[i];
  }
  return out;
}

// Where the last word of `text` begins; blanks behind a backslash belong to it.
std::size_t last_word(const std::string& text) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == ' ') {
      begin = i + 1;
    }
  }
  return begin;
}

// Files that begin as `word` does, folders with a slash behind them.
std::vector<std::string> complete_file(const std::string& word) {
  const std::string typed = unescaped(word);
  const std::size_t slash = typed.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : typed.substr(0, slash + 1);
  const std::string begin = typed.substr(folder.size());
  std::vector<std::string> found;
  std::error_code none;
  const std::string place = folder.empty() ? "." : expand_home(folder);
  for (fs::directory_iterator entry(place, none), end; !none && entry != end;
       entry.increment(none)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(begin) || (begin.empty() && name.starts_with('.'))) continue;
    std::error_code unreadable;
    found.push_back(escaped(folder + name) + (entry->is_directory(unreadable) ? "/" : ""));
  }
  std::ranges::sort(found);
  return found;
}

// The file that `name`, a path or a file: address, names, if it is there and a picture; else empty.
std::string picture_at(const std::string& name) {
  std::string path = expand_home(name);
  if (name.starts_with("file://")) {
    try {
      path = path_of_file_url(name);
    } catch (const RequestError&) {
      return {};
    }
  }
  std::error_code none;
  return names_picture(path) && fs::is_regular_file(path, none) ? path : "";
}

}  // namespace

std::string expand_home(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  const char* home = std::getenv("HOME");
  return home == nullptr ? path : home + path.substr(1);
}

std::vector<std::string> complete_line(const std::string& line,
                                       std::span<const std::string> commands) {
  std::vector<std::string> found;
  if (!line.starts_with('/')) return found;
  if (line.find(' ') == std::string::npos) {
    for (const std::string& command : commands) {
      if (command.starts_with(line)) found.push_back(command + " ");
    }
    return found;
  }
  constexpr std::array<std::string_view, 4> kOfFiles = {"/image ", "/read ", "/save ", "/load "};
  const auto begins = [&](std::string_view command) { return line.starts_with(command); };
  if (!std::ranges::any_of(kOfFiles, begins)) return found;
  const std::size_t begin = last_word(line);
  for (const std::string& file : complete_file(line.substr(begin)))
    found.push_back(line.substr(0, begin) + file);
  return found;
}

std::vector<std::string> pasted_pictures(const std::string& message) {
  if (const std::string path = picture_at(message); !path.empty()) return {path};
  std::vector<std::string> paths;
  for (const std::string& name : split_file_names(message)) {
    paths.push_back(picture_at(name));
    if (paths.back().empty()) return {};
  }
  return paths;
}

}  // namespace cli
