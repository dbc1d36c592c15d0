#pragma once

// How a command declares its options. CLI11 is behind this: its header takes longer to compile than
// all of a command, so options.cpp and what builds the whole command line are the only ones to
// include it.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace cli {

/// What the chosen subcommand does once all options are read; returns the exit code.
using Run = std::function<int()>;

/// One option while it is declared, and whether it was given afterwards. Cheap to copy.
class Option {
 public:
  Option() = default;
  explicit Option(CLI::Option* option) : option_(option) {}

  /// A number from `low` to `high`; NaN is none.
  Option& range(double low, double high);
  /// One of these words.
  Option& one_of(const std::vector<std::string>& words);
  /// A size such as 512M or 1.5G (powers of 1024), which becomes a number of bytes.
  Option& size();
  /// Asks `wrong` of every value: an empty text lets it pass, any other says what was expected.
  /// `type` stands in the help.
  Option& check(const std::function<std::string(const std::string&)>& wrong,
                const std::string& type);

  Option& required();
  Option& excludes(const Option& other);
  /// The environment twin, where it is not the one of the name.
  Option& environment(const std::string& name);
  Option& describe(const std::string& help);
  Option& show_default(const std::string& text);
  /// What stands in the help for a value. Completion goes by it: FILE, FOLDER, and MODEL for a file
  /// or the name of a model.
  Option& show_type(const std::string& type);

  bool given() const;
  /// On the command line or in a file of options, not by its environment twin.
  bool typed() const;

 private:
  CLI::Option* option_ = nullptr;
};

/// The environment twin of an option: "-k,--top-k" → "LAPIDARY_TOP_K".
std::string environment_name(const std::string& names);

/// An option with its environment twin and, for a number, its default in the help. Given twice, as
/// by an alias and a user, the last value counts; a list takes one value each time.
Option add_option(CLI::App& app, const std::string& names, int& value, const std::string& help);
Option add_option(CLI::App& app, const std::string& names, std::uint64_t& value,
                  const std::string& help);
Option add_option(CLI::App& app, const std::string& names, float& value, const std::string& help);
Option add_option(CLI::App& app, const std::string& names, double& value, const std::string& help);
Option add_option(CLI::App& app, const std::string& names, std::string& value,
                  const std::string& help);
Option add_option(CLI::App& app, const std::string& names, std::vector<std::string>& value,
                  const std::string& help);

/// An option that reads its value itself: `take` returns an empty text or what was expected.
Option add_option(CLI::App& app, const std::string& names,
                  const std::function<std::string(const std::string&)>& take,
                  const std::string& help);

/// `names` may hold a name that turns it off: "--chat,!--no-chat".
Option add_flag(CLI::App& app, const std::string& names, bool& value, const std::string& help);

/// A word without a name.
Option add_positional(CLI::App& app, const std::string& name, std::string& value,
                      const std::string& help);

/// An option that add_model_flags() or the like has added, to say more of it.
Option find_option(CLI::App& app, const std::string& name);

/// Registers a subcommand. It gets --config through its parent.
CLI::App& add_command(CLI::App& app, const std::string& name, const std::string& help);

/// What `run` becomes when `command` is the one chosen.
void when_chosen(CLI::App& command, Run& run, Run what);

}  // namespace cli
