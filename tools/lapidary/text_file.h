#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cli {

/// What a prompt may have at most, and what any text may: an endless file ends there.
inline constexpr std::uint64_t kMostPromptBytes = std::uint64_t{64} << 20;
inline constexpr std::uint64_t kMostTextBytes = std::uint64_t{1} << 30;

/// A whole file, or standard input for "-", of at most `most` bytes. Throws Error(kFile).
std::string read_text_file(const std::string& path, std::uint64_t most = kMostPromptBytes);
std::string read_standard_input(std::uint64_t most = kMostPromptBytes);

/// `text` without the byte order mark that it may begin with.
std::string without_mark(std::string text);

/// What a person wrote into a file: `text` without the byte order mark at its beginning and the one
/// line end (\n or \r\n) at its end, which belong to the file.
std::string prompt_text(std::string text);

/// Throws Error(kUsage) with the offset when `text` is not valid UTF-8. `what` names it: "the
/// prompt".
void require_utf8(std::string_view text, const std::string& what);

}  // namespace cli
