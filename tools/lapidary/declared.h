#pragma once

// What the command line declares, as plain data: the manual page and the completion scripts are
// printed from this, so that nothing is written twice.

#include <string>
#include <vector>

namespace CLI {
class App;
}  // namespace CLI

namespace cli {

enum class ValueKind { kNone, kText, kWords, kFile, kFolder, kModel };

struct DeclaredOption {
  std::vector<std::string> names;  // "-n", "--max-tokens"; the word alone of a positional.
  std::string help;
  std::string type;   // As people read it: "INT", "auto|off", "FILE"; empty for a flag.
  std::string range;  // "0 to 1024", or empty.
  std::string default_value;
  std::string environment;
  ValueKind kind = ValueKind::kNone;
  std::vector<std::string> words;  // All that the value may be, for kWords.
  bool positional = false;
  bool required = false;
  bool repeats = false;
};

struct DeclaredCommand {
  std::string name;
  std::string help;
  std::vector<DeclaredOption> options;    // Positionals too.
  std::vector<DeclaredOption> inherited;  // Those of the program that may stand behind it.
};

struct CommandLine {
  std::string help;
  std::string footer;
  std::vector<DeclaredOption> options;
  std::vector<DeclaredCommand> commands;
};

/// All that --help shows; what is hidden there (in no group) is not in it.
CommandLine declared(const CLI::App& app);

}  // namespace cli
