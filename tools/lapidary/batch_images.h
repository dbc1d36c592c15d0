#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pictures.h"

namespace cli {

/// Where a line of a batch says that a picture is.
struct PictureSource {
  std::string name;              ///< Its file, or what stands in messages.
  std::vector<std::byte> bytes;  ///< What a data: URL holds; empty: read the file.
};

/// The path of file:///PATH, its %XX decoded. Throws RequestError for what is no such URL.
std::string path_of_file_url(const std::string& url);

/// A file name, relative to `folder`; a file: URL; or a data: URL with base64. Throws RequestError
/// for a URL of any other kind and for what is no base64.
PictureSource parse_picture_source(const std::string& text, const std::string& folder);

/// Throws RequestError for what is no picture. With a `root` every file must lie under that folder,
/// links followed; of one that does not, or is no picture, nothing more is told.
Picture read_picture(const PictureSource& source, const ImageFlags& flags,
                     std::uint64_t memory_limit, const std::string& root);

/// The bytes of standard base64 with its padding and nothing else, no blanks either; nothing for
/// any other text.
std::optional<std::vector<std::byte>> decode_base64(std::string_view text);

}  // namespace cli
