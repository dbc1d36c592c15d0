#include "chat_settings.h"

#include <charconv>

namespace cli {

namespace {

// A value that /set can change.
struct Setting {
  const char* name;
  double low;
  double high;
  void (*set)(SamplingFlags& flags, double value);
  std::string (*get)(const SamplingFlags& flags);
};

constexpr double kMaxInt = 2147483647;
constexpr double kMaxSeed = 9007199254740992;  // A double holds every integer up to here.
const Setting kSettings[] = {
    {"temp", 0, 1000,
     [](SamplingFlags& f, double v) { f.sampling.temperature = static_cast<float>(v); },
     [](const SamplingFlags& f) {
       return format("%g", static_cast<double>(f.sampling.temperature));
     }},
    {"top-k", 0, kMaxInt,
     [](SamplingFlags& f, double v) { f.sampling.top_k = static_cast<int>(v); },
     [](const SamplingFlags& f) { return std::to_string(f.sampling.top_k); }},
    {"top-p", 0, 1, [](SamplingFlags& f, double v) { f.sampling.top_p = static_cast<float>(v); },
     [](const SamplingFlags& f) { return format("%g", static_cast<double>(f.sampling.top_p)); }},
    {"min-p", 0, 1, [](SamplingFlags& f, double v) { f.sampling.min_p = static_cast<float>(v); },
     [](const SamplingFlags& f) { return format("%g", static_cast<double>(f.sampling.min_p)); }},
    {"repeat-penalty", 0.001, 1000,
     [](SamplingFlags& f, double v) { f.sampling.repeat_penalty = static_cast<float>(v); },
     [](const SamplingFlags& f) {
       return format("%g", static_cast<double>(f.sampling.repeat_penalty));
     }},
    {"seed", 0, kMaxSeed,
     [](SamplingFlags& f, double v) { f.sampling.seed = static_cast<std::uint64_t>(v); },
     [](const SamplingFlags& f) { return std::to_string(f.sampling.seed); }},
    {"max-tokens", -1, kMaxInt,
     [](SamplingFlags& f, double v) { f.max_tokens = static_cast<int>(v); },
     [](const SamplingFlags& f) { return std::to_string(f.max_tokens); }},
};

}  // namespace

std::string change_setting(SamplingFlags& flags, const std::string& argument) {
  const std::size_t space = argument.find_first_of(" \t");
  const std::string name = argument.substr(0, space);
  const std::string value = space == std::string::npos ? "" : trim(argument.substr(space));
  for (const Setting& setting : kSettings) {
    if (name != setting.name) continue;
    double number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    const bool valid = error == std::errc() && end == value.data() + value.size();
    if (!valid || !(number >= setting.low && number <= setting.high)) {
      return format("%s: expected a number from %g to %g, found %s", setting.name, setting.low,
                    setting.high, value.empty() ? "nothing" : value.c_str());
    }
    setting.set(flags, number);
    return name + " is " + setting.get(flags);
  }
  std::string names;
  for (const Setting& setting : kSettings)
    names += std::string(names.empty() ? "" : ", ") + setting.name;
  return "/set NAME VALUE, where NAME is one of " + names;
}

std::vector<std::string> describe_settings(const SamplingFlags& flags) {
  std::vector<std::string> lines;
  for (const Setting& setting : kSettings)
    lines.push_back(std::string(setting.name) + ": " + setting.get(flags));
  return lines;
}

}  // namespace cli
