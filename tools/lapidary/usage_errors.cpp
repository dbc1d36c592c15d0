#include "usage_errors.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "json.h"
#include "options.h"
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
    {"--draft", "the commands generate and chat take a draft model, a batch goes without"},
    {"--verbose", "there is nothing more to tell"},
};

const CLI::App& chosen_of(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.front();
}

// `app`: the program, or one of its commands.
std::string help_of(const CLI::App& app) {
  const CLI::App& command = chosen_of(app);
  return " (see lapidary " + (command.get_parent() == nullptr ? "" : command.get_name() + " ") +
         "--help)";
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

// The option that `command`, or the program behind every command, calls `name`; nullptr: none.
const CLI::Option* find_option(const CLI::App& app, const CLI::App& command,
                               const std::string& name) {
  const CLI::Option* option = command.get_option_no_throw(name);
  return option != nullptr ? option : app.get_option_no_throw(name);
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// Calls `found(command, word)` for the words that are no option's value, up to "--": names of
// options and commands, and positionals.
template <class Found>
void each_free_word(const CLI::App& app, std::span<const std::string> words, Found found) {
  const CLI::App* command = &app;
  for (std::size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    const std::string& word = words[i];
    if (word.starts_with('-')) {
      const CLI::Option* option = find_option(app, *command, word);
      if (option != nullptr && takes_value(*option)) ++i;
    } else if (command == &app) {
      for (const CLI::App* one : app.get_subcommands({})) {
        if (one->get_name() == word) command = one;
      }
    }
    found(*command, word);
  }
}

// Whether "-fa" would be read as "-f a". Numbers may stand so: "-n64".
bool is_glued(const CLI::App& app, const CLI::App& command, const std::string& word) {
  if (word.size() < 3 || word[0] != '-' || word[1] == '-') return false;
  const CLI::Option* option = find_option(app, command, word.substr(0, 2));
  if (option == nullptr || !takes_value(*option)) return false;
  const std::string type = option->get_type_name();
  const bool number = type.starts_with("INT") || type.starts_with("UINT") ||
                      type.starts_with("FLOAT") || type.starts_with("SIZE");
  return !number || std::isalpha(static_cast<unsigned char>(word[2])) != 0;
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

// CLI11 says "Could not convert: --quiet = maybe".
std::string explain_conversion(const CLI::App& command, const std::string& text) {
  const std::size_t name = text.find(": ") + 2;
  const std::size_t equals = text.find(" = ", name);
  if (equals == std::string::npos) return text;
  const std::string option = text.substr(name, equals - name);
  const CLI::Option* found = command.get_option_no_throw(option);
  const bool flag = found != nullptr && !takes_value(*found);
  return option + ": expected " + (flag ? "true or false" : "another kind of value") + ", got " +
         shortened(text.substr(equals + 3));
}

// `text` begins with an option's name; where its value came from the environment or a file, that is
// named instead.
std::string name_source(const CLI::App& app, const std::string& text,
                        std::span<const std::string> words) {
  const std::size_t end = text.find_first_of(": ");
  const CLI::Option* option = find_option(app, chosen_of(app), text.substr(0, end));
  if (option == nullptr || end == std::string::npos || on_command_line(*option, words)) return text;
  const std::string rest = text.substr(end);
  const std::string& variable = option->get_envname();
  const char* value = variable.empty() ? nullptr : std::getenv(variable.c_str());
  const bool from_environment =
      value != nullptr && !option->results().empty() && option->results().front() == value;
  if (from_environment) return variable + rest;
  const CLI::Option* config = app.get_config_ptr();
  if (config == nullptr || config->as<std::string>().empty()) return text;
  return config->as<std::string>() + ": " + option->get_lnames().front() + rest;
}

// CLI11 asks for what is required before it complains about what it does not know.
std::string explain_required(const CLI::App& app, const CLI::ParseError& error) {
  if (!app.get_subcommands().empty()) {
    const std::vector<std::string> rest = app.remaining(true);
    const bool unknown = std::ranges::any_of(
        rest, [](const std::string& word) { return word.size() > 1 && word.front() == '-'; });
    return unknown ? explain_extras(app) : error.what();
  }
  const std::vector<std::string> rest = app.remaining();
  if (rest.empty()) return "a subcommand is required";
  return rest[0].starts_with('-') ? unknown_option(app, rest[0]) : unknown_command(app, rest[0]);
}

}  // namespace

std::string explain(const CLI::App& app, const CLI::ParseError& error,
                    std::span<const std::string> words) {
  std::string text = error.what();
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    text = explain_extras(app);
  } else if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    text = explain_required(app, error);
  } else if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr) {
    text = name_source(app, explain_conversion(chosen_of(app), text), words);
  } else if (dynamic_cast<const CLI::ConfigError*>(&error) == nullptr) {
    text = name_source(app, text, words);
  }
  return text + help_of(app);
}

std::string explain_glued(const CLI::App& app, std::span<const std::string> words) {
  std::string text;
  each_free_word(app, words, [&](const CLI::App& command, const std::string& word) {
    if (!text.empty() || !is_glued(app, command, word)) return;
    text = unknown_option(command, word);
    const std::string value = shortened(word.substr(2));
    if (text.find_first_of(":;") == std::string::npos)
      text += "; a value stands apart: " + word.substr(0, 2) + " " + value;
    text += help_of(command);
  });
  return text;
}

std::string chosen_command(const CLI::App& app, std::span<const std::string> words) {
  std::string name;
  each_free_word(app, words, [&](const CLI::App& command, const std::string& /*word*/) {
    if (&command != &app) name = command.get_name();
  });
  return name;
}

}  // namespace cli
