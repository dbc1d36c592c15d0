#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gguf_builder.h"
#include "lapidary/error.h"

namespace lapidary {
namespace {

using test::TempFile;

/// The message of the Error(kFile) that `action` throws.
std::string file_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

std::string text_at(const File& file, std::uint64_t offset, std::size_t count) {
  std::string text(count, '?');
  file.read(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

TEST(File, ReadsAnyPlace) {
  const TempFile temp("0123456789");
  File first(temp.path());
  EXPECT_EQ(first.size(), 10U);
  const File file(std::move(first));
  EXPECT_EQ(file.path(), temp.path());
  EXPECT_EQ(text_at(file, 0, 10), "0123456789");
  EXPECT_EQ(text_at(file, 7, 2), "78");
  EXPECT_EQ(text_at(file, 10, 0), "");
}

TEST(File, ReadsBeyondTheEndAreErrors) {
  const TempFile temp("0123456789");
  const File file(temp.path());
  const auto message = file_error([&] { text_at(file, 8, 3); });
  EXPECT_NE(message.find(temp.path() + ": expected 3 bytes at offset 8"), std::string::npos)
      << message;
  file_error([&] { text_at(file, 11, 1); });
  file_error([&] { text_at(file, ~std::uint64_t{0}, 2); });
}

TEST(File, ThatShrinksIsAnError) {
  const TempFile temp(std::string(100000, 'x'));
  const File file(temp.path());
  ASSERT_EQ(::truncate(temp.path().c_str(), 50000), 0);
  EXPECT_EQ(text_at(file, 0, 50000), std::string(50000, 'x'));
  const auto message = file_error([&] { text_at(file, 40000, 20000); });
  EXPECT_NE(message.find("found 10000"), std::string::npos) << message;
}

TEST(File, WhatIsNoFile) {
  EXPECT_NE(file_error([] { File{"/nowhere/at all.gguf"}; }).find("/nowhere/at all.gguf"),
            std::string::npos);
  EXPECT_NE(file_error([] { File{std::filesystem::temp_directory_path()}; }).find("directory"),
            std::string::npos);
  EXPECT_NE(file_error([] { File{"/dev/null"}; }).find("regular file"), std::string::npos);
  const TempFile temp;
  const std::string pipe = temp.path() + ".pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(file_error([&] { File{pipe}; }).find("regular file"), std::string::npos);
  ::unlink(pipe.c_str());
}

TEST(File, SeveralThreadsReadAtOnce) {
  std::string content;
  for (int i = 0; i < 100000; ++i) content += static_cast<char>('a' + i * 7 % 26);
  const TempFile temp(content);
  const File file(temp.path());
  std::array<bool, 4> good = {};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&, t] {
      bool all = true;
      for (std::size_t i = t; i < 2000; ++i) {
        all = all && text_at(file, i * 31, 100) == content.substr(i * 31, 100);
      }
      good[t] = all;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const bool one : good) EXPECT_TRUE(one);
}

}  // namespace
}  // namespace lapidary
