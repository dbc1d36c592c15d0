#include <unistd.h>

#include <limits>
#include <memory>
#include <sstream>

#include "commands.h"
#include "json.h"
#include "model_flags.h"
#include "model_folder.h"
#include "options.h"
#include "terminal.h"
#include "text_file.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;
using lapidary::TokenId;

struct Options {
  ModelFlags model;
  std::string given_text;  // As an argument,
  Option given;
  std::string named_text;  // and with -p.
  Option named;
  std::string file;
  std::string jsonl;
  bool parse_control = false;
  bool decode = false;
};

// A JSON array of ids, or numbers with spaces between them.
std::vector<TokenId> read_ids(const std::string& text, const std::string& where, ErrorCode code) {
  std::string wrong;
  constexpr int kAny = std::numeric_limits<int>::max();
  Json parsed = parse_json(text, wrong, kAny);
  if (!parsed.is_array()) {
    std::istringstream words(text);
    std::string word, list;
    while (words >> word) list += (list.empty() ? "" : ",") + word;
    parsed = parse_json("[" + list + "]", wrong, kAny);
  }
  if (!parsed.is_array()) throw Error(code, where + ": expected a JSON array of token ids");
  std::vector<TokenId> ids;
  for (const Json& id : parsed) {
    const bool fits =
        id.is_number_integer() && id.get<double>() >= 0 && id.get<double>() <= 2147483647.0;
    if (!fits) throw Error(code, where + ": expected token ids, found " + quoted(id));
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

void convert_text(const Options& options, const lapidary::Tokenizer& tokenizer, Output& output) {
  // Every byte counts here, a file's last newline too.
  const std::string text = options.given.given()   ? options.given_text
                           : options.named.given() ? options.named_text
                           : options.file.empty()  ? read_standard_input(kMostTextBytes)
                                                   : read_text_file(options.file, kMostTextBytes);
  if (options.decode) {
    output.write(
        tokenizer.decode(read_ids(text, "the ids", ErrorCode::kUsage), options.parse_control));
    if (output.terminal()) output.end_line();
    return;
  }
  require_utf8(text, "the text");
  output.write(to_line(tokenizer.encode(text, options.parse_control)) + "\n");
}

// The ids of a line's text, or the text of its ids, as JSON. Throws Error(kFile) that names
// `where`.
std::string convert_line(const Options& options, const lapidary::Tokenizer& tokenizer,
                         const std::string& line, const std::string& where) {
  const char* field = options.decode ? "ids" : "text";
  std::string wrong;
  const Json object = parse_json(line, wrong, std::numeric_limits<int>::max());
  if (object.is_discarded()) throw Error(ErrorCode::kFile, where + " is " + wrong);
  if (!object.is_object() || !object.contains(field))
    throw Error(ErrorCode::kFile, where + ": expected a JSON object with \"" + field + "\"");
  const Json& value = object[field];
  if (options.decode)
    return to_line(
        tokenizer.decode(read_ids(to_line(value), where, ErrorCode::kFile), options.parse_control));
  if (!value.is_string())
    throw Error(ErrorCode::kFile,
                where + ": expected a string as \"text\", found " + value.type_name());
  return to_line(tokenizer.encode(value.get_ref<const std::string&>(), options.parse_control));
}

// One line of output for each line of the file, in its order; those before a bad one are written.
void convert_lines(const Options& options, const lapidary::Tokenizer& tokenizer, Output& output) {
  std::istringstream lines(read_text_file(options.jsonl, kMostTextBytes));
  std::string line, batch;
  const auto flush = [&] {
    output.write(batch);
    output.check();
    batch.clear();
  };
  for (int number = 1; std::getline(lines, line); ++number) {
    try {
      const std::string where = options.jsonl + " line " + std::to_string(number);
      batch += convert_line(options, tokenizer, line, where) + "\n";
    } catch (const Error&) {
      flush();
      throw;
    }
    if (batch.size() > (1U << 16)) flush();
  }
  flush();
}

int tokenize(const Options& options) {
  const int sources = (options.given.given() ? 1 : 0) + (options.named.typed() ? 1 : 0) +
                      (options.file.empty() ? 0 : 1) + (options.jsonl.empty() ? 0 : 1);
  if (sources > 1)
    throw Error(ErrorCode::kUsage,
                "several texts: give one, as an argument, with -p, -f or --jsonl");
  if (sources == 0 && !options.named.given() && isatty(STDIN_FILENO) == 1) {
    throw Error(ErrorCode::kUsage,
                "no text: give it as an argument, on standard input or with --jsonl FILE");
  }
  const lapidary::Tokenizer tokenizer = lapidary::load_tokenizer(find_model(options.model.model));
  Output output;
  if (options.jsonl.empty()) {
    convert_text(options, tokenizer, output);
  } else {
    convert_lines(options, tokenizer, output);
  }
  output.check();
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Run& run) {
  CLI::App& command = add_command(app, "tokenize", "turn text into token ids, or back");
  const auto options = std::make_shared<Options>();
  add_file_flags(command, options->model);
  options->given = add_positional(command, "text", options->given_text,
                                  "the text (without any: what comes on standard input)");
  options->named = add_option(command, "-p,--prompt", options->named_text, "the same as an option")
                       .environment("LAPIDARY_TOKENIZE_PROMPT");
  add_option(command, "-f,--file", options->file, "file to read the text from; -: standard input")
      .show_type("FILE")
      .environment("LAPIDARY_TOKENIZE_FILE");
  add_option(command, "--jsonl", options->jsonl,
             "one JSON object a line; its field text (with --decode: ids) is read")
      .show_type("FILE");
  add_flag(command, "--parse-control", options->parse_control,
           "control tokens in the text are tokens, not text");
  // bench has a --decode that is a number.
  add_flag(command, "--decode", options->decode, "ids to text")
      .environment("LAPIDARY_TOKENIZE_DECODE");
  when_chosen(command, run, [options] { return tokenize(*options); });
}

}  // namespace cli
