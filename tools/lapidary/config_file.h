#pragma once

#include <CLI/CLI.hpp>
#include <istream>
#include <vector>

namespace cli {

/// Reads `--config` files (TOML or INI): keys are option names. A key outside any section holds for
/// the subcommand that runs, if that has the option; one in a section such as [generate] for that
/// subcommand. A name that no subcommand has is an error.
class ConfigFile : public CLI::ConfigTOML {
 public:
  explicit ConfigFile(const CLI::App& app) : app_(app) {}
  std::vector<CLI::ConfigItem> from_config(std::istream& given) const override;

 private:
  const CLI::App& app_;
};

}  // namespace cli
