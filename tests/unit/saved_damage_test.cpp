// Saved sessions that are damaged or cut anywhere, disks that are full, and processes that are
// killed while they save: an error, the right session, the old file or the new one; never anything
// else.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <thread>

#include "saved_session.h"

namespace lapidary::testing {
namespace {

const SessionOptions kSmall{.context = 512, .threads = 1};

/// A saved session with a picture, its logits, and one that loads it.
class SavedDamage : public ::testing::Test {
 protected:
  SavedDamage() {
    Session saved(vision_model(), kSmall);
    saved.append(Prompts(1).picture(20, 10));
    logits_ = hash_bits(saved.logits());
    saved.save(path_, "the note");
    whole_ = folder_.read("a");
  }

  /// What came of loading the file: 'r': refused, 'w': the whole session, 'c': recomputed.
  char load(IfUnusable otherwise) {
    session_.clear();
    try {
      const Loaded loaded = session_.load(path_, otherwise);
      EXPECT_EQ(loaded.note, "the note");
      EXPECT_EQ(hash_bits(session_.logits()), logits_);
      return loaded.recomputed > 0 ? 'c' : 'w';
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kFile) << error.what();
      EXPECT_TRUE(std::string_view(error.what()).starts_with(path_ + ": ")) << error.what();
      EXPECT_EQ(session_.position(), 0);
      return 'r';
    }
  }

  void patch(std::size_t at, char byte) const {
    const int file = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_EQ(::pwrite(file, &byte, 1, static_cast<::off_t>(at)), 1);
    ::close(file);
  }

  Folder folder_;
  std::string path_ = folder_.path("a");
  std::string whole_;
  std::uint64_t logits_ = 0;
  Session session_{vision_model(), kSmall};
};

TEST_F(SavedDamage, AnyByte) {
  // All of what is no page or feature, and some of these.
  std::vector<std::size_t> places;
  for (std::size_t at = 0; at < std::min<std::size_t>(whole_.size(), 1700); ++at)
    places.push_back(at);
  std::mt19937 random(2);
  std::uniform_int_distribution<std::size_t> any(0, whole_.size() - 1);
  for (int i = 0; i < 1500; ++i) places.push_back(any(random));
  for (std::size_t i = 0; i < 600; ++i) places.push_back(whole_.size() - 1 - i);
  std::size_t recomputed = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::size_t at = places[i];
    patch(at, static_cast<char>(whole_[at] ^ (1 << i % 8)));
    ASSERT_EQ(load(IfUnusable::kRefuse), 'r') << "byte " << at;
    if (i % 8 == 0) {
      const char found = load(IfUnusable::kRecompute);
      ASSERT_NE(found, 'w') << "byte " << at;
      recomputed += found == 'c' ? 1 : 0;
    }
    patch(at, whole_[at]);
  }
  EXPECT_GT(recomputed, 50U) << "pages are most of the file";
  EXPECT_EQ(load(IfUnusable::kRefuse), 'w');
}

TEST_F(SavedDamage, AnyLength) {
  std::size_t recomputed = 0, refused = 0;
  for (std::size_t size = whole_.size(); size-- > 0;) {
    if (size > 2000 && size + 600 < whole_.size() && size % 61 != 0) continue;
    ASSERT_EQ(::truncate(path_.c_str(), static_cast<::off_t>(size)), 0);
    ASSERT_EQ(load(IfUnusable::kRefuse), 'r') << size << " bytes";
    if (size % 97 != 0) continue;
    const char found = load(IfUnusable::kRecompute);
    ASSERT_NE(found, 'w') << size << " bytes";
    (found == 'c' ? recomputed : refused) += 1;
  }
  EXPECT_GT(recomputed, 10U);
  EXPECT_GT(refused, 10U);
}

TEST_F(SavedDamage, SomethingBehindIt) {
  folder_.write("a", whole_ + "x");
  EXPECT_EQ(load(IfUnusable::kRefuse), 'r');
  EXPECT_EQ(load(IfUnusable::kRecompute), 'c');
}

// Pages go before the file is known to be whole only where there are none to lose.
TEST_F(SavedDamage, LeavesASessionAsItWas) {
  session_.append(Prompts(7).text(300));
  const std::uint64_t before = hash_bits(session_.logits());
  std::mt19937 random(3);
  std::uniform_int_distribution<std::size_t> any(0, whole_.size() - 1);
  for (int i = 0; i < 200; ++i) {
    const std::size_t at = any(random);
    patch(at, static_cast<char>(~whole_[at]));
    EXPECT_EQ(thrown_error([&] { session_.load(path_); }).code(), ErrorCode::kFile);
    patch(at, whole_[at]);
    ASSERT_EQ(session_.position(), 300);
  }
  const std::vector<TokenId> more = Prompts(8).text(5);
  EXPECT_EQ(hash_bits(session_.logits()), before);
  session_.append(more);
  Tracked fresh{Session(vision_model(), kSmall)};
  fresh.append({Prompts(7).text(300), {}});
  fresh.append({more, {}});
  EXPECT_EQ(hash_bits(session_.logits()), fresh.logits());
  EXPECT_EQ(session_.load(path_).note, "the note");
}

TEST_F(SavedDamage, AFileThatMayNotGrow) {
  Session session(vision_model(), kSmall);
  session.append(Prompts(1).text(100));
  ::rlimit before = {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const ::rlim_t most : {0U, 1U, 100U, 1000U, 50000U}) {
    const ::rlimit small = {most, before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    const Error error = thrown_error([&] { session.save(path_, "new"); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(error.code(), ErrorCode::kFile);
    EXPECT_EQ(std::string(error.what()), path_ + ": cannot be written: File too large");
    EXPECT_EQ(folder_.names(), std::vector<std::string>{"a"});
  }
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(folder_.read("a"), whole_);
}

TEST_F(SavedDamage, ADiskThatIsFull) {
  const std::string disk = folder_.path("disk");
  std::filesystem::create_directory(disk);
  if (::mount("none", disk.c_str(), "tmpfs", 0, "size=600k") != 0)
    GTEST_SKIP() << "no file system can be mounted here";
  Session session(vision_model(), kSmall);
  session.append(Prompts(1).text(10));
  session.save(disk + "/a", "old");
  session.append(Prompts(2).text(400));
  const Error error = thrown_error([&] { session.save(disk + "/a", "new"); });
  EXPECT_EQ(std::string(error.what()), disk + "/a: cannot be written: No space left on device");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(disk), {}), 1);
  EXPECT_EQ(session_.load(disk + "/a").note, "old");
  ::umount(disk.c_str());
}

/// A process that saves sessions of 100 or 200 tokens in turn to `path`, and says when it has
/// begun.
::pid_t start_saving(const std::string& path, int said) {
  const ::pid_t child = ::fork();
  if (child != 0) return child;
  try {
    Session sessions[] = {Session(vision_model(), kSmall), Session(vision_model(), kSmall)};
    sessions[0].append(Prompts(100).text(100));
    sessions[1].append(Prompts(200).text(200));
    for (int i = 0;; ++i) {
      if (i == 2 && ::write(said, "x", 1) != 1) ::_exit(1);
      sessions[i % 2].save(path, std::to_string(100 + 100 * (i % 2)));
    }
  } catch (const Error&) {
    ::_exit(1);
  }
}

TEST(SavedKilled, TheOldFileOrTheNewOne) {
  const Folder folder;
  const std::string path = folder.path("a");
  std::mt19937 random(4);
  std::uniform_int_distribution<int> microseconds(0, 20000);
  Session session(vision_model(), kSmall);
  const std::uint64_t logits[] = {fresh_logits({Prompts(100).text(100), {}}),
                                  fresh_logits({Prompts(200).text(200), {}})};
  std::size_t found[] = {0, 0}, left_behind = 0;
  for (int i = 0; i < 200; ++i) {
    int ends[2] = {};
    ASSERT_EQ(::pipe(ends), 0);
    const ::pid_t child = start_saving(path, ends[1]);
    char begun = 0;
    ASSERT_EQ(::read(ends[0], &begun, 1), 1);
    std::this_thread::sleep_for(std::chrono::microseconds(microseconds(random)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "it was saving all the time";
    ::close(ends[0]);
    ::close(ends[1]);
    const std::size_t which = session.load(path).note == "200" ? 1 : 0;
    ASSERT_EQ(session.position(), which == 1 ? 200 : 100);
    ASSERT_EQ(hash_bits(session.logits()), logits[which]);
    ++found[which];
    const std::size_t files = folder.names().size();
    ASSERT_LE(files, 2U) << "what the last one left, the next one removes";
    left_behind += files - 1;
  }
  EXPECT_GT(found[0], 20U);
  EXPECT_GT(found[1], 20U);
  EXPECT_GT(left_behind, 20U) << "some were killed while they wrote";
  session.save(path);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace lapidary::testing
