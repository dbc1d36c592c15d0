// consumer MODEL PROMPT: completes PROMPT by a few greedy tokens, with nothing but the public
// headers.

#include <lapidary/lapidary.h>

#include <exception>
#include <iostream>
#include <string>

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: consumer MODEL PROMPT\n";
    return 2;
  }
  const lapidary::Model model = lapidary::Model::load(argv[1]);
  lapidary::Session session(model, {.context = 256});
  session.append(lapidary::text_prompt(model.tokenizer(), argv[2]));
  lapidary::GenerateOptions options;
  options.max_tokens = 16;
  options.sampling.temperature = 0.0F;
  const lapidary::Completion completion = session.generate(options);
  if (completion.ids.empty()) {
    std::cerr << "expected up to 16 tokens, got none\n";
    return 1;
  }
  std::cout << completion.text;
  for (const lapidary::TokenId id : completion.ids) std::cout << ' ' << id;
  std::cout << '\n';
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
