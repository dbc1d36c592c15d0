// classify MODEL LABEL LABEL… < TEXTS: the most likely label of each line of standard input.
//
// Nothing is drawn: the labels are scored as continuations. That is one pass over the prompt and a
// small one over all labels, gives probabilities, and can answer nothing but a label.

#include <lapidary/lapidary.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <iostream>
#include <span>
#include <string>
#include <vector>

namespace {

/// What follows "Label:", with the end of its line: one label may begin as another does.
std::vector<std::vector<lapidary::TokenId>> read_labels(const lapidary::Tokenizer& tokenizer,
                                                        std::span<char*> names) {
  std::vector<std::vector<lapidary::TokenId>> labels;
  for (const char* const name : names)
    labels.push_back(tokenizer.encode(" " + std::string(name) + "\n"));
  return labels;
}

/// Of the best of `scores`, among these alone.
double probability(const std::vector<lapidary::Score>& scores, const lapidary::Score& best) {
  double sum = 0;
  for (const lapidary::Score& score : scores) sum += std::exp(score.sum - best.sum);
  return 1 / sum;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::cerr << "usage: classify MODEL LABEL LABEL… < TEXTS\n";
    return 2;
  }
  const lapidary::Model model = lapidary::Model::load(argv[1]);
  const lapidary::Tokenizer& tokenizer = model.tokenizer();
  const std::span<char*> names = std::span(argv, std::size_t(argc)).subspan(2);
  const std::vector<std::vector<lapidary::TokenId>> labels = read_labels(tokenizer, names);
  lapidary::Session session(model, {.context = 2048});
  for (std::string text; std::getline(std::cin, text);) {
    session.clear();
    session.append(lapidary::text_prompt(tokenizer, "Text: " + text + "\nLabel:"));
    const std::vector<lapidary::Score> scores = session.score(labels);
    const auto best = std::max_element(
        scores.begin(), scores.end(),
        [](const lapidary::Score& a, const lapidary::Score& b) { return a.sum < b.sum; });
    std::cout << names[std::size_t(best - scores.begin())] << ' ' << probability(scores, *best)
              << '\n';
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
