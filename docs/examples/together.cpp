// Answers the lines of a file together: together MODEL FILE [TOKENS]
//
// All begin with the same instruction, which is computed once.

#include <fstream>
#include <iostream>
#include <map>
#include <string>

#include "lapidary/lapidary.h"

namespace {

constexpr const char* kInstruction =
    "Name the opposite of each word. Answer with one word in lower case, without a full stop and "
    "without anything else.\nhot: cold\nlarge: small\nearly: late\nopen: closed\n";

int run(const std::string& path, const std::string& words, int tokens) {
  const lapidary::Model model = lapidary::Model::load(path);
  const lapidary::Engine engine(model, {.context = 1024, .kv_memory = std::uint64_t{256} << 20});
  lapidary::Scheduler scheduler(engine, {.parallel = 16});

  std::map<std::uint64_t, std::string> asked;
  std::ifstream lines(words);
  std::string word;
  while (std::getline(lines, word) || !scheduler.idle()) {
    if (lines && !word.empty()) {
      lapidary::Request request;
      request.prompt = lapidary::text_prompt(model.tokenizer(), kInstruction + word + ":");
      request.options = {.max_tokens = tokens, .sampling = {.temperature = 0}, .stop = {"\n"}};
      asked[scheduler.add(std::move(request))] = word;
      if (scheduler.waiting() < scheduler.parallel()) continue;  // Enough to choose from.
    }
    for (const lapidary::Answer& answer : scheduler.step())
      std::cout << asked[answer.request] << ":" << answer.completion.text << '\n';
  }
  const lapidary::EngineStats stats = engine.stats();
  std::cerr << stats.computed_tokens << " tokens computed in " << stats.passes << " passes, "
            << stats.reused_tokens << " of the prompts were there\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: together MODEL FILE [TOKENS]\n";
    return 2;
  }
  try {
    return run(argv[1], argv[2], argc > 3 ? std::stoi(argv[3]) : 8);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
