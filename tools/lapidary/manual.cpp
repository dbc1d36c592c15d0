#include "manual.h"

#include <CLI/CLI.hpp>
#include <string_view>
#include <vector>

#include "common.h"

namespace cli {

namespace {

// Text for roff: backslashes, hyphens that are minus signs, and lines that begin as requests do.
std::string roff(std::string_view text) {
  std::string out;
  bool line_begins = true;
  for (const char c : text) {
    if (line_begins && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
    line_begins = c == '\n';
  }
  return out;
}

// "-n, --max-tokens"
std::string names_of(const CLI::Option& option) {
  std::string names;
  const auto add = [&](const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
  for (const std::string& name : option.get_snames()) add("-" + name);
  for (const std::string& name : option.get_lnames()) add("--" + name);
  for (const std::string& name : option.get_fnames()) {
    if (!option.check_lname(name)) add("--" + name);
  }
  return names.empty() ? option.get_name(true) : names;
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

void add_option_entry(std::string& page, const CLI::Option& option) {
  page += ".TP\n\\fB" + roff(names_of(option)) + "\\fR";
  if (takes_value(option) && option.nonpositional())
    page += " \\fI" + roff(option.get_type_name()) + "\\fR";
  page += "\n" + roff(option.get_description());
  if (!option.get_default_str().empty())
    page += " (default: " + roff(option.get_default_str()) + ")";
  if (!option.get_envname().empty()) page += "\n.br\nEnvironment: " + roff(option.get_envname());
  page += "\n";
}

void add_command(std::string& page, const CLI::App& command) {
  page +=
      ".SS lapidary " + roff(command.get_name()) + "\n" + roff(command.get_description()) + ".\n";
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_name() != "--help") add_option_entry(page, *option);
  }
}

constexpr const char* kRest = R"(.SH FILES
.TP
.I $LAPIDARY_HOME, $XDG_DATA_HOME/lapidary, ~/.local/share/lapidary
The model folder, the first of these that is set: models that
.B \-m
finds by name.
.TP
.I $XDG_STATE_HOME/lapidary/history, ~/.local/state/lapidary/history
What was typed into chats.
.SH EXIT STATUS
0 done; 1 something failed (in a batch: some lines); 2 bad usage; 3 a file is missing, unreadable or invalid; 4 not enough
memory or over the budget; 5 the prompt does not fit the context; 130 interrupted.
.SH EXAMPLES
.nf
lapidary generate \-n 64 "Once upon a time"
lapidary generate \-\-temp 0 \-\-json \-f prompt.txt
lapidary chat \-m gemma\-3\-1b\-it\-q4_0
lapidary batch prompts.jsonl \-o answers.jsonl
.fi
)";

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  std::vector<const CLI::App*> commands;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    commands.push_back(command);
  return commands;
}

// One option for a completion script: its names, its help, and what its value is.
struct Completion {
  std::vector<std::string> names;
  std::string help;
  std::vector<std::string> words;  // Of one value.
  bool value = false;
  bool file = false;
  bool folder = false;
  bool model = false;
};

// "{a, b, c}" in a type's name: the words that a value may be.
std::vector<std::string> words_of(const std::string& type) {
  std::vector<std::string> words;
  const std::size_t open = type.find('{');
  const std::size_t close = type.find('}');
  if (open == std::string::npos || close == std::string::npos) return words;
  std::string word;
  for (const char c : type.substr(open + 1, close - open - 1) + ",") {
    if (c == ',') {
      words.push_back(trim(word));
      word.clear();
    } else {
      word += c;
    }
  }
  return words;
}

std::vector<Completion> completions_of(const CLI::App& command) {
  std::vector<Completion> all;
  for (const CLI::Option* option : command.get_options()) {
    if (!option->nonpositional()) continue;
    Completion one;
    for (const std::string& name : option->get_snames()) one.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) one.names.push_back("--" + name);
    for (const std::string& name : option->get_fnames()) {
      if (!option->check_lname(name)) one.names.push_back("--" + name);
    }
    const std::string type = option->get_type_name();
    one.help = option->get_description();
    one.value = takes_value(*option);
    one.words = words_of(type);
    one.model = type.starts_with("MODEL");
    one.file = one.model || type.starts_with("FILE");
    one.folder = type.starts_with("FOLDER");
    all.push_back(std::move(one));
  }
  return all;
}

std::string joined(const std::vector<std::string>& words, const char* between = " ") {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

// For a word between single quotes of a shell.
std::string quoted_for_shell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out;
}

std::string bash_script(const CLI::App& app) {
  std::string all;
  std::string script =
      "# bash completion for lapidary; made by `lapidary completion bash`.\n"
      "_lapidary() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=\"\" i\n"
      "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
      "    [[ ${COMP_WORDS[i]} == -* ]] || { command=${COMP_WORDS[i]}; break; }\n"
      "  done\n"
      "  COMPREPLY=()\n"
      "  case $command:$before in\n";
  std::string options;
  for (const CLI::App* command : commands_of(app)) {
    const std::string& name = command->get_name();
    all += (all.empty() ? "" : " ") + name;
    std::vector<std::string> names;
    for (const Completion& one : completions_of(*command)) {
      names.insert(names.end(), one.names.begin(), one.names.end());
      if (!one.value) continue;
      std::vector<std::string> patterns;
      for (const std::string& option : one.names)
        patterns.push_back(format("%s:%s", name.c_str(), option.c_str()));
      std::string does = ";;";
      if (!one.words.empty()) {
        does = "COMPREPLY=($(compgen -W '" + joined(one.words) + "' -- \"$word\")) ;;";
      } else if (one.model) {
        does =
            "COMPREPLY=($(compgen -f -- \"$word\") $(compgen -W \"$(lapidary completion models)\" "
            "-- \"$word\")) ;;";
      } else if (one.file) {
        does = "COMPREPLY=($(compgen -f -- \"$word\")) ;;";
      } else if (one.folder) {
        does = "COMPREPLY=($(compgen -d -- \"$word\")) ;;";
      }
      script += "    " + joined(patterns, "|") + ") " + does + "\n";
    }
    options += "    " + name + ":*) if [[ $word == -* ]]; then COMPREPLY=($(compgen -W '" +
               joined(names) +
               "' -- \"$word\")); else COMPREPLY=($(compgen -f -- \"$word\")); fi ;;\n";
  }
  std::vector<std::string> own;
  for (const Completion& one : completions_of(app))
    own.insert(own.end(), one.names.begin(), one.names.end());
  return script + options + "    :*) COMPREPLY=($(compgen -W '" + all + " " + joined(own) +
         "' -- \"$word\")) ;;\n  esac\n}\ncomplete -o filenames -F _lapidary lapidary\n";
}

std::string zsh_script(const CLI::App& app) {
  // A colon or a bracket in a description would end it.
  const auto plain = [](const std::string& text) {
    std::string out;
    for (const char c : text) out += std::string(c == ':' || c == '[' || c == ']' ? "\\" : "") + c;
    return quoted_for_shell(out);
  };
  std::string list;
  std::string cases;
  for (const CLI::App* command : commands_of(app)) {
    list += "    '" + command->get_name() + ":" + plain(command->get_description()) + "'\n";
    cases += "    " + command->get_name() + ") _arguments \\\n";
    for (const Completion& one : completions_of(*command)) {
      for (const std::string& name : one.names) {
        cases += "      '" + name + "[" + plain(one.help) + "]";
        if (!one.words.empty()) {
          cases += ":value:(" + joined(one.words) + ")";
        } else if (one.value) {
          cases += one.file ? ":file:_files" : one.folder ? ":folder:_files -/" : ":value:";
        }
        cases += "' \\\n";
      }
    }
    cases += "      '*:file:_files' ;;\n";
  }
  return "#compdef lapidary\n# zsh completion for lapidary; made by `lapidary completion zsh`.\n"
         "_lapidary() {\n  local -a commands\n  commands=(\n" +
         list +
         "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
         "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n" +
         cases + "  esac\n}\n_lapidary \"$@\"\n";
}

std::string fish_script(const CLI::App& app) {
  std::string script = "# fish completion for lapidary; made by `lapidary completion fish`.\n";
  for (const CLI::App* command : commands_of(app)) {
    script += "complete -c lapidary -n __fish_use_subcommand -f -a " + command->get_name() +
              " -d '" + quoted_for_shell(command->get_description()) + "'\n";
  }
  for (const CLI::App* command : commands_of(app)) {
    for (const Completion& one : completions_of(*command)) {
      script += "complete -c lapidary -n '__fish_seen_subcommand_from " + command->get_name() + "'";
      for (const std::string& name : one.names)
        script += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      if (!one.words.empty()) {
        script += " -x -a '" + joined(one.words) + "'";
      } else if (one.value) {
        script += one.file || one.folder ? " -r -F" : " -x";
      }
      script += " -d '" + quoted_for_shell(one.help) + "'\n";
    }
  }
  return script;
}

}  // namespace

std::string manual_page(const CLI::App& app) {
  std::string page =
      ".TH LAPIDARY 1 \"\" \"lapidary " LAPIDARY_VERSION
      "\" \"User Commands\"\n"
      ".SH NAME\nlapidary \\- run Gemma 3 models on the CPU\n"
      ".SH SYNOPSIS\n.B lapidary\n[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]\n"
      ".SH DESCRIPTION\n" +
      roff(app.get_description()) + "\n.SH OPTIONS\n";
  for (const CLI::Option* option : app.get_options()) add_option_entry(page, *option);
  page += ".SH COMMANDS\n";
  for (const CLI::App* command : commands_of(app)) add_command(page, *command);
  return page + kRest;
}

std::string completion_script(const CLI::App& app, const std::string& shell) {
  if (shell == "zsh") return zsh_script(app);
  return shell == "fish" ? fish_script(app) : bash_script(app);
}

}  // namespace cli
