#include "options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <type_traits>
#include <utility>

#include "json.h"
#include "text.h"

namespace cli {

namespace {

template <class T>
Option add_typed(CLI::App& app, const std::string& names, T& value, const std::string& help) {
  CLI::Option* option = app.add_option(names, value, help)->envname(environment_name(names));
  if constexpr (std::is_arithmetic_v<T>) option->capture_default_str();
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    option->allow_extra_args(false);
  } else {
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  return Option(option);
}

// Bytes of "1.5G"; negative when it is no size.
double parse_size(const std::string& text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  std::string unit(rest, end);
  for (char& c : unit) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (unit.size() > 1 && unit.ends_with('B')) unit.pop_back();
  if (unit.size() > 1 && unit.ends_with('I')) unit.pop_back();
  const std::size_t power = unit.empty() || unit == "B" ? 0 : std::string_view("?KMGT").find(unit);
  if (error != std::errc() || unit.size() > 1 || unit == "?" || power == std::string_view::npos)
    return -1;
  const double bytes = std::ldexp(number, 10 * static_cast<int>(power));
  return bytes >= 0 && bytes < 0x1p63 ? bytes : -1;
}

}  // namespace

Option& Option::range(double low, double high) {
  const std::string from = format("%.10g", low);
  const std::string to = format("%.10g", high);
  const bool whole = option_->get_type_name() == "INT";
  return check(
      [=](const std::string& word) -> std::string {
        double number = 0;
        if (CLI::detail::lexical_cast(word, number) && number >= low && number <= high &&
            (!whole || number == std::floor(number)))
          return {};
        return std::string("expected a ") + (whole ? "whole " : "") + "number from " + from +
               " to " + to + ", got " + shortened(word);
      },
      "[" + from + ", " + to + "]");
}

Option& Option::one_of(const std::vector<std::string>& words) {
  const std::string all = joined(words, ", ");
  return check(
      [words, all](const std::string& word) -> std::string {
        if (std::ranges::find(words, word) != words.end()) return {};
        return "expected one of " + all + ", got " + shortened(word);
      },
      "{" + all + "}");
}

Option& Option::size() {
  option_->transform(CLI::Validator(
      [](std::string& word) -> std::string {
        const double bytes = parse_size(word);
        if (bytes < 0) return "expected a size such as 800M or 4G, got " + shortened(word);
        word = std::to_string(static_cast<std::uint64_t>(bytes));
        return {};
      },
      "SIZE", "size"));
  return *this;
}

Option& Option::check(const std::function<std::string(const std::string&)>& wrong,
                      const std::string& type) {
  option_->check(CLI::Validator([wrong](std::string& word) { return wrong(word); }, type, type));
  return *this;
}

Option& Option::required() {
  option_->required();
  return *this;
}

Option& Option::excludes(const Option& other) {
  option_->excludes(other.option_);
  return *this;
}

Option& Option::environment(const std::string& name) {
  option_->envname(name);
  return *this;
}

Option& Option::describe(const std::string& help) {
  option_->description(help);
  return *this;
}

Option& Option::show_default(const std::string& text) {
  option_->default_str(text);
  return *this;
}

Option& Option::show_type(const std::string& type) {
  option_->type_name(type);
  return *this;
}

bool Option::given() const { return option_ != nullptr && option_->count() > 0; }

bool Option::typed() const {
  if (!given()) return false;
  const std::string& twin = option_->get_envname();
  const char* value = twin.empty() ? nullptr : std::getenv(twin.c_str());
  return value == nullptr || option_->results().back() != value;
}

std::string environment_name(const std::string& names) {
  std::string name = names.substr(names.find("--") + 2);
  name = name.substr(0, name.find(','));
  for (char& c : name)
    c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return "LAPIDARY_" + name;
}

Option add_option(CLI::App& app, const std::string& names, int& value, const std::string& help) {
  return add_typed(app, names, value, help);
}
Option add_option(CLI::App& app, const std::string& names, std::uint64_t& value,
                  const std::string& help) {
  return add_typed(app, names, value, help);
}
Option add_option(CLI::App& app, const std::string& names, float& value, const std::string& help) {
  return add_typed(app, names, value, help);
}
Option add_option(CLI::App& app, const std::string& names, double& value, const std::string& help) {
  return add_typed(app, names, value, help);
}
Option add_option(CLI::App& app, const std::string& names, std::string& value,
                  const std::string& help) {
  return add_typed(app, names, value, help);
}
Option add_option(CLI::App& app, const std::string& names, std::vector<std::string>& value,
                  const std::string& help) {
  return add_typed(app, names, value, help);
}

Option add_option(CLI::App& app, const std::string& names,
                  const std::function<std::string(const std::string&)>& take,
                  const std::string& help) {
  const std::string name = "--" + names.substr(names.find("--") + 2);
  const auto read = [take, name](const CLI::results_t& words) {
    if (const std::string wrong = take(words.back()); !wrong.empty())
      throw CLI::ValidationError(name, wrong + ", got " + shortened(words.back()));
    return true;
  };
  CLI::Option* option = app.add_option(names, read, help)->envname(environment_name(names));
  return Option(option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast));
}

Option add_flag(CLI::App& app, const std::string& names, bool& value, const std::string& help) {
  return Option(app.add_flag(names, value, help)->envname(environment_name(names)));
}

Option add_positional(CLI::App& app, const std::string& name, std::string& value,
                      const std::string& help) {
  return Option(app.add_option(name, value, help));
}

Option find_option(CLI::App& app, const std::string& name) { return Option(app.get_option(name)); }

CLI::App& add_command(CLI::App& app, const std::string& name, const std::string& help) {
  CLI::App& command = *app.add_subcommand(name, help);
  command.fallthrough();
  command.configurable(false);
  return command;
}

void when_chosen(CLI::App& command, Run& run, Run what) {
  command.callback([&run, what = std::move(what)] { run = what; });
}

}  // namespace cli
