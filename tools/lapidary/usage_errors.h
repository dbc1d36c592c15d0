#pragma once

#include <span>
#include <string>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace cli {

/// What is wrong with a command line, for a person: an unknown word or option by name with the one
/// that was probably meant, a bad value with where it came from (the option, a variable of the
/// environment or a key of the config file), and whose --help to ask. `words` are the arguments.
std::string explain(const CLI::App& app, const CLI::ParseError& error,
                    std::span<const std::string> words);

/// What is wrong with the first word that CLI11 would cut in two, "-fa" into -f and "a", though it
/// was meant as one; empty when there is none. `words` are the arguments, not parsed yet.
std::string explain_glued(const CLI::App& app, std::span<const std::string> words);

/// The command that `words` choose, not parsed yet; empty when there is none.
std::string chosen_command(const CLI::App& app, std::span<const std::string> words);

}  // namespace cli
