#include "declared.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "options.h"
#include "text.h"

namespace cli {

namespace {

std::vector<std::string> names_of(const CLI::Option& option) {
  if (!option.nonpositional()) return {option.get_name(true)};
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option.get_fnames()) {
    if (!option.check_lname(name)) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> split_at_commas(const std::string& list) {
  std::vector<std::string> words(1);
  for (const char c : list) {
    if (c == ',') {
      words.emplace_back();
    } else if (c != ' ') {
      words.back() += c;
    }
  }
  return words;
}

// CLI11 writes "TYPE:CHECK:CHECK"; the last check is the one that counts. Those of Option::one_of()
// and Option::range() stand in brackets, others say the whole.
void read_type(const std::string& written, DeclaredOption& one) {
  const std::string type = written.substr(0, written.find(':'));
  const std::string check = written.substr(written.rfind(':') + 1);
  if (check.starts_with('{')) {
    one.words = split_at_commas(check.substr(1, check.size() - 2));
    one.type = joined(one.words, "|");
    one.kind = ValueKind::kWords;
    return;
  }
  one.type = check;
  if (check.starts_with('[')) {
    one.type = type;
    one.range = joined(split_at_commas(check.substr(1, check.size() - 2)), " to ");
  }
  one.kind = ValueKind::kText;
  if (type == "FILE") one.kind = ValueKind::kFile;
  if (type == "FOLDER") one.kind = ValueKind::kFolder;
  if (type == "MODEL") one.kind = ValueKind::kModel;
}

std::vector<DeclaredOption> options_of(const CLI::App& app) {
  std::vector<DeclaredOption> all;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    DeclaredOption one;
    one.names = names_of(*option);
    one.help = option->get_description();
    one.environment = option->get_envname();
    one.positional = !option->nonpositional();
    one.required = option->get_required();
    if (option->get_items_expected_max() > 0) {
      one.default_value = option->get_default_str();
      one.repeats = option->get_expected_max() > 1;
      read_type(option->get_type_name(), one);
    }
    all.push_back(std::move(one));
  }
  return all;
}

bool has_name_of(const std::vector<DeclaredOption>& options, const DeclaredOption& other) {
  return std::ranges::any_of(options, [&](const DeclaredOption& one) {
    return std::ranges::find_first_of(one.names, other.names) != one.names.end();
  });
}

}  // namespace

CommandLine declared(const CLI::App& app) {
  CommandLine line{app.get_description(), app.get_footer(), options_of(app), {}};
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (sub->get_group().empty()) continue;
    DeclaredCommand command{sub->get_name(), sub->get_description(), options_of(*sub), {}};
    for (const DeclaredOption& option : line.options) {
      if (sub->get_fallthrough() && !has_name_of(command.options, option))
        command.inherited.push_back(option);
    }
    line.commands.push_back(std::move(command));
  }
  return line;
}

}  // namespace cli
