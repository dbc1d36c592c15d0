// pictures MODEL MMPROJ QUESTION PICTURE…: asks a model about pictures.
//
// The pictures may come from strangers: what they take is limited, and one that cannot be read is
// left out.

#include <lapidary/lapidary.h>

#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{256} << 20;

std::vector<lapidary::ContentPart> read_pictures(const lapidary::Model& model,
                                                 const std::vector<std::string>& paths) {
  lapidary::ImageEncoder encoder(model);
  std::vector<lapidary::ContentPart> parts;
  for (const std::string& path : paths) {
    try {
      const lapidary::Image image = lapidary::Image::load(path, {.memory_limit = kMostBytes});
      const auto progress = [&](std::uint64_t done, std::uint64_t total) {
        std::cerr << '\r' << path << ": layer " << done << " of " << total << std::flush;
      };
      parts.push_back({.text = {}, .image = encoder.encode(image, {}, progress)});
      std::cerr << '\n';
    } catch (const lapidary::Error& error) {
      if (error.code() != lapidary::ErrorCode::kFile) throw;
      std::cerr << error.what() << '\n';
    }
  }
  return parts;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 5) {
    std::cerr << "usage: pictures MODEL MMPROJ QUESTION PICTURE…\n";
    return 2;
  }
  lapidary::ModelOptions options;
  options.vision = argv[2];
  const lapidary::Model model = lapidary::Model::load(argv[1], options);
  std::vector<lapidary::ContentPart> parts = read_pictures(model, {argv + 4, argv + argc});
  std::cout << parts.size() << " pictures" << std::endl;
  parts.push_back({.text = argv[3]});

  lapidary::Session session(model, {.context = 4096});
  session.add_user(parts);
  lapidary::Reply reply = session.reply({.max_tokens = 64, .sampling = {.temperature = 0}});
  for (const std::string_view piece : reply) std::cout << piece << std::flush;
  std::cout << '\n' << reply.completion().usage.prompt_tokens << " tokens read" << std::endl;
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
