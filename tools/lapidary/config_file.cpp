#include "config_file.h"

#include <algorithm>
#include <sstream>
#include <string>
#include <utility>

#include "json.h"
#include "options.h"
#include "suggest.h"
#include "text.h"

namespace cli {

namespace {

const CLI::Option* find(const CLI::App& command, const std::string& name) {
  return command.get_option_no_throw((name.size() == 1 ? "-" : "--") + name);
}

bool repeats(const CLI::Option& option) {
  return option.get_multi_option_policy() != CLI::MultiOptionPolicy::TakeLast;
}

std::string meant(const std::string& word, const std::vector<std::string>& names) {
  const std::string near = nearest(word, names);
  return near.empty() ? "" : "; did you mean " + near + "?";
}

// The key of a list that is not closed before the next key; CLI11 would take what there is of it.
std::string open_list(const std::string& text) {
  std::istringstream lines(text);
  std::string open;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t equals = line.find('=');
    if (equals != std::string::npos) {
      if (!open.empty()) return open;
      if (trim(line.substr(equals + 1)).starts_with('[')) open = trim(line.substr(0, equals));
    }
    if (line.find(']', equals == std::string::npos ? 0 : equals) != std::string::npos) open.clear();
  }
  return open;
}

}  // namespace

ConfigFile::ConfigFile(const CLI::App& app) : app_(app) {
  for (const CLI::App* command : app_.get_subcommands({})) {
    for (const CLI::Option* option : command->get_options()) {
      if (option->nonpositional() && option->get_envname() == environment_name(option->get_name()))
        shared_.insert(option);
    }
  }
}

// Whether `item` may set an option of `command`. A key outside all sections does not set one with
// an environment twin of its own, which means something else than other commands' option of that
// name.
bool ConfigFile::takes(const CLI::App& command, const CLI::ConfigItem& item) const {
  if (!item.parents.empty() && item.parents != std::vector<std::string>{command.get_name()})
    return false;
  const CLI::Option* option = find(command, item.name);
  return option != nullptr && (!item.parents.empty() || shared_.count(option) > 0);
}

void ConfigFile::refuse(const CLI::ConfigItem& item) const {
  std::vector<std::string> commands;
  std::vector<std::string> names;
  for (const CLI::App* command : app_.get_subcommands({})) {
    commands.push_back(command->get_name());
    if (!item.parents.empty() && item.parents.front() != command->get_name()) continue;
    for (const CLI::Option* option : command->get_options()) {
      const std::vector<std::string>& more = option->get_lnames();
      names.insert(names.end(), more.begin(), more.end());
    }
  }
  if (!item.parents.empty() && std::ranges::find(commands, item.parents.front()) == commands.end())
    throw wrong("no subcommand is called " + shortened(item.parents.front()) +
                meant(item.parents.front(), commands));
  throw wrong("no option is called " + shortened(item.fullname()) + meant(item.name, names));
}

CLI::ConfigError ConfigFile::wrong(const std::string& what) const {
  return CLI::ConfigError(app_.get_config_ptr()->as<std::string>() + ": " + what);
}

std::vector<CLI::ConfigItem> ConfigFile::from_config(std::istream& given) const {
  // What has no end is not read to it. Pipes are as good as files here.
  constexpr std::streamsize kMostBytes = 1 << 20;
  std::string text(static_cast<std::size_t>(kMostBytes) + 1, '\0');
  given.read(text.data(), kMostBytes + 1);
  text.resize(static_cast<std::size_t>(given.gcount()));
  if (given.gcount() > kMostBytes)
    throw CLI::FileError("--config: expected a file of at most 1 MiB", CLI::ExitCodes::FileError);
  if (const std::string key = open_list(text); !key.empty())
    throw wrong(shortened(key) + ": the list has no ]");
  std::istringstream input(text);
  const std::vector<CLI::App*> chosen = app_.get_subcommands();
  std::vector<CLI::ConfigItem> kept;
  for (CLI::ConfigItem& item : CLI::ConfigTOML::from_config(input)) {
    if (item.name == "++" || item.name == "--") continue;  // Marks of a section's begin and end.
    bool known = false;
    for (const CLI::App* command : app_.get_subcommands({})) {
      if (!takes(*command, item)) continue;
      known = true;
      if (chosen.empty() || chosen.front() != command) continue;
      if (item.inputs.size() > 1 && !repeats(*find(*command, item.name)))
        throw wrong(item.name + ": expected one value, found " +
                    std::to_string(item.inputs.size()));
      CLI::ConfigItem routed = item;
      routed.parents = {command->get_name()};
      kept.push_back(std::move(routed));
    }
    if (!known) refuse(item);
  }
  return kept;
}

}  // namespace cli
