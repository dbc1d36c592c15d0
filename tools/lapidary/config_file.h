#pragma once

#include <CLI/CLI.hpp>
#include <istream>
#include <set>
#include <string>
#include <vector>

#include "options.h"

namespace cli {

/// Reads `--config` files (TOML or INI): keys are option names. A key outside any section holds for
/// the subcommand that runs, if that has the option; one in a section such as [generate] for that
/// subcommand. A name that no subcommand has is an error, as is a list for an option that takes one
/// value.
class ConfigFile : public CLI::ConfigTOML {
 public:
  /// All options of `app` must have been added.
  explicit ConfigFile(const CLI::App& app);
  std::vector<CLI::ConfigItem> from_config(std::istream& given) const override;

 private:
  bool takes(const CLI::App& command, const CLI::ConfigItem& item) const;
  [[noreturn]] void refuse(const CLI::ConfigItem& item) const;
  CLI::ConfigError wrong(const std::string& what) const;

  const CLI::App& app_;
  std::set<const CLI::Option*> shared_;  // Those whose environment twin has their own name.
};

}  // namespace cli
