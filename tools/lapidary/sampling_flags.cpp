#include "sampling_flags.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <random>

#include "options.h"
#include "terminal.h"
#include "text.h"

namespace cli {

namespace {

constexpr double kMaxInt = std::numeric_limits<int>::max();

const Setting kSettings[] = {
    {"-n,--max-tokens", "max_tokens", -1, kMaxInt, true,
     "most tokens to draw; -1: until the model stops",
     [](SamplingFlags& f, double v) { f.max_tokens = static_cast<int>(v); },
     [](const SamplingFlags& f) { return static_cast<double>(f.max_tokens); }},
    {"--temp", "temperature", 0, 1000, false, "temperature; 0: always the best token",
     [](SamplingFlags& f, double v) { f.sampling.temperature = static_cast<float>(v); },
     [](const SamplingFlags& f) { return static_cast<double>(f.sampling.temperature); }},
    {"--top-k", "top_k", 0, kMaxInt, true, "keep the k best tokens; 0: all",
     [](SamplingFlags& f, double v) { f.sampling.top_k = static_cast<int>(v); },
     [](const SamplingFlags& f) { return static_cast<double>(f.sampling.top_k); }},
    {"--top-p", "top_p", 0, 1, false, "keep the best tokens up to this probability",
     [](SamplingFlags& f, double v) { f.sampling.top_p = static_cast<float>(v); },
     [](const SamplingFlags& f) { return static_cast<double>(f.sampling.top_p); }},
    {"--min-p", "min_p", 0, 1, false, "drop tokens under this share of the best one's probability",
     [](SamplingFlags& f, double v) { f.sampling.min_p = static_cast<float>(v); },
     [](const SamplingFlags& f) { return static_cast<double>(f.sampling.min_p); }},
    {"--repeat-penalty", "repeat_penalty", 0.001, 1000, false, "weakens the last 64 tokens; 1: off",
     [](SamplingFlags& f, double v) { f.sampling.repeat_penalty = static_cast<float>(v); },
     [](const SamplingFlags& f) { return static_cast<double>(f.sampling.repeat_penalty); }},
};

// The whole of `text` as a number in the setting's limits.
bool parse_setting(const Setting& setting, const std::string& text, double& value) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end && setting.allows(value);
}

void add_setting(CLI::App& app, const Setting& setting, SamplingFlags& flags) {
  const auto take = [&setting, &flags](const std::string& word) {
    double value = 0;
    if (!parse_setting(setting, word, value)) return setting.expected();
    setting.set(flags, value);
    return std::string();
  };
  add_option(app, setting.option, take, setting.help)
      .show_default(setting.show(setting.get(flags)))
      .show_type(setting.whole ? "INT" : "FLOAT");
}

}  // namespace

std::string Setting::name() const {
  const std::string_view all = option;
  return std::string(all.substr(all.find("--") + 2));
}

std::string Setting::show(double value) const { return format(whole ? "%.0f" : "%g", value); }

std::string Setting::expected() const {
  return std::string("expected ") + (whole ? "a whole number" : "a number") + " from " + show(low) +
         " to " + show(high);
}

bool Setting::allows(double value) const {
  return value >= low && value <= high && (!whole || value == std::floor(value));
}

std::span<const Setting> sampling_settings() { return kSettings; }

bool parse_seed(std::string_view text, std::optional<std::uint64_t>& seed) {
  if (text == "-1") {
    seed.reset();
    return true;
  }
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return false;
  seed = number;
  return true;
}

std::uint64_t SamplingFlags::seed_or_random() const {
  return seed ? *seed : std::random_device{}();
}

lapidary::GenerateOptions SamplingFlags::options(std::uint64_t seed_used) const {
  lapidary::GenerateOptions options;
  options.max_tokens = max_tokens;
  options.sampling = sampling;
  options.sampling.seed = seed_used;
  options.stop = stop;
  options.cancel = &interrupted;
  return options;
}

void add_sampling_flags(CLI::App& app, SamplingFlags& flags) {
  for (const Setting& setting : kSettings) add_setting(app, setting, flags);
  const auto take_seed = [&flags](const std::string& word) {
    return parse_seed(word, flags.seed) ? "" : kExpectedSeed;
  };
  add_option(app, "--seed", take_seed, "the same seed gives the same text; -1: a random one")
      .show_default("-1")
      .show_type("INT");
  add_option(app, "--stop", flags.stop,
             "text that ends the output and is not printed; may be given several times")
      .check(
          [](const std::string& text) { return text.empty() ? "expected text, got nothing" : ""; },
          "TEXT");
}

const char* finish_name(lapidary::FinishReason reason) {
  switch (reason) {
    case lapidary::FinishReason::kStop:
      return "stop";
    case lapidary::FinishReason::kLength:
      return "length";
    case lapidary::FinishReason::kCancelled:
      return "cancelled";
  }
  return "stop";
}

}  // namespace cli
