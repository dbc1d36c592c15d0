// libFuzzer entry of saved sessions: any bytes are a session that can go on, or an Error. The input
// changes sections of a real file; checksums are then made right, so that what they hold is
// believed, or are left as they were.
//
// First byte: 1: recomputes, 2: checksums are left, 4: of a session with a picture. Then changes:
// section, kind, position u16, count u8, and as many bytes: 0: in place, 1: put between, 2: taken
// out.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../unit/gguf_builder.h"
#include "../unit/test_data.h"
#include "base/printable.h"
#include "lapidary/lapidary.h"
#include "runtime/saved_tokens.h"

namespace {

using namespace lapidary;

constexpr const char* kSections[] = {"ids",   "note",  "pictures", "features",
                                     "state", "pages", "windows"};
const SessionOptions kOptions{.context = 512, .threads = 1};

const Model& model() {
  static const Model loaded = Model::load(test_data("tiny-gemma3-text-bf16.gguf"),
                                          {.vision = test_data("tiny-gemma3-mmproj-f16.gguf")});
  return loaded;
}

using Sections = std::vector<std::vector<std::byte>>;

/// A session that was saved in the middle of going back, with snapshots.
Sections saved_sections(bool picture) {
  const test::TempFile file;
  Session session(model(), kOptions);
  Prompt prompt;
  for (int i = 0; i < 100; ++i) prompt.ids.push_back(300 + i * 7);
  if (picture) {
    const int width = model().info().width;
    prompt.ids.insert(prompt.ids.end(), 256, model().tokenizer().image_token());
    prompt.images.push_back({256, width,
                             std::make_shared<const std::vector<float>>(
                                 std::size_t{256} * static_cast<std::size_t>(width), 0.5F)});
  }
  session.append(prompt);
  session.append(std::vector<TokenId>(30, 400));
  session.rewind(session.position() - 5);
  session.save(file.path(), "a note");
  const CheckedReader in(file.path(), kSavedSession);
  Sections sections;
  for (const char* const name : kSections) sections.push_back(in.read(name, in.bytes(name)));
  return sections;
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
  bool empty() const { return rest_.empty(); }
  std::size_t byte() {
    if (rest_.empty()) return 0;
    const std::uint8_t value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  std::size_t number() {
    const std::size_t low = byte();
    return low | byte() << 8U;
  }

 private:
  std::span<const std::uint8_t> rest_;
};

void change(Sections& sections, Input& input) {
  std::vector<std::byte>& section = sections[input.byte() % sections.size()];
  const std::size_t kind = input.byte() % 3;
  const std::size_t at = std::min(input.number(), section.size());
  const std::size_t count = input.byte();
  const auto place = section.begin() + static_cast<std::ptrdiff_t>(at);
  if (kind == 2) {
    section.erase(place, place + static_cast<std::ptrdiff_t>(std::min(count, section.size() - at)));
    return;
  }
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < count && !input.empty(); ++i)
    bytes.push_back(static_cast<std::byte>(input.byte()));
  if (kind == 1) {
    section.insert(place, bytes.begin(), bytes.end());
  } else {
    std::copy_n(bytes.begin(), std::min(bytes.size(), section.size() - at), place);
  }
}

void write(const std::string& path, const Sections& sections) {
  CheckedWriter out(path, kSavedSession);
  for (std::size_t i = 0; i < sections.size(); ++i) out.section(kSections[i], sections[i]);
  out.commit(Outlives::kProcess);
}

/// The file of `before` with as much of `sections` in it as has room, under the old checksums;
/// whether that is something else.
bool write_unchecked(const std::string& path, const Sections& sections, const Sections& before) {
  write(path, before);
  const std::string whole = test::read_file(path);
  std::string bytes = whole;
  std::size_t at = 16;
  for (std::size_t i = 0; i < sections.size(); ++i) {
    at += 16;
    const std::size_t count = std::min(sections[i].size(), before[i].size());
    std::copy_n(reinterpret_cast<const char*>(sections[i].data()), count,
                bytes.begin() + static_cast<std::ptrdiff_t>(at));
    at += before[i].size() + 32;
  }
  std::ofstream(path, std::ios::binary) << bytes;
  return bytes != whole;
}

/// Loads a session and goes on with it, or leaves it as it was.
void go_on(Session& session, const std::string& path, IfUnusable otherwise) {
  try {
    session.load(path, otherwise);
    session.logits();
    session.append(std::vector<TokenId>(2, 400));
    session.rewind(session.position() / 2);
    session.logits();
  } catch (const Error& error) {
    if (!is_printable(error.what(), kMostOfALine)) std::abort();
    const ErrorCode code = error.code();  // kUsage: half the way back lies within a picture.
    if (code != ErrorCode::kFile && code != ErrorCode::kContext && code != ErrorCode::kUsage)
      std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Sections templates[] = {saved_sections(false), saved_sections(true)};
  static const test::TempFile file;
  static Session session(model(), kOptions);
  Input input(data, size);
  const std::size_t flags = input.byte();
  const Sections& before = templates[(flags & 4U) != 0 ? 1 : 0];
  Sections sections = before;
  while (!input.empty()) change(sections, input);
  const IfUnusable otherwise = (flags & 1U) != 0 ? IfUnusable::kRecompute : IfUnusable::kRefuse;
  if ((flags & 2U) != 0) {
    session.clear();
    const bool damaged = write_unchecked(file.path(), sections, before);
    go_on(session, file.path(), otherwise);
    if (damaged && otherwise == IfUnusable::kRefuse && session.position() != 0) std::abort();
  } else {
    write(file.path(), sections);
    go_on(session, file.path(), otherwise);
  }
  return 0;
}
