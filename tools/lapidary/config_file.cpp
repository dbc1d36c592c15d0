#include "config_file.h"

#include <sstream>
#include <string>
#include <utility>

#include "options.h"

namespace cli {

namespace {

// Whether a key outside all sections may set an option of `command`. One with an environment twin
// of its own means something else than other commands' option of that name.
bool takes(const CLI::App& command, const std::string& name, bool in_section) {
  const CLI::Option* option = command.get_option_no_throw((name.size() == 1 ? "-" : "--") + name);
  return option != nullptr &&
         (in_section || option->get_envname() == environment_name(option->get_name()));
}

}  // namespace

std::vector<CLI::ConfigItem> ConfigFile::from_config(std::istream& given) const {
  // What has no end is not read to it. Pipes are as good as files here.
  constexpr std::streamsize kMostBytes = 1 << 20;
  std::string text(static_cast<std::size_t>(kMostBytes) + 1, '\0');
  given.read(text.data(), kMostBytes + 1);
  text.resize(static_cast<std::size_t>(given.gcount()));
  if (given.gcount() > kMostBytes)
    throw CLI::FileError("--config: expected a file of at most 1 MiB", CLI::ExitCodes::FileError);
  std::istringstream input(text);
  const std::vector<CLI::App*> chosen = app_.get_subcommands();
  std::vector<CLI::ConfigItem> kept;
  for (CLI::ConfigItem& item : CLI::ConfigTOML::from_config(input)) {
    if (item.name == "++" || item.name == "--") continue;  // Marks of a section's begin and end.
    bool known = false;
    for (const CLI::App* command : app_.get_subcommands({})) {
      if (!item.parents.empty() && item.parents != std::vector<std::string>{command->get_name()})
        continue;
      if (!takes(*command, item.name, !item.parents.empty())) continue;
      known = true;
      if (!chosen.empty() && chosen.front() == command) {
        CLI::ConfigItem routed = item;
        routed.parents = {command->get_name()};
        kept.push_back(std::move(routed));
      }
    }
    if (!known) throw CLI::ConfigError("--config: no option is called " + item.fullname());
  }
  return kept;
}

}  // namespace cli
