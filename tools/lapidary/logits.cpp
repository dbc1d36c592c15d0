#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>

#include "common.h"

namespace cli {

namespace {

using lapidary::Error;
using lapidary::ErrorCode;
using lapidary::TokenId;
static_assert(std::endian::native == std::endian::little,
              "ids and logits are little-endian in files");

struct Options {
  ModelFlags model;
  std::string ids;
  std::string out;
};

std::vector<TokenId> read_ids(const std::string& path) {
  const std::string bytes = read_text_file(path);
  if (bytes.empty())
    throw Error(ErrorCode::kFile, path + ": expected 32-bit token ids, found an empty file");
  if (bytes.size() % sizeof(TokenId) != 0) {
    throw Error(ErrorCode::kFile, path + ": expected 32-bit token ids, found " +
                                      std::to_string(bytes.size()) +
                                      " bytes, which is no multiple of 4");
  }
  std::vector<TokenId> ids(bytes.size() / sizeof(TokenId));
  std::memcpy(ids.data(), bytes.data(), bytes.size());
  return ids;
}

void check_ids(const std::vector<TokenId>& ids, TokenId vocabulary, const std::string& path) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      throw Error(ErrorCode::kFile,
                  path + ": expected token ids from 0 to " + std::to_string(vocabulary - 1) +
                      ", found " + std::to_string(ids[i]) + " at position " + std::to_string(i));
    }
  }
}

// A file that takes rows as they are computed; the first failed write stops the computation.
class RowFile {
 public:
  explicit RowFile(std::string path)
      : path_(std::move(path)),
        file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
    if (file_ < 0)
      throw Error(ErrorCode::kFile, "cannot write " + path_ + ": " + std::strerror(errno));
  }
  ~RowFile() { ::close(file_); }
  RowFile(const RowFile&) = delete;
  RowFile& operator=(const RowFile&) = delete;

  bool write(std::span<const float> row) {
    if (error_ == 0)
      error_ = write_all(file_, {reinterpret_cast<const char*>(row.data()), row.size_bytes()});
    return error_ == 0;
  }
  void check() const {
    if (error_ == EPIPE) throw ClosedPipe{};
    if (error_ != 0)
      throw Error(ErrorCode::kFailed, "cannot write " + path_ + ": " + std::strerror(error_));
  }

 private:
  std::string path_;
  int file_;
  int error_ = 0;
};

int logits(const Options& options) {
  const std::vector<TokenId> ids = read_ids(options.ids);
  const lapidary::Model model = load_model(options.model);
  check_ids(ids, model.tokenizer().vocabulary_size(), options.ids);
  lapidary::SessionOptions wanted = options.model.session();
  const int trained = std::min(model.info().trained_context, 32768);
  // No more cache than these ids need, unless a context was asked for.
  if (wanted.context == 0 && ids.size() < static_cast<std::size_t>(trained))
    wanted.context = static_cast<int>(ids.size());
  lapidary::Session session(model, wanted);
  RowFile out(options.out);
  hold_interrupts(Interrupts::kStop);

  ProgressBar bar("computing", options.model.quiet);
  std::atomic<bool> stop{false};
  try {
    session.append_with_logits(
        ids,
        [&](int position, std::span<const float> row) {
          if (!out.write(row) || interrupted) stop = true;
          bar.update(static_cast<std::uint64_t>(position) + 1, ids.size());
        },
        &stop);
  } catch (const Error&) {
    out.check();
    throw;
  }
  bar.finish();
  out.check();
  return interrupted ? 130 : 0;
}

}  // namespace

void add_logits(CLI::App& app, Run& run) {
  CLI::App& command =
      add_command(app, "logits", "write the logits of every position, for tests and evaluation");
  const auto options = std::make_shared<Options>();
  add_model_flags(command, options->model);
  add_option(command, "--ids", options->ids, "file of 32-bit token ids, BOS included")->required();
  add_option(command, "--out", options->out, "file to write float32 rows to")->required();
  command.callback([options, &run] { run = [options] { return logits(*options); }; });
}

}  // namespace cli
