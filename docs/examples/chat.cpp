// chat MODEL: a conversation, a line a message. /stop ends the reply that is being written.
//
// One thread reads lines, so that it can stop the reply that the other one draws.

#include <lapidary/lapidary.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <iostream>
#include <mutex>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <thread>

namespace {

class Lines {
 public:
  void push(std::optional<std::string> line) {  // Nothing: the input has ended.
    const std::lock_guard lock(mutex_);
    lines_.push(std::move(line));
    changed_.notify_one();
  }
  std::optional<std::string> pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !lines_.empty(); });
    std::optional<std::string> line = std::move(lines_.front());
    lines_.pop();
    return line;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::queue<std::optional<std::string>> lines_;
};

void read_lines(Lines& lines, std::atomic<bool>& cancel) {
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "/stop") {
      cancel = true;
    } else if (!line.empty()) {
      lines.push(line);
    }
  }
  lines.push(std::nullopt);
}

void answer(lapidary::Session& session, const std::string& message,
            const std::atomic<bool>& cancel) {
  session.add_user(message);
  lapidary::Reply reply = session.reply({.max_tokens = 4096, .cancel = &cancel});
  for (const std::string_view piece : reply) std::cout << piece << std::flush;
  const lapidary::Completion& completion = reply.completion();
  if (completion.finish_reason == lapidary::FinishReason::kCancelled) std::cout << " [stopped]";
  std::cout << '\n' << completion.usage.completion_tokens << " tokens" << std::endl;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: chat MODEL\n";
    return 2;
  }
  const lapidary::Model model = lapidary::Model::load(argv[1]);
  lapidary::Session session(model, {.context = 8192});
  Lines lines;
  std::atomic<bool> cancel = false;
  std::thread reader(read_lines, std::ref(lines), std::ref(cancel));
  while (const std::optional<std::string> line = lines.pop()) {
    cancel = false;
    try {
      answer(session, *line, cancel);
    } catch (const lapidary::Error& error) {
      std::cout << error.what() << std::endl;
      // Stopped before the first piece: the session goes on. A full context: the chat begins anew.
      if (error.code() != lapidary::ErrorCode::kInterrupted) session.clear();
    }
  }
  reader.join();
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
