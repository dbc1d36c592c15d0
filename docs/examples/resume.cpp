// resume MODEL FILE TOKENS [PROMPT]: writes a story, TOKENS at a time. FILE keeps how far it is.
//
// A session's progress is its ids. Computing them again gives the same bits, and a draw depends on
// the seed and the position alone: a story that is interrupted goes on as if it had not been.

#include <lapidary/lapidary.h>

#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Ids = std::vector<lapidary::TokenId>;

/// The ids mean something to one vocabulary only, and the story is the same with one model only.
std::string title(const lapidary::Model& model) {
  const lapidary::ModelInfo& info = model.info();
  return "story 1 " + std::to_string(info.vocabulary) + ' ' + std::to_string(info.parameters) +
         ' ' + std::to_string(info.weight_bytes);
}

Ids restore(const std::string& path, const std::string& title) {
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) throw std::runtime_error(path + " cannot be read");
  if (line != title) throw std::runtime_error(path + " is of another model");
  Ids ids{std::istream_iterator<lapidary::TokenId>(file), {}};
  if (!file.eof()) throw std::runtime_error(path + " is damaged");
  return ids;
}

/// Beside the file, then in its place: whatever happens meanwhile, one of the two is whole.
void save(const std::string& path, const std::string& title,
          std::span<const lapidary::TokenId> ids) {
  const std::string fresh = path + ".new";
  std::ofstream file(fresh);
  file << title << '\n';
  for (const lapidary::TokenId id : ids) file << id << '\n';
  file.close();
  if (!file) throw std::runtime_error(fresh + " cannot be written");
  std::filesystem::rename(fresh, path);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 4 || argc > 5) {
    std::cerr << "usage: resume MODEL FILE TOKENS [PROMPT]\n";
    return 2;
  }
  const std::string path = argv[2];
  const lapidary::Model model = lapidary::Model::load(argv[1]);
  const lapidary::Tokenizer& tokenizer = model.tokenizer();
  lapidary::Session session(model, {.context = 4096});
  if (argc == 5) {
    session.append(lapidary::text_prompt(tokenizer, argv[4]));
  } else {
    session.append(restore(path, title(model)));
  }
  session.generate({.max_tokens = std::stoi(argv[3]), .sampling = {.seed = 7}});
  save(path, title(model), session.ids());
  std::cout << tokenizer.decode(session.ids()) << '\n';
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
