#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace cli {

/// "1.2 GiB" and the like, powers of 1024, as limits are given and as the library says it.
std::string human_bytes(std::uint64_t bytes);

/// `text` without white space around it.
std::string trim(std::string_view text);

/// All `words` with `between` between each two.
std::string joined(std::span<const std::string> words, const std::string& between);

/// "1 line", "2 lines".
std::string counted(std::size_t count, const std::string& noun);

/// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...);

/// `count / seconds`, 0 when no time has passed.
double rate(double count, double seconds);

}  // namespace cli
