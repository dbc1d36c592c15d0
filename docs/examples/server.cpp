// server MODEL: answers JSON requests, one a line of standard input, on standard output.
//
//   {"id": "a", "session": 0, "prompt": "Name a gem.", "max_tokens": 64}
//   {"cancel": "a"}
//
// Eight sessions, 0 to 7, are eight conversations that go on at the same time. Each belongs to one
// thread; all share the model. Answers: {"id", "piece"} as it is drawn, then {"id", "done",
// "tokens"} or {"id", "error"}; after an error the conversation begins anew.

#include <lapidary/lapidary.h>

#include <atomic>
#include <condition_variable>
#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <queue>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using nlohmann::json;

constexpr int kSessions = 8;
constexpr int kContext = 4096;
constexpr int kMostTokens = 4096;
constexpr std::size_t kMostBytes = 65536;  // Of a prompt.

void write(const json& answer) {
  static std::mutex mutex;
  // A model may draw bytes that are no UTF-8.
  const std::string line = answer.dump(-1, ' ', false, json::error_handler_t::replace);
  const std::lock_guard lock(mutex);
  std::cout << line << std::endl;
}

struct Request {
  std::string id;
  std::string prompt;
  int max_tokens = 0;
  std::atomic<bool> cancel = false;
};
using RequestPtr = std::shared_ptr<Request>;

/// The requests that are not answered yet, by id.
class Open {
 public:
  bool add(const RequestPtr& request) {
    const std::lock_guard lock(mutex_);
    return requests_.emplace(request->id, request).second;
  }
  void remove(const std::string& id) {
    const std::lock_guard lock(mutex_);
    requests_.erase(id);
  }
  bool cancel(const std::string& id) {
    const std::lock_guard lock(mutex_);
    const auto found = requests_.find(id);
    if (found == requests_.end()) return false;
    found->second->cancel = true;
    return true;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, RequestPtr> requests_;
};

/// A conversation, and the thread that its session belongs to.
class Talker {
 public:
  Talker(const lapidary::Model& model, Open& open)
      : open_(open), session_(model, {.context = kContext, .threads = 1}) {
    thread_ = std::thread([this] { run(); });
  }
  ~Talker() {
    push(nullptr);
    thread_.join();
  }
  void push(RequestPtr request) {  // nullptr: no more will come.
    const std::lock_guard lock(mutex_);
    queue_.push(std::move(request));
    changed_.notify_one();
  }

 private:
  RequestPtr pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !queue_.empty(); });
    RequestPtr request = std::move(queue_.front());
    queue_.pop();
    return request;
  }
  void run() {
    while (const RequestPtr request = pop()) {
      const json last = answer_or_error(*request);
      open_.remove(request->id);
      write(last);
    }
  }
  json answer_or_error(const Request& request) {
    std::string message;
    try {
      return answer(request);
    } catch (const lapidary::Error& error) {
      // Cancelled before the first piece: the conversation stays as it is.
      if (error.code() == lapidary::ErrorCode::kInterrupted)
        return {{"id", request.id}, {"done", "cancelled"}, {"tokens", 0}};
      message = error.what();
    } catch (const std::exception& error) {
      message = error.what();
    }
    session_.clear();  // The other sessions go on.
    return {{"id", request.id}, {"error", message}};
  }
  json answer(const Request& request) {
    session_.add_user(request.prompt, {}, &request.cancel);
    lapidary::GenerateOptions options;
    options.max_tokens = request.max_tokens;
    options.cancel = &request.cancel;
    const lapidary::Completion done = session_.reply_to_end(options, [&](std::string_view piece) {
      write({{"id", request.id}, {"piece", piece}});
      return true;
    });
    static constexpr const char* kReasons[] = {"stop", "length", "cancelled"};
    return {{"id", request.id},
            {"done", kReasons[static_cast<int>(done.finish_reason)]},
            {"tokens", done.usage.completion_tokens}};
  }

  Open& open_;
  lapidary::Session session_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::queue<RequestPtr> queue_;
  std::thread thread_;
};

void handle(const std::string& line, std::vector<std::unique_ptr<Talker>>& talkers, Open& open) {
  const json message = json::parse(line);
  if (message.contains("cancel")) {
    const std::string id = message.at("cancel");
    if (!open.cancel(id)) write({{"id", id}, {"error", "no such request"}});
    return;
  }
  auto request = std::make_shared<Request>();
  request->id = message.at("id");
  request->prompt = message.at("prompt");
  request->max_tokens = message.value("max_tokens", 64);
  if (request->prompt.size() > kMostBytes) throw std::runtime_error("the prompt is too long");
  if (request->max_tokens < 1 || request->max_tokens > kMostTokens)
    throw std::runtime_error("max_tokens: expected 1 to " + std::to_string(kMostTokens));
  Talker& talker = *talkers.at(message.value("session", std::size_t{0}));
  if (!open.add(request)) throw std::runtime_error("this id is in use");
  talker.push(std::move(request));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: server MODEL\n";
    return 2;
  }
  const lapidary::Model model = lapidary::Model::load(argv[1]);
  Open open;
  std::vector<std::unique_ptr<Talker>> talkers;
  for (int i = 0; i < kSessions; ++i) talkers.push_back(std::make_unique<Talker>(model, open));
  for (std::string line; std::getline(std::cin, line);) {
    try {
      handle(line, talkers, open);
    } catch (const std::exception& error) {
      write({{"error", error.what()}});
    }
  }
  talkers.clear();  // Each answers what it still has to.
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
