// errors MODEL: meets every kind of error, and goes on after each.

#include <lapidary/lapidary.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"

namespace {

using lapidary::ErrorCode;
using lapidary::Model;
using lapidary::Session;

struct Own {};  // An exception that is the host's own and no std::exception.

/// A file of this name for the length of a scope.
class File {
 public:
  File(std::string path, const std::string& bytes) : path_(std::move(path)) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~File() { std::filesystem::remove(path_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Cut anywhere and with any byte of its head changed, a file loads or is an Error(kFile).
void hostile_files(const std::string& path) {
  expect_error(ErrorCode::kFile, "nowhere.gguf", [] { Model::load("nowhere.gguf"); });
  expect_error(ErrorCode::kFile, "", [] { Model::load("."); });
  std::ifstream file(path, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(file), {}};
  for (const std::size_t size : {std::size_t{0}, std::size_t{23}, whole.size() / 2}) {
    const File cut("cut.gguf", whole.substr(0, size));
    expect_error(ErrorCode::kFile, "cut.gguf", [&] { Model::load(cut.path()); });
  }
  for (std::size_t i = 0; i < 200; i += 7) {
    std::string bytes = whole;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x55);
    const File changed("changed.gguf", bytes);
    try {
      lapidary::inspect(changed.path());
    } catch (const lapidary::Error& error) {
      expect(error.code() == ErrorCode::kFile, std::string("a changed byte: ") + error.what());
    }
  }
  expect_error(ErrorCode::kFile, "picture", [&] { lapidary::Image::load(path); });
}

void limits(const std::string& path, const Model& model) {
  expect_error(ErrorCode::kMemory, "", [&] { Model::load(path, {.memory_limit = 1000}); });
  expect_error(ErrorCode::kMemory, "", [&] { Session(model, {.memory_limit = 1000}); });
  expect_error(ErrorCode::kUsage, "", [&] { Session(model, {.context = -1}); });
  expect_error(ErrorCode::kUsage, "", [&] { Model::load(path, {.isa = "abacus"}); });

  Session session(model, {.context = 16, .threads = 1});
  const std::vector<lapidary::TokenId> many(17, model.tokenizer().bos());
  expect_error(ErrorCode::kContext, "17", [&] { session.append(many); });
  const lapidary::TokenId outside = model.info().vocabulary;
  expect_error(ErrorCode::kUsage, "", [&] { session.append(std::span(&outside, 1)); });
  expect(session.position() == 0, "nothing was added");
  expect_error(ErrorCode::kUsage, "", [&] { session.generate({}); });
  session.append(std::span(many).first(15));
  expect(session.generate({.max_tokens = 100}).ids.size() <= 2, "a full context ends a reply");
}

void cancels(const std::string& path, const Model& model) {
  const std::atomic<bool> set = true;
  expect_error(ErrorCode::kInterrupted, "", [&] { Model::load(path, {.cancel = &set}); });
  Session session(model, {.context = 64, .chunk = 4, .threads = 1});
  const std::vector<lapidary::TokenId> ids(32, model.tokenizer().bos());
  expect_error(ErrorCode::kInterrupted, "", [&] { session.append(ids, {}, &set); });
  session.clear();
  session.append(ids);
  expect(session.generate({.cancel = &set}).finish_reason == lapidary::FinishReason::kCancelled,
         "a cancelled reply says so");
}

/// What a callback throws comes out as it is, and the object is as good as before.
template <class F>
void passes(const std::string& where, F&& body) {
  try {
    body();
    expect(false, where + ": what the callback threw has come out");
  } catch (const Own&) {
  }
}

void exceptions(const std::string& path, const Model& model) {
  const auto progress = [](std::uint64_t, std::uint64_t) { throw Own(); };
  passes("load", [&] { Model::load(path, {.progress = progress}); });
  Session session(model, {.context = 64, .threads = 2});
  const std::vector<lapidary::TokenId> ids(8, model.tokenizer().bos());
  passes("append", [&] { session.append(ids, progress); });
  session.clear();
  session.append(ids);
  passes("generate", [&] { session.generate({}, [](std::string_view) -> bool { throw Own(); }); });
  session.clear();
  passes("logits", [&] {
    session.append_with_logits(ids, [](int, std::span<const float>) { throw Own(); });
  });
  session.clear();
  session.append(ids);
  expect(!session.generate({.max_tokens = 4}).ids.empty(), "the session goes on");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: errors MODEL\n";
    return 2;
  }
  const std::string path = argv[1];
  const Model model = Model::load(path);
  hostile_files(path);
  limits(path, model);
  cancels(path, model);
  exceptions(path, model);
  std::cout << failures << " failures" << std::endl;
  return failures == 0 ? 0 : 1;
}
