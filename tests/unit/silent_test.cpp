// The library prints nothing, whatever the files are that it is given: damaged models, vision
// models, vocabularies and pictures of every kind.

#include <filesystem>
#include <string>
#include <vector>

#include "memory_source.h"
#include "model_fixture.h"
#include "text/tokenizer_impl.h"
#include "vision_builder.h"

namespace lapidary::testing {
namespace {

using test::GgufBuilder;
using test::TempFile;

/// Looks at what goes to standard output and standard error, of other libraries too.
class Silence {
 public:
  Silence() {
    ::testing::internal::CaptureStderr();
    ::testing::internal::CaptureStdout();
  }
  ~Silence() {
    EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
};

template <class F>
void try_it(F&& act) {
  try {
    act();
  } catch (const Error&) {
  }
}

/// Calls `use` with `bytes` cut, and with some of them changed, in many places.
template <class Use>
void for_each_damage(const std::string& bytes, int places, const Use& use) {
  test::TinyRandom random;
  use(bytes);
  for (int i = 0; i < places; ++i) {
    use(bytes.substr(0, random.below(bytes.size())));
    std::string changed = bytes;
    for (int n = 0; n < 4; ++n)
      changed[random.below(changed.size())] = static_cast<char>(random.next() % 256);
    use(changed);
    changed = bytes;
    changed[random.below(std::min<std::size_t>(changed.size(), 200))] ^= 0x55;
    use(changed);
  }
}

TEST(Silent, Models) {
  const std::string bytes = test::tiny_model({.layers = 1}).build();
  const TempFile file;
  const Silence silence;
  for_each_damage(bytes, 60, [&](const std::string& damaged) {
    file.write(damaged);
    try_it([&] { Model::load(file.path(), {.threads = 1}); });
    try_it([&] { inspect_file(file.path()); });
  });
}

TEST(Silent, VisionModels) {
  const std::string bytes = test::tiny_vision({.image = 28, .layers = 1}).build();
  const TempFile file;
  const Silence silence;
  for_each_damage(bytes, 60, [&](const std::string& damaged) {
    file.write(damaged);
    try_it([&] { inspect_vision(file.path()); });
    try_it([&] {
      const Model model =
          Model::load(test_data("tiny-gemma3-text-bf16.gguf"), {.vision = file.path()});
      ImageEncoder(model, {.threads = 1}).load();
    });
  });
}

TEST(Silent, Vocabularies) {
  std::vector<MemorySource> sources(8, small_vocabulary());
  sources[0].tokens()[266] = "b";                   // Twice.
  sources[1].add_token("\xFF\xFE", 1);              // No UTF-8.
  sources[2].add_token("\xE2\x96\x81\n", 4);        // User-defined over a space.
  sources[3].add_token(std::string(4096, 'u'), 4);  // Long.
  sources[4].add_token("a b", 1);                   // A space as it is.
  sources[5].add_token("<unk>", 1);
  sources[6].add_token("<0x41>", 1);  // A byte's name that is none.
  for (int i = 0; i < 3000; ++i) sources[7].add_token("w" + std::to_string(i), 1 + i % 5, -i);
  const Silence silence;
  for (const MemorySource& source : sources) {
    try_it([&] {
      const Tokenizer tokenizer = load_tokenizer(source);
      tokenizer.encode("a \xFF b\n\n\x01 <unk> \xF0\x9F\x99\x82 w12w3", true);
    });
  }
}

/// Of a damaged alpha plane of an AVIF picture dav1d prints: libheif 1.15 decodes it with its own
/// first choice, whatever it is asked for (docs/SECURITY.md).
bool prints(const std::filesystem::path& path) { return path.filename() == "alpha.avif"; }

TEST(Silent, Pictures) {
  const Silence silence;
  for (const char* folder : {"vision/decode", "vision/on_white", "vision/images"}) {
    for (const auto& entry : std::filesystem::directory_iterator(test_data(folder))) {
      if (!entry.is_regular_file() || entry.file_size() > 50'000 || prints(entry.path())) continue;
      for_each_damage(test::read_file(entry.path().string()), 12, [](const std::string& bytes) {
        try_it([&] {
          Image::decode(std::as_bytes(std::span(bytes)), "it",
                        {.memory_limit = std::uint64_t{64} << 20});
        });
      });
    }
  }
}

}  // namespace
}  // namespace lapidary::testing
