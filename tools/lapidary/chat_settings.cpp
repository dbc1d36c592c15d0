#include "chat_settings.h"

#include <charconv>

#include "json.h"
#include "text.h"

namespace cli {

namespace {

std::string show_seed(const SamplingFlags& flags) {
  return flags.seed ? std::to_string(*flags.seed) : "random";
}

std::string show_stop(const SamplingFlags& flags) {
  std::string all;
  for (const std::string& text : flags.stop) all += (all.empty() ? "" : ", ") + quoted(Json(text));
  return all.empty() ? "(none)" : all;
}

}  // namespace

std::string change_setting(SamplingFlags& flags, const std::string& argument) {
  const std::size_t space = argument.find_first_of(" \t");
  const std::string name = argument.substr(0, space);
  const std::string value = space == std::string::npos ? "" : trim(argument.substr(space));
  const std::string found = ", found " + (value.empty() ? "nothing" : shortened(value));
  if (name == "seed") {
    if (!parse_seed(value, flags.seed)) return name + ": " + kExpectedSeed + found;
    return "seed is " + show_seed(flags);
  }
  if (name == "stop") {
    // Each further one is added.
    if (value == "clear" || value == "\"\"") {
      flags.stop.clear();
    } else if (!value.empty()) {
      flags.stop.push_back(value);
    }
    return "stop: " + show_stop(flags);
  }
  std::string names = "seed, stop";
  for (const Setting& setting : sampling_settings()) {
    names += ", " + setting.name();
    if (name != setting.name()) continue;
    double number = 0;
    const char* end = value.data() + value.size();
    const auto [rest, error] = std::from_chars(value.data(), end, number);
    if (error != std::errc() || rest != end || !setting.allows(number))
      return format("%s: %s%s", name.c_str(), setting.expected().c_str(), found.c_str());
    setting.set(flags, number);
    return name + " is " + setting.show(setting.get(flags));
  }
  return "/set NAME VALUE, where NAME is one of " + names;
}

std::vector<std::string> describe_settings(const SamplingFlags& flags) {
  std::vector<std::string> lines;
  for (const Setting& setting : sampling_settings())
    lines.push_back(setting.name() + ": " + setting.show(setting.get(flags)));
  lines.push_back("seed: " + show_seed(flags));
  lines.push_back("stop: " + show_stop(flags));
  return lines;
}

}  // namespace cli
