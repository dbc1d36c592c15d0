#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "common.h"
#include "config_file.h"

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

int parse_and_run(int argc, char** argv) {
  CLI::App app(kAbout, "lapidary");
  app.footer(kExitCodes);
  app.set_version_flag("--version", "lapidary " LAPIDARY_VERSION);
  app.require_subcommand(1);
  // Read here, since CLI11 opens the file before it looks at environment twins.
  const char* config = std::getenv("LAPIDARY_CONFIG");
  const bool given = config != nullptr && *config != '\0';
  app.set_config("--config", given ? config : "",
                 "file of options: name = value, or in a [subcommand] section", given);
  app.config_formatter(std::make_shared<cli::ConfigFile>(app));
  cli::Run run;
  cli::add_generate(app, run);
  cli::add_chat(app, run);
  cli::add_batch(app, run);
  cli::add_tokenize(app, run);
  cli::add_logits(app, run);
  cli::add_perplexity(app, run);
  cli::add_inspect(app, run);
  cli::add_bench(app, run);
  cli::add_encode_image(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::FileError& error) {
    cli::complain(error.what());
    return 3;
  } catch (const CLI::RequiredError& error) {
    // CLI11 asks for a subcommand before it complains about a word that is none.
    const std::vector<std::string> rest =
        app.get_subcommands().empty() ? app.remaining() : std::vector<std::string>{};
    cli::complain(
        (rest.empty() ? std::string(error.what()) : "there is no subcommand " + rest.front()) +
        " (see lapidary --help)");
    return 2;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error, std::cout, std::cerr);
    cli::complain(error.what() + std::string(" (see lapidary --help)"));
    return 2;
  }
  return run();
}

}  // namespace

int main(int argc, char** argv) {
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
