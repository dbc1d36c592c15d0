#include "batch_images.h"

#include <algorithm>
#include <cctype>
#include <climits>
#include <cstdint>
#include <filesystem>
#include <utility>

#include "batch_request.h"

namespace cli {

namespace {

constexpr std::string_view kFileScheme = "file://";
constexpr std::string_view kDataScheme = "data:";

[[noreturn]] void refuse(const std::string& message) {
  throw RequestError{"invalid_image", message};
}

// Schemes are written in any case.
bool has_scheme(std::string_view text, std::string_view scheme) {
  if (text.size() < scheme.size()) return false;
  for (std::size_t i = 0; i < scheme.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(text[i])) != scheme[i]) return false;
  }
  return true;
}

// "http" of "http://…"; empty when there is none.
std::string scheme_of(std::string_view text) {
  const std::size_t end = text.find("://");
  if (end == std::string_view::npos || end == 0) return {};
  for (const char c : text.substr(0, end)) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '+' && c != '-' && c != '.')
      return {};
  }
  return std::string(text.substr(0, end));
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const int letter = std::tolower(static_cast<unsigned char>(c));
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

// A picture that someone put here as bare base64 is no name, and would fill the message.
std::string checked_name(std::string name) {
  if (name.size() >= PATH_MAX) {
    refuse("expected the name of a file or a data: URL, found " + std::to_string(name.size()) +
           " bytes that begin with " + quoted(Json(shortened(name, 40))));
  }
  return name;
}

PictureSource data_of(std::string_view url) {
  const std::size_t comma = url.find(',');
  const std::string_view kind = url.substr(0, comma);
  if (comma == std::string_view::npos || !kind.ends_with(";base64")) {
    refuse("expected data:image/TYPE;base64,…, found " + shortened(kind, 40));
  }
  std::optional<std::vector<std::byte>> bytes = decode_base64(url.substr(comma + 1));
  if (!bytes) refuse("the data: URL is not valid base64");
  if (bytes->empty()) refuse("the data: URL is empty");
  return {"the picture of the data: URL", std::move(*bytes)};
}

}  // namespace

std::optional<std::vector<std::byte>> decode_base64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.size() % 4 != 0) return {};
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  text.remove_suffix(padding);
  std::vector<std::byte> bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return {};
    bits = (bits << 6U) | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<std::byte>((bits >> static_cast<unsigned>(count)) & 0xFFU));
  }
  // What the padding leaves of the last digit is zero.
  if ((bits & ((1U << static_cast<unsigned>(count)) - 1)) != 0) return {};
  return bytes;
}

std::string path_of_file_url(const std::string& url) {
  std::string_view path = std::string_view(url).substr(kFileScheme.size());
  if (has_scheme(path, "localhost/")) path.remove_prefix(std::string_view("localhost").size());
  if (!path.starts_with('/')) refuse("expected file:///PATH, found " + shortened(url));
  std::string file;
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] != '%') {
      file += path[i];
      continue;
    }
    const int high = i + 2 < path.size() ? hex_digit(path[i + 1]) : -1;
    const int low = i + 2 < path.size() ? hex_digit(path[i + 2]) : -1;
    if (high < 0 || low < 0)
      refuse("expected two hexadecimal digits behind each % of " + shortened(url));
    file += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (file.find('\0') != std::string::npos) refuse("a file name holds no %00: " + shortened(url));
  return file;
}

PictureSource parse_picture_source(const std::string& text, const std::string& folder) {
  if (text.empty() || text.find('\0') != std::string::npos)
    refuse("expected the name of a file, found an empty one or one with a NUL");
  if (has_scheme(text, kDataScheme)) return data_of(text);
  if (has_scheme(text, kFileScheme)) return {checked_name(path_of_file_url(text)), {}};
  if (const std::string scheme = scheme_of(text); !scheme.empty()) {
    throw RequestError{"unsupported", "pictures are not fetched from " + shortened(scheme, 40) +
                                          ":// addresses: expected a file or a data: URL, found " +
                                          shortened(text)};
  }
  // An absolute one stays as it is.
  return {checked_name((std::filesystem::path(folder) / text).string()), {}};
}

namespace {

namespace fs = std::filesystem;

// The file itself, links followed, when it lies under `root`.
std::string confined(const std::string& name, const std::string& root) {
  std::error_code none;
  const fs::path folder = fs::canonical(root, none);
  const fs::path file = none ? fs::path() : fs::canonical(name, none);
  const auto [end, rest] = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  if (none || end != folder.end() || rest == file.end()) refuse("not a picture under " + root);
  return file.string();
}

}  // namespace

Picture read_picture(const PictureSource& source, const ImageFlags& flags,
                     std::uint64_t memory_limit, const std::string& root) {
  const bool in_request = !source.bytes.empty();
  const std::string file = in_request || root.empty() ? source.name : confined(source.name, root);
  try {
    if (!in_request) return read_picture(file, flags, memory_limit);
    return make_picture(
        file, lapidary::Image::decode(source.bytes, file, flags.loading(memory_limit)), flags);
  } catch (const lapidary::Error& error) {
    if (error.code() != lapidary::ErrorCode::kFile) throw;
    refuse(in_request || root.empty() ? error.what() : "not a picture under " + root);
  }
}

}  // namespace cli
