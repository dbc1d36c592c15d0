// Reads a document once and asks questions about it, each from where the document ends.
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "lapidary/lapidary.h"

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: ways MODEL DOCUMENT QUESTION...\n";
    return 2;
  }
  try {
    const lapidary::Model model = lapidary::Model::load(argv[1]);
    const lapidary::Tokenizer& tokenizer = model.tokenizer();
    std::ifstream file(argv[2]);
    const std::string document(std::istreambuf_iterator<char>(file), {});
    lapidary::Session session(model, {.forks = 1});
    session.append(lapidary::text_prompt(tokenizer, document));
    for (int i = 3; i < argc; ++i) {
      lapidary::Session asked = session.fork();
      asked.append(tokenizer.encode(std::string("\nQuestion: ") + argv[i] + "\nAnswer:"));
      std::cout << argv[i] << asked.generate({.max_tokens = 40, .stop = {"\n"}}).text << '\n';
    }
  } catch (const lapidary::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
