// libFuzzer entry of files of options: any text sets options or is refused as CLI11 refuses one,
// nothing else.

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "../unit/gguf_builder.h"
#include "config_file.h"
#include "sampling_flags.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lapidary::test::TempFile file;
  file.write({reinterpret_cast<const char*>(data), size});
  CLI::App app("", "lapidary");
  app.set_config("--config", file.path());
  app.require_subcommand(1);
  cli::SamplingFlags flags[2];
  cli::add_sampling_flags(cli::add_command(app, "generate", ""), flags[0]);
  cli::add_sampling_flags(cli::add_command(app, "chat", ""), flags[1]);
  app.config_formatter(std::make_shared<cli::ConfigFile>(app));
  try {
    app.parse("generate");
  } catch (const CLI::ParseError&) {
    // What is wrong with the text is said and nothing worse happens.
  }
  return 0;
}
