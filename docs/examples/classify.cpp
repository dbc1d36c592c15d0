// classify MODEL LABEL LABEL… < TEXTS: the most likely label of each line of standard input.
//
// Nothing is drawn: the logits of the labels' first tokens are compared. That is one pass over the
// prompt, gives probabilities, and can answer nothing but a label.

#include <lapidary/lapidary.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Label {
  std::string name;
  lapidary::TokenId id = 0;  // Its first token, behind "Label:".
  double probability = 0;
};

std::vector<Label> read_labels(const lapidary::Tokenizer& tokenizer, std::span<char*> names) {
  std::vector<Label> labels;
  for (const char* const name : names) {
    const std::vector<lapidary::TokenId> ids = tokenizer.encode(" " + std::string(name));
    const lapidary::TokenId id = ids.at(0);
    if (std::any_of(labels.begin(), labels.end(), [&](const Label& l) { return l.id == id; }))
      throw std::runtime_error(std::string(name) + " begins with the same token as another label");
    labels.push_back({name, id});
  }
  return labels;
}

/// Probabilities among the labels: a softmax over their logits alone.
void weigh(std::vector<Label>& labels, std::span<const float> logits) {
  float best = -INFINITY;
  for (const Label& label : labels) best = std::max(best, logits[std::size_t(label.id)]);
  double sum = 0;
  for (Label& label : labels) {
    label.probability = std::exp(double{logits[std::size_t(label.id)]} - double{best});
    sum += label.probability;
  }
  for (Label& label : labels) label.probability /= sum;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::cerr << "usage: classify MODEL LABEL LABEL… < TEXTS\n";
    return 2;
  }
  const lapidary::Model model = lapidary::Model::load(argv[1]);
  const lapidary::Tokenizer& tokenizer = model.tokenizer();
  std::vector<Label> labels = read_labels(tokenizer, std::span(argv, std::size_t(argc)).subspan(2));
  lapidary::Session session(model, {.context = 2048});
  for (std::string text; std::getline(std::cin, text);) {
    session.clear();
    session.append(lapidary::text_prompt(tokenizer, "Text: " + text + "\nLabel:"));
    weigh(labels, session.logits());
    const Label& best = *std::max_element(
        labels.begin(), labels.end(),
        [](const Label& a, const Label& b) { return a.probability < b.probability; });
    std::cout << best.name << ' ' << best.probability << '\n';
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
