#include <lapidary/lapidary.h>

#include <cstring>
#include <string>

#define EXPORTED extern "C" __attribute__((visibility("default")))

/// Writes a few greedy tokens into `out`, at most `size` bytes with the zero.
EXPORTED void plugin_complete(const char* path, const char* prompt, char* out, std::size_t size) {
  const lapidary::Model model = lapidary::Model::load(path);
  lapidary::Session session(model, {.context = 256});
  session.append(lapidary::text_prompt(model.tokenizer(), prompt));
  lapidary::GenerateOptions options;
  options.max_tokens = 16;
  options.sampling.temperature = 0.0F;
  std::string text;
  for (const lapidary::TokenId id : session.generate(options).ids) text += std::to_string(id) + ' ';
  std::strncpy(out, text.c_str(), size - 1);
  out[size - 1] = '\0';
}

/// Throws what the library throws.
EXPORTED void plugin_fail() { lapidary::Model::load("/nowhere/at/all.gguf"); }
