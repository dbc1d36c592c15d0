// load MODEL SECONDS: loads a model behind a progress bar, and gives up after SECONDS.
//
// The model is loaded by another thread, as in a program whose window must stay alive.

#include <lapidary/lapidary.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <future>
#include <iostream>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;

struct Loading {
  std::atomic<std::uint64_t> done = 0;   // Bytes.
  std::atomic<std::uint64_t> total = 1;  // Bytes.
  std::atomic<bool> cancel = false;
};

/// Called by the thread that loads: it leaves numbers for the other to show.
lapidary::Model load(const std::string& path, Loading& loading) {
  lapidary::ModelOptions options;
  options.cancel = &loading.cancel;
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    loading.total = total;
    loading.done = done;
  };
  return lapidary::Model::load(path, options);
}

void show(const Loading& loading) {
  const std::uint64_t done = loading.done;  // First: when it is set, so is the total.
  const std::uint64_t percent = done * 100 / loading.total;
  std::cerr << '\r' << std::string(percent / 2, '#') << std::string(50 - percent / 2, '.') << ' '
            << percent << " %" << std::flush;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::cerr << "usage: load MODEL SECONDS\n";
    return 2;
  }
  const std::string path = argv[1];
  const Clock::time_point end = Clock::now() + std::chrono::seconds(std::stoi(argv[2]));
  // What it will take is known before anything is read.
  std::cout << lapidary::plan_memory(path).total() / 1'000'000 << " MB needed\n";

  Loading loading;
  if (Clock::now() >= end) loading.cancel = true;
  std::future<lapidary::Model> model =
      std::async(std::launch::async, [&] { return load(path, loading); });
  while (model.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
    show(loading);
    if (Clock::now() >= end) loading.cancel = true;  // As a button would.
  }
  try {
    std::cout << model.get().info().parameters << " parameters" << std::endl;
    show(loading);
    std::cerr << '\n';
  } catch (const lapidary::Error& error) {
    if (error.code() != lapidary::ErrorCode::kInterrupted) throw;
    std::cout << "given up" << std::endl;
    return 130;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
