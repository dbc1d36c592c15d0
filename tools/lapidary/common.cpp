#include "common.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <system_error>

namespace cli {

using lapidary::Error;
using lapidary::ErrorCode;

lapidary::SessionOptions ModelFlags::session() const {
  lapidary::SessionOptions options;
  options.context = context;
  options.chunk = chunk;
  options.threads = threads;
  options.memory_limit = memory_limit;
  return options;
}

void add_file_flags(CLI::App& app, ModelFlags& flags) {
  add_option(app, "-m,--model", flags.model,
             "model file (GGUF), or the name of one in the model folder; may be left out when that "
             "holds one")
      .show_type("MODEL");
  add_option(app, "-t,--threads", flags.threads, "threads; 0: physical cores within the quota")
      .range(0, 1024);
  add_option(app, "--isa", flags.isa, "instruction set to use")
      .one_of({"avx512", "avxvnni", "avx2", "neon", "scalar"});
  add_option(app, "--memory-limit", flags.memory_limit,
             "most bytes to take (K, M, G), weights included; 0: no limit")
      .size();
  add_flag(app, "-q,--quiet", flags.quiet, "no statistics, warnings or progress");
}

void add_model_flags(CLI::App& app, ModelFlags& flags) {
  add_file_flags(app, flags);
  add_option(app, "-c,--context", flags.context,
             "context in tokens; 0: what the model was trained for, at most 32768")
      .range(0, 1 << 28);
  add_option(app, "--chunk", flags.chunk, "prompt tokens computed together; never changes a result")
      .range(1, 1 << 20);
}

void add_chat_flag(CLI::App& app, ChatFlag& flag) {
  flag.option =
      add_flag(app, "--chat,!--no-chat", flag.value,
               "treat the prompt as one user turn (default for files with a chat template)");
  add_template_flag(app, flag);
}

bool ChatFlag::chosen(const lapidary::Model& model) const {
  if (option.given()) return value;
  return name.empty() ? model.info().instruction_tuned : name != "none";
}

lapidary::ChatTemplate ChatFlag::kind(const lapidary::Model& model) const {
  if (name == "gemma") return lapidary::ChatTemplate::kGemma;
  if (name == "chatml") return lapidary::ChatTemplate::kChatML;
  return name == "none" ? lapidary::ChatTemplate::kNone : model.info().turns();
}

const char* const kUnknownTemplate =
    "the file's chat template is none that is known here; Gemma's is used instead (--template "
    "chooses)";

void ChatFlag::tell(const lapidary::Model& model, bool quiet) const {
  if (name.empty() && model.info().chat_template == lapidary::ChatTemplate::kOther)
    warn(quiet, kUnknownTemplate);
}

void ChatFlag::stop_at_turns(const lapidary::Model& model, std::vector<std::string>& stop) const {
  std::ranges::move(lapidary::turn_stops(model.tokenizer(), kind(model)), std::back_inserter(stop));
}

void add_template_flag(CLI::App& app, ChatFlag& flag) {
  add_option(app, "--template", flag.name,
             "how turns are written; none: as plain text (default: as the file says)")
      .one_of({"gemma", "chatml", "none"});
}

std::string model_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (std::string home = variable("LAPIDARY_HOME"); !home.empty()) return home;
  if (const std::string data = variable("XDG_DATA_HOME"); !data.empty()) return data + "/lapidary";
  return variable("HOME") + "/.local/share/lapidary";
}

namespace {

namespace fs = std::filesystem;

// Of every model in the model folder, sorted. The vision half of a model lies beside it and is
// none.
std::vector<fs::path> models_in_folder() {
  std::vector<fs::path> found;
  std::error_code none;
  for (fs::directory_iterator entry(model_folder(), none), end; !none && entry != end;
       entry.increment(none)) {
    const fs::path& path = entry->path();
    const bool projector = path.filename().string().find("mmproj") != std::string::npos;
    std::error_code unreadable;
    if (path.extension() == ".gguf" && !projector && fs::is_regular_file(path, unreadable))
      found.push_back(path);
  }
  std::ranges::sort(found);
  return found;
}

// "a.gguf, b.gguf and 3 more"
std::string list_names(const std::vector<fs::path>& paths) {
  constexpr std::size_t kMost = 10;
  std::string text;
  for (std::size_t i = 0; i < std::min(paths.size(), kMost); ++i)
    text += (i == 0 ? "" : ", ") + paths[i].filename().string();
  if (paths.size() > kMost) text += " and " + std::to_string(paths.size() - kMost) + " more";
  return text;
}

std::string what_there_is(const std::vector<fs::path>& models) {
  const std::string folder = "the model folder, " + model_folder() + ", ";
  if (!models.empty()) return folder + "has " + list_names(models);
  return folder +
         "has none; tools/get_model.py fetches one, and any Gemma 3 GGUF file may lie there";
}

std::string only_model() {
  const std::vector<fs::path> models = models_in_folder();
  if (models.size() == 1) return models.front().string();
  throw Error(ErrorCode::kUsage,
              "no model given: use -m FILE, -m NAME or LAPIDARY_MODEL; " + what_there_is(models));
}

}  // namespace

std::string model_names() {
  std::string names;
  for (const fs::path& path : models_in_folder()) names += path.stem().string() + "\n";
  return names;
}

std::string find_model(const std::string& given) {
  if (given.empty()) return only_model();
  std::error_code none;
  // What looks like a path is one; so that what is wrong with it can be said.
  if (fs::exists(given, none) || given.find('/') != std::string::npos) return given;
  std::vector<fs::path> fitting;
  const std::vector<fs::path> models = models_in_folder();
  for (const fs::path& path : models) {
    if (path.filename() == given || path.stem() == given) return path.string();
    if (path.filename().string().starts_with(given)) fitting.push_back(path);
  }
  if (fitting.size() == 1) return fitting.front().string();
  if (fitting.size() > 1)
    throw Error(ErrorCode::kUsage,
                "several models are called " + shortened(given) + "…: " + list_names(fitting));
  throw Error(ErrorCode::kFile,
              "cannot open " + shortened(given) + ": no such file, and " + what_there_is(models));
}

namespace {

// The largest context that fits `limit`; 0: none does.
int fitting_context(const std::string& path, const lapidary::ModelOptions& options,
                    lapidary::SessionOptions session, std::uint64_t limit, int too_much) {
  int low = 0;
  for (int high = too_much; low + 1 < high;) {
    session.context = low + (high - low) / 2;
    const bool fits = plan_memory(path, options, session).total() <= limit;
    (fits ? low : high) = session.context;
  }
  // A round number is easier to type.
  return low > 1024 ? low / 256 * 256 : low;
}

}  // namespace

void check_memory(const ModelFlags& flags, const lapidary::ModelOptions& options, bool session,
                  std::uint64_t beside) {
  const std::string path = find_model(flags.model);
  const lapidary::SessionOptions wanted = flags.session();
  lapidary::MemoryPlan plan = plan_memory(path, options, wanted);
  if (!session) plan.kv = plan.buffers = 0;
  const std::uint64_t limit =
      flags.memory_limit > 0 ? flags.memory_limit : lapidary::available_memory_bytes();
  const std::uint64_t needed = plan.total() + beside;
  if (needed <= limit) return;
  std::string text = path + " needs " + human_bytes(needed);
  const int trained = lapidary::inspect(path).trained_context;
  const int context = wanted.context > 0 ? wanted.context : std::min(trained, 32768);
  if (session) text += format(" with a context of %d tokens", context);
  text += flags.memory_limit > 0 ? ", but the memory limit is " : ", but the machine has ";
  text += human_bytes(limit) + (flags.memory_limit > 0 ? "" : " available");
  if (session) {
    const std::uint64_t left = limit > beside ? limit - beside : 0;
    const int fits = fitting_context(path, options, wanted, left, context);
    text += fits > 0 ? format("; -c %d would fit", fits) : "; no context would fit";
  }
  throw Error(ErrorCode::kMemory, text);
}

lapidary::Model load_model(const ModelFlags& flags, lapidary::ModelOptions options) {
  options.threads = flags.threads;
  options.isa = flags.isa;
  options.memory_limit = flags.memory_limit;
  ProgressBar bar("loading", flags.quiet);
  options.progress = bar.callback();
  lapidary::Model model = lapidary::Model::load(find_model(flags.model), options);
  bar.finish();
  for (const std::string& warning : model.info().warnings) warn(flags.quiet, warning);
  if (model.vision() != nullptr) {
    for (const std::string& warning : model.vision()->warnings)
      warn(flags.quiet, model.vision()->path + ": " + warning);
  }
  if (flags.context > model.info().trained_context) {
    warn(flags.quiet,
         format("a context of %d tokens is more than the %d that the model was trained for",
                flags.context, model.info().trained_context));
  }
  return model;
}

namespace {

std::string read_to_end(int file, const std::string& name, std::uint64_t most) {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file, buffer, sizeof buffer);
    if (got < 0 && interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
    if (got == 0) return text;
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > most)
      throw Error(ErrorCode::kFile, name + ": expected a text of at most " + human_bytes(most));
    if (got < 0 && errno != EINTR) {
      const char* reason = std::strerror(errno);
      throw Error(ErrorCode::kFile, format("cannot read %s: %s", name.c_str(), reason));
    }
  }
}

}  // namespace

void warn(bool quiet, const std::string& text) {
  if (!quiet) complain("warning: " + text);
}

std::string without_mark(std::string text) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  if (text.starts_with(kMark)) text.erase(0, kMark.size());
  return text;
}

std::string prompt_text(std::string text) {
  text = without_mark(std::move(text));
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::string read_standard_input(std::uint64_t most) {
  return read_to_end(STDIN_FILENO, "standard input", most);
}

std::string read_text_file(const std::string& path, std::uint64_t most) {
  if (path == "-") return read_standard_input(most);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0 && interrupted) throw Error(ErrorCode::kInterrupted, "interrupted");
  if (file < 0) throw Error(ErrorCode::kFile, "cannot open " + path + ": " + std::strerror(errno));
  struct Closer {
    int file;
    ~Closer() { ::close(file); }
  } closer{file};
  return read_to_end(file, path, most);
}

void require_utf8(std::string_view text, const std::string& what) {
  if (const auto at = find_invalid_utf8(text)) {
    throw Error(ErrorCode::kUsage, what + " is not valid UTF-8: byte " +
                                       format("0x%02x", static_cast<unsigned char>(text[*at])) +
                                       " at offset " + std::to_string(*at));
  }
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

std::string human_bytes(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1023.95 && unit < 4; ++unit) value /= 1024;
  return format(unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
}

std::string counted(std::size_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(kBlank) - first + 1));
}

std::string format(const char* pattern, ...) {
  va_list arguments, again;
  va_start(arguments, pattern);
  va_copy(again, arguments);
  const int size = std::vsnprintf(nullptr, 0, pattern, arguments);
  va_end(arguments);
  std::string text(size < 0 ? 0 : static_cast<std::size_t>(size), '\0');
  std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  return text;
}

double rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kFailed:
      return 1;
    case ErrorCode::kUsage:
      return 2;
    case ErrorCode::kFile:
      return 3;
    case ErrorCode::kMemory:
      return 4;
    case ErrorCode::kContext:
      return 5;
    case ErrorCode::kInterrupted:
      return 130;
  }
  return 1;
}

}  // namespace cli
