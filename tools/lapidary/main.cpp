#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "commands.h"
#include "completion.h"
#include "config_file.h"
#include "declared.h"
#include "manual.h"
#include "model_folder.h"
#include "terminal.h"
#include "usage_errors.h"

namespace {

constexpr const char* kAbout =
    "Runs Gemma 3 models on the CPU. Text goes to standard output, everything else to standard "
    "error.\n"
    "Every option --some-name may be set as LAPIDARY_SOME_NAME or in a --config file.";
constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 something failed, 2 bad usage, 3 a file is missing, unreadable or "
    "invalid,\n"
    "4 not enough memory or over the budget, 5 the prompt does not fit the context, 130 "
    "interrupted.";

// Where a standard stream is closed the next file that is opened would take its place, and be read
// as input or written to as output. Reading then finds nothing, and writing fails.
void keep_standard_streams() {
  for (int file = 0; file <= 2; ++file) {
    if (::fcntl(file, F_GETFD) < 0) ::open("/dev/null", O_RDONLY);
  }
}

int print(const std::string& text) {
  cli::Output output;
  output.write(text);
  output.check();
  return 0;
}

// What these two print is made of all the others.
void add_manual(CLI::App& app, cli::Run& run) {
  CLI::App& manual = cli::add_command(app, "manual", "print the manual page, for man -l -");
  cli::when_chosen(manual, run, [&app] { return print(cli::manual_page(cli::declared(app))); });
  CLI::App& completion =
      cli::add_command(app, "completion", "print a completion script: bash, zsh or fish");
  const auto what = std::make_shared<std::string>();
  cli::add_positional(completion, "shell", *what, "bash, zsh or fish; models: names for -m")
      .one_of({"bash", "zsh", "fish", "models"})
      .required();
  cli::when_chosen(completion, run, [&app, what] {
    return print(*what == "models" ? cli::model_names()
                                   : cli::completion_script(cli::declared(app), *what));
  });
}

void add_commands(CLI::App& app, cli::Run& run) {
  app.footer(kExitCodes);
  app.set_version_flag("-v,--version", "lapidary " LAPIDARY_VERSION);
  app.require_subcommand(1);
  cli::add_generate(app, run);
  cli::add_chat(app, run);
  cli::add_batch(app, run);
  cli::add_tokenize(app, run);
  cli::add_logits(app, run);
  cli::add_perplexity(app, run);
  cli::add_inspect(app, run);
  cli::add_bench(app, run);
  cli::add_encode_image(app, run);
  add_manual(app, run);
}

// Help and versions are what was asked for: not to be lost in silence.
int print_help(const CLI::App& app, const CLI::ParseError& asked) {
  const int code = app.exit(asked, std::cout, std::cerr);
  std::cout.flush();
  if (std::cout) return code;
  cli::complain("cannot write to standard output");
  return 1;
}

// CLI11 reads the environment for every command, and would stop at a bad value for another.
void forget_twins_of_others(CLI::App& app, const std::string& chosen) {
  if (chosen.empty() || chosen == "manual" || chosen == "completion") return;
  for (CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == chosen) continue;
    for (CLI::Option* option : command->get_options()) option->envname("");
  }
}

// CLI11 says that the file "was not readable (missing?)".
std::string explain_config(const CLI::App& app, const CLI::FileError& error) {
  const auto path = app.get_config_ptr()->as<std::string>();
  if (::access(path.c_str(), R_OK) == 0) return error.what();
  return "cannot open " + path + ", the file of options: " + std::strerror(errno);
}

int parse_and_run(int argc, char** argv) {
  CLI::App app(kAbout, "lapidary");
  // Read here, since CLI11 opens the file before it looks at environment twins.
  const char* config = std::getenv("LAPIDARY_CONFIG");
  const bool given = config != nullptr && *config != '\0';
  app.set_config("--config", given ? config : "",
                 "file of options: name = value, or in a [subcommand] section", given)
      ->type_name("FILE");
  cli::Run run;
  add_commands(app, run);
  app.config_formatter(std::make_shared<cli::ConfigFile>(app));
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (const std::string wrong = cli::explain_glued(app, words); !wrong.empty()) {
    cli::complain(wrong);
    return 2;
  }
  forget_twins_of_others(app, cli::chosen_command(app, words));
  try {
    app.parse(argc, argv);
  } catch (const CLI::FileError& error) {
    cli::complain(explain_config(app, error));
    return 3;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return print_help(app, error);
    cli::complain(cli::explain(app, error, words));
    return 2;
  }
  return run();
}

}  // namespace

int main(int argc, char** argv) {
  keep_standard_streams();
  cli::install_signal_handlers();
  try {
    return parse_and_run(argc, argv);
  } catch (const cli::ClosedPipe&) {
    return 1;
  } catch (const lapidary::Error& error) {
    cli::complain(error.what());
    return cli::exit_code(error.code());
  } catch (const std::bad_alloc&) {
    cli::complain("not enough memory");
    return cli::exit_code(lapidary::ErrorCode::kMemory);
  } catch (const std::exception& error) {
    cli::complain(error.what());
    return 1;
  }
}
