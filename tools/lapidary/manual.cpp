#include "manual.h"

#include <string_view>

#include "lapidary/utf8.h"
#include "text.h"

namespace cli {

namespace {

// What roff would take for its own, or set as a typographic sign that cannot be pasted into a
// shell.
std::string_view roff_escape(unsigned code) {
  switch (code) {
    case '\\':
      return "\\e";
    case '-':
      return "\\-";
    case '\'':
      return "\\(aq";
    case '`':
      return "\\(ga";
    case '^':
      return "\\(ha";
    case '~':
      return "\\(ti";
    default:
      return {};
  }
}

// Text for roff, which takes a line that begins with a dot for a request.
std::string roff(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const bool line_begins = at == 0 || text[at - 1] == '\n';
    const lapidary::Utf8Step step = lapidary::next_utf8(text.substr(at));
    const auto code = static_cast<unsigned>(step.code_point);
    at += step.bytes;
    if (line_begins && code == '.') out += "\\&";
    if (const std::string_view escape = roff_escape(code); !escape.empty()) {
      out += escape;
    } else if (code >= 0x80) {
      out += format("\\[u%04X]", code);
    } else {
      out += static_cast<char>(code);
    }
  }
  return out;
}

std::string bold(const std::string& text) { return "\\fB" + roff(text) + "\\fR"; }

std::string italic(const std::string& text) { return "\\fI" + roff(text) + "\\fR"; }

// An entry of a list: what stands at the margin and what is said of it.
std::string entry(const std::string& head, const std::string& text) {
  return ".TP\n" + head + "\n" + text + "\n";
}

std::string option_entry(const DeclaredOption& option) {
  std::string head;
  for (const std::string& name : option.names) head += (head.empty() ? "" : ", ") + bold(name);
  if (!option.positional && !option.type.empty()) head += " " + italic(option.type);
  std::string notes;
  const auto note = [&](const std::string& text) { notes += (notes.empty() ? "" : "; ") + text; };
  if (option.required) note("required");
  if (option.positional && option.kind == ValueKind::kWords) note(option.type);
  if (!option.range.empty()) note(option.range);
  if (!option.default_value.empty()) note("default: " + option.default_value);
  std::string text = roff(option.help + (notes.empty() ? "" : " (" + notes + ")"));
  if (!option.environment.empty()) text += "\n.br\nEnvironment: " + roff(option.environment);
  return entry(head, text);
}

std::string command_section(const DeclaredCommand& command) {
  std::string page = ".SS lapidary " + roff(command.name) + "\n.B lapidary " + roff(command.name) +
                     "\n[\\fIoptions\\fR]";
  for (const DeclaredOption& option : command.options) {
    if (!option.positional) continue;
    const std::string name = italic(option.names.front());
    page += option.required ? " " + name : " [" + name + "]";
  }
  page += "\n.PP\n" + roff(command.help) + "\n";
  for (const DeclaredOption& option : command.options) {
    if (option.names.back() != "--help") page += option_entry(option);
  }
  return page;
}

// From "Exit codes: 0 done, 1 something failed, 2 …".
std::string exit_status(const std::string& footer) {
  std::string page = ".SH EXIT STATUS\n";
  std::string text = footer.substr(std::min(footer.find_first_of("0123456789"), footer.size()));
  if (text.ends_with('.')) text.pop_back();
  while (!text.empty()) {
    // A number behind a comma begins the next.
    std::size_t end = text.find(',');
    const auto begins = [&](std::size_t at) {
      const std::size_t next = text.find_first_not_of(" \n", at + 1);
      return next != std::string::npos && text[next] >= '0' && text[next] <= '9';
    };
    while (end != std::string::npos && !begins(end)) end = text.find(',', end + 1);
    const std::string one = trim(text.substr(0, end));
    const std::size_t blank = std::min(one.find(' '), one.size());
    page += entry(bold(one.substr(0, blank)), roff(trim(one.substr(blank))));
    text = end == std::string::npos ? "" : trim(text.substr(end + 1));
  }
  return page;
}

std::string environment_section() {
  return ".SH ENVIRONMENT\nEvery option of a command has a twin, named with it above. The command "
         "line counts most, then the file of\n.BR \\-\\-config ,\nthen the environment.\n" +
         entry(bold("LAPIDARY_CONFIG"), "A file of options, as " + bold("--config") + " takes.") +
         entry(bold("LAPIDARY_HOME"), "The model folder.") +
         entry(bold("XDG_DATA_HOME") + ", " + bold("XDG_STATE_HOME"),
               "Where the model folder and the history lie, see FILES.");
}

std::string files_section() {
  return ".SH FILES\n" +
         entry(italic("$LAPIDARY_HOME") + ", else " + italic("$XDG_DATA_HOME/lapidary") +
                   ", else " + italic("~/.local/share/lapidary"),
               "The model folder: models that " + bold("-m") + " finds by name.") +
         entry(italic("$XDG_STATE_HOME/lapidary/history") + ", else " +
                   italic("~/.local/state/lapidary/history"),
               "What was typed into chats.");
}

std::string examples_section() {
  std::string page = ".SH EXAMPLES\n";
  for (const auto& [what, command] : {
           std::pair{"Complete a prompt:", "lapidary generate -n 64 \"Once upon a time\""},
           std::pair{"The best tokens for a prompt in a file, as JSON:",
                     "lapidary generate --temp 0 --json -f prompt.txt"},
           std::pair{"Talk with a model of the model folder:",
                     "lapidary chat -m gemma-3-1b-it-q4_0"},
           std::pair{"Answer a file of requests; the same again goes on where this was stopped:",
                     "lapidary batch requests.jsonl -o answers.jsonl"},
           std::pair{"What a model would take of the memory:",
                     "lapidary inspect gemma-3-1b-it-q4_0 -c 8192"},
       })
    page += (page.ends_with(".fi\n") ? ".PP\n" : "") + roff(what) + "\n.PP\n.nf\n.RS\n" +
            roff(command) + "\n.RE\n.fi\n";
  return page;
}

}  // namespace

std::string manual_page(const CommandLine& line) {
  std::string page =
      ".TH LAPIDARY 1 \"\" \"lapidary " LAPIDARY_VERSION
      "\" \"User Commands\"\n"
      ".SH NAME\nlapidary \\- run Gemma 3 models on the CPU\n"
      ".SH SYNOPSIS\n.B lapidary\n[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]\n"
      ".SH DESCRIPTION\n" +
      roff(line.help) + "\n.SH OPTIONS\n";
  for (const DeclaredOption& option : line.options) page += option_entry(option);
  page += ".SH COMMANDS\n";
  for (const DeclaredCommand& command : line.commands) page += command_section(command);
  return page + exit_status(line.footer) + environment_section() + files_section() +
         examples_section() +
         ".SH SEE ALSO\n.B lapidary\n.I command\n.BR \\-\\-help ;\nthe guide, docs/guide.md in the "
         "sources.\n";
}

}  // namespace cli
