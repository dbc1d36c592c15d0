#include "completion.h"

#include <string_view>
#include <vector>

#include "text.h"

namespace cli {

namespace {

// `text` with a backslash in front of every one of `special`.
std::string escaped(const std::string& text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// Between single quotes of bash and zsh, which know no escape there.
std::string single_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// The command's own options and those that may stand behind it as well.
std::vector<DeclaredOption> all_options(const DeclaredCommand& command) {
  std::vector<DeclaredOption> all = command.options;
  all.insert(all.end(), command.inherited.begin(), command.inherited.end());
  return all;
}

std::vector<std::string> command_names(const CommandLine& line) {
  std::vector<std::string> names;
  for (const DeclaredCommand& command : line.commands) names.push_back(command.name);
  return names;
}

// ---- bash. compopt fails where a test calls the function by itself, and in the bash of macOS.
// compgen -W would run what stands between $( and ) in the name of a file, so names of models are
// compared by hand. Words may hold a "=" only as a word of its own.

constexpr const char* kBashHead =
    R"(# bash completion for lapidary; made by `lapidary completion bash`.
_lapidary_take() {
  local line
  while IFS= read -r line; do COMPREPLY+=("$line"); done
}
_lapidary_models() {
  local name program=$1
  [[ $program != '~/'* ]] || program=$HOME/${program#'~/'}
  while IFS= read -r name; do
    [[ $name != "$2"* ]] || COMPREPLY+=("$name")
  done < <("$program" completion models 2> /dev/null)
}
_lapidary() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= kind= words= i
  if [[ $word == '=' ]]; then
    word=
  elif [[ $before == '=' ]]; then
    before=${COMP_WORDS[COMP_CWORD-2]}
  fi
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
)";

constexpr const char* kBashTail = R"(  esac
  COMPREPLY=()
  case $kind in
    model | file)
      compopt -o filenames -o default 2> /dev/null
      [[ $kind == file ]] || _lapidary_models "$1" "$word"
      _lapidary_take < <(compgen -f -- "$word") ;;
    folder)
      compopt -o filenames -o dirnames 2> /dev/null
      _lapidary_take < <(compgen -d -- "$word") ;;
    words) _lapidary_take < <(compgen -W "$words" -- "$word") ;;
  esac
}
complete -F _lapidary lapidary
)";

std::string bash_value(const DeclaredOption& option) {
  switch (option.kind) {
    case ValueKind::kWords:
      return "kind=words words=" + single_quoted(joined(option.words, " "));
    case ValueKind::kFile:
      return "kind=file";
    case ValueKind::kFolder:
      return "kind=folder";
    case ValueKind::kModel:
      return "kind=model";
    default:
      return "kind=text";
  }
}

// What follows an option that takes a value. `command` is empty for those of the program.
std::string bash_values(const std::string& command, const std::vector<DeclaredOption>& options) {
  std::string cases;
  for (const DeclaredOption& option : options) {
    if (option.positional || option.kind == ValueKind::kNone) continue;
    std::vector<std::string> patterns;
    for (const std::string& name : option.names)
      patterns.push_back(format("%s:%s", command.c_str(), name.c_str()));
    cases += "    " + joined(patterns, " | ") + ") " + bash_value(option) + " ;;\n";
  }
  return cases;
}

// What stands where no option waits for its value: the positional, and options behind a dash, or
// at once where the positional is any text.
std::string bash_words(const std::string& command, const std::vector<DeclaredOption>& options) {
  std::vector<std::string> names;
  std::string positional;
  for (const DeclaredOption& option : options) {
    if (!option.positional) {
      names.insert(names.end(), option.names.begin(), option.names.end());
    } else if (option.kind != ValueKind::kText) {
      positional = " [[ $word == -* ]] || " + bash_value(option);
    }
  }
  return "    " + command + ":*) kind=words words=" + single_quoted(joined(names, " ")) + ";" +
         positional + " ;;\n";
}

std::string bash_script(const CommandLine& line) {
  std::vector<std::string> with_value;
  std::vector<std::string> own;
  for (const DeclaredOption& option : line.options) {
    own.insert(own.end(), option.names.begin(), option.names.end());
    if (option.kind != ValueKind::kNone)
      with_value.insert(with_value.end(), option.names.begin(), option.names.end());
  }
  std::string script = kBashHead;
  if (!with_value.empty()) {
    script += "      " + joined(with_value, " | ") +
              ") if [[ ${COMP_WORDS[i+1]} == '=' ]]; then i=$((i + 2)); else i=$((i + 1)); fi ;;\n";
  }
  script += "      -*) ;;\n      *) command=${COMP_WORDS[i]}; break ;;\n    esac\n  done\n";
  script += "  case $command:$before in\n" + bash_values("", line.options);
  for (const DeclaredCommand& command : line.commands)
    script += bash_values(command.name, all_options(command));
  for (const DeclaredCommand& command : line.commands)
    script += bash_words(command.name, all_options(command));
  script += "    :*) kind=words words=" + single_quoted(joined(command_names(line), " ")) +
            "; [[ $word != -* ]] || words=" + single_quoted(joined(own, " ")) + " ;;\n";
  return script + kBashTail;
}

// ---- zsh. Colons and brackets end the parts of a specification of _arguments.

constexpr const char* kZshHead = R"zsh(#compdef lapidary
# zsh completion for lapidary; made by `lapidary completion zsh`.
_lapidary_models() {
  local -a names
  names=(${(f)"$(_call_program models $program completion models)"})
  _alternative 'models:model:compadd -a names' 'files:file:_files'
}
_lapidary() {
  local program=$words[1] curcontext=$curcontext state line
  local -a commands
  typeset -A opt_args
  _arguments -C \
)zsh";

// Where the file was sourced there is nothing to complete yet.
constexpr const char* kZshTail = R"(      esac ;;
  esac
}
if [[ $funcstack[1] == _lapidary ]]; then
  _lapidary "$@"
else
  compdef _lapidary lapidary
fi
)";

// ":FILE:_files"
std::string zsh_value(const DeclaredOption& option) {
  const std::string message = ":" + escaped(option.type, ":[]\\") + ":";
  switch (option.kind) {
    case ValueKind::kNone:
      return {};
    case ValueKind::kWords:
      return message + "(" + joined(option.words, " ") + ")";
    case ValueKind::kFile:
      return message + "_files";
    case ValueKind::kFolder:
      return message + "_files -/";
    case ValueKind::kModel:
      return message + "_lapidary_models";
    default:
      return message + " ";
  }
}

// '(-n --max-tokens)'{-n+,--max-tokens=}'[most tokens to draw]:INT: '
std::string zsh_option(const DeclaredOption& option) {
  if (option.positional) {
    DeclaredOption named = option;
    named.type = option.names.front();
    return single_quoted((option.required ? "" : ":") + zsh_value(named));
  }
  std::vector<std::string> names;
  for (const std::string& name : option.names) {
    const char* joint = name.starts_with("--") ? "=" : "+";
    names.push_back(name + (option.kind == ValueKind::kNone ? "" : joint));
  }
  std::string spec = option.repeats ? "'*'" : single_quoted("(" + joined(option.names, " ") + ")");
  spec += names.size() == 1 ? names.front() : "{" + joined(names, ",") + "}";
  return spec + single_quoted("[" + escaped(option.help, ":[]\\") + "]" + zsh_value(option));
}

std::string zsh_script(const CommandLine& line) {
  std::string script = kZshHead;
  for (const DeclaredOption& option : line.options) script += "    " + zsh_option(option) + " \\\n";
  script +=
      "    '1: :->command' '*:: :->arguments' && return\n  case $state in\n    command)\n"
      "      commands=(\n";
  for (const DeclaredCommand& command : line.commands)
    script += "        " + single_quoted(command.name + ":" + escaped(command.help, "\\")) + "\n";
  script +=
      "      )\n      _describe -t commands command commands ;;\n    arguments)\n"
      "      case $words[1] in\n";
  for (const DeclaredCommand& command : line.commands) {
    script += "        " + command.name + ") _arguments";
    for (const DeclaredOption& option : all_options(command))
      script += " \\\n          " + zsh_option(option);
    script += " ;;\n";
  }
  return script + kZshTail;
}

// ---- fish.

std::string fish_quoted(const std::string& text) { return "'" + escaped(text, "'\\") + "'"; }

std::string fish_value(const DeclaredOption& option) {
  switch (option.kind) {
    case ValueKind::kNone:
      return {};
    case ValueKind::kWords:
      return " -x -a " + fish_quoted(joined(option.words, " "));
    case ValueKind::kFile:
      return " -r -F";
    case ValueKind::kFolder:
      return " -x -a '(__fish_complete_directories)'";
    case ValueKind::kModel:
      return " -r -F -a '(__lapidary_models)'";
    default:
      return " -x";
  }
}

std::string fish_option(const DeclaredOption& option, const std::string& condition) {
  const std::string begin = "complete -c lapidary" + condition;
  if (option.positional) {
    if (option.kind == ValueKind::kText) return {};
    std::string value = fish_value(option);
    // -r and -x speak of an option's value.
    value.erase(0, 3);
    return begin + value + " -d " + fish_quoted(option.help) + "\n";
  }
  std::string names;
  for (const std::string& name : option.names)
    names += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  return begin + names + fish_value(option) + " -d " + fish_quoted(option.help) + "\n";
}

std::string fish_script(const CommandLine& line) {
  std::string script =
      "# fish completion for lapidary; made by `lapidary completion fish`.\n"
      "function __lapidary_models\n"
      "    set -l words (commandline -opc)\n"
      "    command $words[1] completion models 2> /dev/null\n"
      "end\n"
      "function __lapidary_needs_command\n"
      "    not __fish_seen_subcommand_from " +
      joined(command_names(line), " ") + "\nend\ncomplete -c lapidary -f\n";
  for (const DeclaredOption& option : line.options) script += fish_option(option, "");
  for (const DeclaredCommand& command : line.commands) {
    script += "complete -c lapidary -n __lapidary_needs_command -a " + command.name + " -d " +
              fish_quoted(command.help) + "\n";
  }
  for (const DeclaredCommand& command : line.commands) {
    for (const DeclaredOption& option : command.options) {
      if (option.names.back() != "--help")
        script += fish_option(option, " -n '__fish_seen_subcommand_from " + command.name + "'");
    }
  }
  return script;
}

}  // namespace

std::string completion_script(const CommandLine& line, const std::string& shell) {
  if (shell == "zsh") return zsh_script(line);
  return shell == "fish" ? fish_script(line) : bash_script(line);
}

}  // namespace cli
