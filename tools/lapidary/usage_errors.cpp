#include "usage_errors.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "common.h"
#include "suggest.h"

namespace cli {

namespace {

// What other engines call the same.
struct Foreign {
  const char* name;
  const char* ours;  // Or, with a space in it, what to say instead.
};
constexpr Foreign kForeign[] = {
    {"--temperature", "--temp"},
    {"--n-predict", "--max-tokens"},
    {"--predict", "--max-tokens"},
    {"--num-predict", "--max-tokens"},
    {"--ctx-size", "--context"},
    {"--num-ctx", "--context"},
    {"--system-prompt", "--system"},
    {"-sys", "--system"},
    {"--repetition-penalty", "--repeat-penalty"},
    {"--model-path", "--model"},
    {"--input", "--file"},
    {"--output", "--out"},
    {"-cnv", "the command chat holds a conversation"},
    {"-ngl", "there is no GPU to put layers on"},
    {"--gpu-layers", "there is no GPU to put layers on"},
    {"--n-gpu-layers", "there is no GPU to put layers on"},
    {"-fa", "there is nothing to switch on"},
    {"--flash-attn", "there is nothing to switch on"},
    {"--verbose", "there is nothing more to tell"},
};

std::string help_of(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return " (see lapidary " + (chosen.empty() ? "" : chosen.front()->get_name() + " ") + "--help)";
}

const CLI::App& chosen_of(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.front();
}

// "--temp" of every option that `command` takes.
std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_fnames()) names.push_back("--" + name);
  }
  return names;
}

std::string unknown_option(const CLI::App& app, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  std::string text = "there is no option " + shortened(name);
  const std::vector<std::string> names = option_names(chosen_of(app));
  for (const Foreign& foreign : kForeign) {
    if (name != foreign.name) continue;
    const std::string ours = foreign.ours;
    if (ours.find(' ') != std::string::npos) return text.append(": ").append(ours);
    if (std::ranges::find(names, ours) != names.end())
      return text.append("; did you mean ").append(ours).append("?");
  }
  if (const std::string near = nearest(name, names); !near.empty())
    text += "; did you mean " + near + "?";
  return text;
}

std::string unknown_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  const std::string near = nearest(word, names);
  return "there is no subcommand " + shortened(word) +
         (near.empty() ? "" : "; did you mean " + near + "?");
}

// The first word, in the order of the command line, that nothing took.
std::string explain_extras(const CLI::App& app) {
  const std::vector<std::string> extras = app.remaining(true);
  for (const std::string& word : extras) {
    if (word.size() > 1 && word.front() == '-') return unknown_option(app, word);
  }
  return extras.empty() ? "unexpected arguments" : "unexpected argument " + shortened(extras[0]);
}

// "-ngl" is read as "-n gl"; a number's option with letters right behind it is no such option.
std::string glued_option(std::span<const std::string> words) {
  for (const std::string& word : words) {
    if (word.size() < 3 || word[0] != '-' ||
        std::string_view("nct").find(word[1]) == std::string::npos)
      continue;
    if (std::isalpha(static_cast<unsigned char>(word[2])) != 0) return word;
  }
  return {};
}

bool on_command_line(const CLI::Option& option, std::span<const std::string> words) {
  return std::ranges::any_of(words, [&](const std::string& word) {
    for (const std::string& name : option.get_lnames()) {
      if (word == "--" + name || word.starts_with("--" + name + "=")) return true;
    }
    for (const std::string& name : option.get_snames()) {
      if (word.starts_with("-" + name)) return true;
    }
    return false;
  });
}

// `text` begins with an option's name; where its value came from the environment or a file, that is
// named instead.
std::string name_source(const CLI::App& app, const std::string& text,
                        std::span<const std::string> words) {
  const std::size_t end = text.find_first_of(": ");
  const CLI::App& command = chosen_of(app);
  const CLI::Option* option = command.get_option_no_throw(text.substr(0, end));
  if (option == nullptr || end == std::string::npos || on_command_line(*option, words)) return text;
  const std::string rest = text.substr(end);
  const std::string& variable = option->get_envname();
  const char* value = variable.empty() ? nullptr : std::getenv(variable.c_str());
  const bool from_environment =
      value != nullptr && !option->results().empty() && option->results().front() == value;
  if (from_environment) return variable + rest;
  const CLI::Option* config = app.get_config_ptr();
  if (config == nullptr || config->count() == 0) return text;
  return config->as<std::string>() + ": " + option->get_lnames().front() + rest;
}

}  // namespace

std::string explain(const CLI::App& app, const CLI::ParseError& error,
                    std::span<const std::string> words) {
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr)
    return explain_extras(app) + help_of(app);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && app.get_subcommands().empty()) {
    // CLI11 asks for a subcommand before it complains about a word that is none.
    const std::vector<std::string> rest = app.remaining();
    if (rest.empty()) return "a subcommand is required" + help_of(app);
    return (rest[0].starts_with('-') ? unknown_option(app, rest[0])
                                     : unknown_command(app, rest[0])) +
           help_of(app);
  }
  if (dynamic_cast<const CLI::ValidationError*>(&error) != nullptr) {
    if (const std::string word = glued_option(words); !word.empty())
      return unknown_option(app, word) + help_of(app);
  }
  return name_source(app, error.what(), words) + help_of(app);
}

}  // namespace cli
