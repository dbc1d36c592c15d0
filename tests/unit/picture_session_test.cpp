// Sessions with pictures, whose features are the reference's: logits, law 2 (the same bits under
// every schedule), cancelling, and what is refused.

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/half.h"
#include "test_data.h"
#include "vision_fixture.h"

namespace lapidary::testing {
namespace {

constexpr int kTokens = 256;
constexpr int kWidth = 64;
const std::string kTiny = test_data("tiny-gemma3-text-bf16.gguf");
const std::string kVision = test_data("tiny-gemma3-mmproj-f16.gguf");

/// The views of a picture as the reference encoded them: NAME.features.f16.
std::vector<ImageFeatures> golden_features(const std::string& name) {
  std::ifstream in(test_data("vision/" + name + ".features.f16"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  constexpr std::size_t kValues = std::size_t{kTokens} * kWidth;
  std::vector<ImageFeatures> views;
  for (std::size_t view = 0; view < bytes.size() / (2 * kValues); ++view) {
    std::vector<float> values(kValues);
    for (std::size_t i = 0; i < kValues; ++i) {
      std::uint16_t half = 0;
      std::memcpy(&half, bytes.data() + 2 * (view * kValues + i), sizeof half);
      values[i] = kernels::half_to_float(half);
    }
    views.push_back({kTokens, kWidth, std::make_shared<const std::vector<float>>(values)});
  }
  EXPECT_FALSE(views.empty()) << name;
  return views;
}

void add_features(Prompt& prompt, const std::string& name) {
  const std::vector<ImageFeatures> views = golden_features(name);
  prompt.images.insert(prompt.images.end(), views.begin(), views.end());
}

std::string name_of(const nlohmann::json& golden) {
  if (golden.contains("name")) return golden.at("name");
  const std::string file = golden.at("image");
  return file.substr(0, file.find('.')) + (golden.at("pan_and_scan") ? "_pas" : "");
}

Prompt prompt_of(const nlohmann::json& golden) {
  Prompt prompt{golden.at("ids").get<std::vector<TokenId>>(), {}};
  if (golden.contains("image")) {
    add_features(prompt, name_of(golden));
  } else {
    for (const std::string file : golden.at("images"))
      add_features(prompt, file.substr(0, file.find('.')));
  }
  return prompt;
}

/// Every case of the reference that has pictures.
const std::vector<nlohmann::json>& golden_pictures() {
  static const std::vector<nlohmann::json> cases = [] {
    std::vector<nlohmann::json> all;
    std::ifstream in(test_data("vision/vision.jsonl"));
    for (std::string line; std::getline(in, line);) {
      nlohmann::json object = nlohmann::json::parse(line);
      if (object.contains("image") || object.contains("images")) all.push_back(std::move(object));
    }
    return all;
  }();
  return cases;
}

Prompt golden_prompt(const std::string& name) {
  for (const nlohmann::json& golden : golden_pictures())
    if (name_of(golden) == name) return prompt_of(golden);
  ADD_FAILURE() << "no case " << name;
  return {};
}

std::vector<std::uint64_t> hash_positions(Session& session, const Prompt& prompt) {
  std::vector<std::uint64_t> hashes;
  session.append_with_logits(prompt, [&](int position, std::span<const float> logits) {
    EXPECT_EQ(position, static_cast<int>(hashes.size()));
    hashes.push_back(hash_bits(logits));
  });
  return hashes;
}

/// Pictures side by side and apart, one at the very end: 63 ids, then images where chunks and the
/// window of 64 cut through them.
Prompt long_prompt() {
  Prompt prompt;
  const TokenId image = vision_model().tokenizer().image_token();
  const auto text = [&](std::size_t begin, std::size_t count) {
    prompt.ids.insert(prompt.ids.end(), tiny_ids().begin() + static_cast<std::ptrdiff_t>(begin),
                      tiny_ids().begin() + static_cast<std::ptrdiff_t>(begin + count));
  };
  const auto images = [&](const std::string& name) {
    const std::size_t before = prompt.images.size();
    add_features(prompt, name);
    prompt.ids.insert(prompt.ids.end(), kTokens * (prompt.images.size() - before), image);
  };
  text(0, 63);
  images("hopper");
  text(63, 5);
  images("tall_420x1000_pas");
  text(68, 70);
  images("china_png");
  return prompt;
}

/// `ids` [begin, end) with the images that lie there.
Prompt cut(const Prompt& whole, std::size_t begin, std::size_t end) {
  const TokenId image = vision_model().tokenizer().image_token();
  const auto ids = whole.ids.begin();
  const auto at = [](std::size_t n) { return static_cast<std::ptrdiff_t>(n); };
  const auto first = std::count(ids, ids + at(begin), image) / kTokens;
  const auto last = std::count(ids, ids + at(end), image) / kTokens;
  return {{ids + at(begin), ids + at(end)},
          {whole.images.begin() + first, whole.images.begin() + last}};
}

TEST(PictureGolden, LogitsAgreeWithTheReference) {
  ASSERT_EQ(golden_pictures().size(), 12U);
  for (const nlohmann::json& golden : golden_pictures()) {
    const std::string name = name_of(golden);
    const Prompt prompt = prompt_of(golden);
    const auto best = golden.at("argmax_per_position").get<std::vector<TokenId>>();
    Session session(vision_model(), {.context = 2048});
    std::size_t agree = 0;
    session.append_with_logits(prompt, [&](int position, std::span<const float> logits) {
      agree += argmax(logits) == best[static_cast<std::size_t>(position)];
    });
    EXPECT_GT(static_cast<double>(agree), 0.97 * static_cast<double>(best.size())) << name;
    const auto top = golden.at("last_top20_ids").get<std::vector<std::size_t>>();
    const auto values = golden.at("last_top20_logits").get<std::vector<double>>();
    for (std::size_t i = 0; i < top.size(); ++i)
      EXPECT_NEAR(session.logits()[top[i]], values[i], 0.05) << name;
  }
}

TEST(PictureBits, UnderEverySchedule) {
  const Prompt prompt = long_prompt();
  Session reference(vision_model(), {.context = 2048, .chunk = 2048, .threads = 2});
  const std::vector<std::uint64_t> expected = hash_positions(reference, prompt);
  ASSERT_EQ(expected.size(), prompt.ids.size());
  for (int threads : {1, 2}) {
    for (int chunk : {1, 7, 63, 64, 65, 128, 512, 1024}) {
      Session session(vision_model(), {.context = 2048, .chunk = chunk, .threads = threads});
      EXPECT_EQ(hash_positions(session, prompt), expected)
          << threads << " threads, chunk " << chunk;
      session.clear();
      session.append(prompt);
      EXPECT_EQ(hash_bits(session.logits()), expected.back()) << "chunk " << chunk;
    }
  }
}

TEST(PictureBits, TheScalarKernelsGiveTheSame) {
  Session best(vision_model(), {.context = 2048});
  Session scalar(Model::load(kTiny, {.isa = "scalar", .vision = kVision}), {.context = 2048});
  const Prompt prompt = golden_prompt("two_images");
  EXPECT_EQ(hash_positions(scalar, prompt), hash_positions(best, prompt));
}

TEST(PictureBits, PieceByPieceBehindWhatIsThere) {
  const Prompt whole = long_prompt();
  Session reference(vision_model(), {.context = 2048});
  const std::vector<std::uint64_t> expected = hash_positions(reference, whole);
  Session session(vision_model(), {.context = 2048, .chunk = 100});
  // Ends of the appends: in text, in front of an image, behind one, between two that touch.
  std::size_t begin = 0;
  for (const std::size_t end : std::initializer_list<std::size_t>{
           1, 63, 319, 320, 324, 324 + 256, 324 + 3 * 256, 1100, 1162, whole.ids.size()}) {
    session.append(cut(whole, begin, end));
    EXPECT_EQ(hash_bits(session.logits()), expected[end - 1]) << end << " ids";
    begin = end;
  }
  EXPECT_EQ(session.position(), static_cast<int>(whole.ids.size()));
  EXPECT_TRUE(std::equal(session.ids().begin(), session.ids().end(), whole.ids.begin()));
}

TEST(PictureBits, AnImageSeesItselfAndNoOther) {
  const Prompt whole = golden_prompt("two_images");
  const auto& first_image = *whole.images[0].values;
  const auto changed = [&](std::size_t row) {
    Prompt prompt = whole;
    std::vector<float> values = first_image;
    for (std::size_t i = 0; i < kWidth; ++i) values[row * kWidth + i] += 1.0F;
    prompt.images[0].values = std::make_shared<const std::vector<float>>(values);
    Session session(vision_model(), {.context = 1024});
    return hash_positions(session, prompt);
  };
  Session session(vision_model(), {.context = 1024});
  const std::vector<std::uint64_t> expected = hash_positions(session, whole);
  const std::size_t begin = static_cast<std::size_t>(
      std::ranges::find(whole.ids, vision_model().tokenizer().image_token()) - whole.ids.begin());
  // Its last row reaches every token from its first on, and none before it.
  const std::vector<std::uint64_t> last = changed(kTokens - 1);
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(last[i] == expected[i], i < begin) << "position " << i;
  // The second image does not reach back into the first.
  Prompt other = whole;
  other.images[1] = other.images[0];
  Session again(vision_model(), {.context = 1024});
  const std::vector<std::uint64_t> swapped = hash_positions(again, other);
  const std::size_t second =
      begin + kTokens +
      static_cast<std::size_t>(std::ranges::find(std::span(whole.ids).subspan(begin + kTokens),
                                                 vision_model().tokenizer().image_token()) -
                               std::span(whole.ids).subspan(begin + kTokens).begin());
  EXPECT_TRUE(std::equal(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(second),
                         swapped.begin()));
  EXPECT_NE(expected[second], swapped[second]);
}

TEST(PictureSession, FillsTheContextExactly) {
  const Prompt prompt = long_prompt();
  const int size = static_cast<int>(prompt.ids.size());
  Session reference(vision_model(), {.context = 2048});
  const std::vector<std::uint64_t> expected = hash_positions(reference, prompt);
  for (int chunk : {1, 200, 4096}) {
    Session session(vision_model(), {.context = size, .chunk = chunk});
    EXPECT_EQ(hash_positions(session, prompt), expected) << "chunk " << chunk;
    EXPECT_EQ(session.position(), session.context());
  }
  Session session(vision_model(), {.context = size - 1});
  const Error error = thrown_error([&] { session.append(prompt); });
  EXPECT_EQ(error.code(), ErrorCode::kContext);
  EXPECT_TRUE(contains(error.what(), std::to_string(size)) &&
              contains(error.what(), std::to_string(size - 1)))
      << error.what();
  EXPECT_EQ(session.position(), 0);
}

TEST(PictureSession, CancelKeepsWholeImages) {
  const Prompt prompt = long_prompt();
  const TokenId image = vision_model().tokenizer().image_token();
  Session whole(vision_model(), {.context = 2048});
  whole.append(prompt);
  // Chunks of 50 that end behind an image: 50, 319, 324 + 256 …
  for (const std::uint64_t stop : {50U, 319U, 369U, 600U}) {
    Session session(vision_model(), {.context = 2048, .chunk = 50});
    std::atomic<bool> cancel{false};
    const Error error = thrown_error([&] {
      session.append(
          prompt,
          [&](std::uint64_t done, std::uint64_t total) {
            EXPECT_EQ(total, prompt.ids.size());
            cancel = done >= stop;
          },
          &cancel);
    });
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
    const auto done = static_cast<std::size_t>(session.position());
    EXPECT_GE(done, stop);
    EXPECT_LT(done, prompt.ids.size());
    EXPECT_EQ(std::ranges::count(session.ids(), image) % kTokens, 0) << done << " ids";
    session.append(cut(prompt, done, prompt.ids.size()));
    EXPECT_EQ(hash_bits(session.logits()), hash_bits(whole.logits())) << done << " ids";
  }
}

TEST(PictureSession, FollowsDrawnTokensThatAreNotComputed) {
  const Prompt prompt = long_prompt();
  Session session(vision_model(), {.context = 4096, .chunk = 64});
  session.append(std::span(tiny_ids()).first(40));
  GenerateOptions options{.max_tokens = 30};
  options.sampling.seed = 3;
  session.generate(options);
  const std::vector<TokenId> before(session.ids().begin(), session.ids().end());
  ASSERT_GT(before.size(), 41U);
  std::vector<std::uint64_t> hashes;
  const auto keep = [&](int, std::span<const float> logits) {
    hashes.push_back(hash_bits(logits));
  };
  session.append_with_logits(prompt, keep);
  ASSERT_EQ(hashes.size(), prompt.ids.size());

  Prompt all = prompt;
  all.ids.insert(all.ids.begin(), before.begin(), before.end());
  Session reference(vision_model(), {.context = 4096});
  const std::vector<std::uint64_t> expected = hash_positions(reference, all);
  EXPECT_TRUE(std::equal(hashes.begin(), hashes.end(),
                         expected.begin() + static_cast<std::ptrdiff_t>(before.size())));
}

TEST(PictureSession, ChatsTurnByTurn) {
  const ContentPart picture{
      .text = {},
      .image = EncodedImage{.views = {}, .features = golden_features("tall_420x1000_pas")}};
  const std::vector<ContentPart> first = {picture, {.text = " What is it? "}};
  const std::vector<ContentPart> second = {{.text = "And"}, picture, {.text = "this?"}};
  Session chat(vision_model(), {.context = 4096, .chunk = 100});
  std::atomic<bool> cancel{false};
  GenerateOptions options{.max_tokens = 5};
  options.sampling.temperature = 0;
  options.cancel = &cancel;
  chat.add_user(first, "Be brief.");
  // Interrupted within the prompt: the rest of it, the later crops with it, comes with the reply.
  const Error error = thrown_error([&] {
    chat.reply_to_end(options, {}, [&](std::uint64_t done, std::uint64_t) { cancel = done > 300; });
  });
  EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  EXPECT_GT(chat.position(), 0);
  cancel = false;
  const Completion reply = chat.reply_to_end(options);
  chat.add_user(second);
  options.max_tokens = 0;
  chat.reply_to_end(options);

  std::vector<Message> messages = {{.role = "system", .content = "Be brief."},
                                   {.role = "user", .content = "", .parts = first}};
  const Prompt opening = chat_prompt(vision_model().tokenizer(), messages);
  ASSERT_GT(chat.position(), static_cast<int>(opening.ids.size()));
  EXPECT_TRUE(std::equal(opening.ids.begin(), opening.ids.end(), chat.ids().begin()));
  Prompt all{{chat.ids().begin(), chat.ids().end()}, opening.images};
  all.images.insert(all.images.end(), opening.images.begin(), opening.images.end());
  Session reference(vision_model(), {.context = 4096});
  reference.append(all);
  EXPECT_EQ(hash_bits(chat.logits()), hash_bits(reference.logits()));
}

void expect_refused(const Model& model, const Prompt& prompt,
                    std::initializer_list<std::string_view> parts) {
  Session session(model, {.context = 2048});
  session.append(std::span(tiny_ids()).first(10));
  const std::uint64_t before = hash_bits(session.logits());
  const auto ignore = [](int, std::span<const float>) {};
  for (const bool with_logits : {false, true}) {
    const Error error = thrown_error(
        [&] { with_logits ? session.append_with_logits(prompt, ignore) : session.append(prompt); });
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    for (const std::string_view part : parts) EXPECT_TRUE(contains(error.what(), part)) << part;
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
  EXPECT_EQ(session.position(), 10);
  session.append(std::span(tiny_ids()).subspan(10, 10));
  Session reference(model, {.context = 2048});
  reference.append(std::span(tiny_ids()).first(20));
  EXPECT_EQ(hash_bits(session.logits()), hash_bits(reference.logits()));
  EXPECT_NE(hash_bits(session.logits()), before);
}

TEST(PictureSession, RefusesIdsAndImagesThatDisagree) {
  const Prompt good = golden_prompt("hopper");
  const TokenId image = vision_model().tokenizer().image_token();
  Prompt prompt = good;
  prompt.images.clear();
  expect_refused(vision_model(), prompt, {"256", "images for 0"});
  prompt = good;
  prompt.images.push_back(prompt.images.front());
  expect_refused(vision_model(), prompt, {"2 images", "for 1"});
  prompt = good;
  prompt.ids.erase(std::ranges::find(prompt.ids, image));
  expect_refused(vision_model(), prompt, {"255", "256"});
  prompt = good;
  prompt.ids.insert(std::ranges::find(prompt.ids, image), image);
  expect_refused(vision_model(), prompt, {"257", "256"});
  prompt = good;  // Two images' features, but a run cut by another token.
  prompt.ids.insert(std::ranges::find(prompt.ids, image) + 100, 5);
  expect_refused(vision_model(), prompt, {"100", "256"});
  expect_refused(vision_model(), Prompt{{5, image}, {}}, {"1 image token", "place 1"});
  expect_refused(vision_model(), Prompt{{}, good.images}, {"1 image", "for 0"});
}

TEST(PictureSession, RefusesFeaturesOfAnotherShape) {
  const Prompt good = golden_prompt("hopper");
  Prompt prompt = good;
  prompt.images[0].width = 128;
  expect_refused(vision_model(), prompt, {"128", "64"});
  prompt = good;
  prompt.images[0].tokens = 64;
  expect_refused(vision_model(), prompt, {"64", "256"});
  prompt = good;
  prompt.images[0].values = std::make_shared<const std::vector<float>>(100);
  expect_refused(vision_model(), prompt, {"100", "16384"});
  prompt.images[0].values = nullptr;
  expect_refused(vision_model(), prompt, {"0 values", "16384"});
}

TEST(PictureSession, RefusesImagesWithoutAVisionFile) {
  expect_refused(tiny_model(), golden_prompt("hopper"), {"vision file"});
  const std::vector<TokenId> lone = {2, tiny_model().tokenizer().image_token()};
  expect_refused(tiny_model(), Prompt{lone, {}}, {"image token"});
}

TEST(PictureSession, PlansForAnImageBehindAChunkOnlyWithAVisionFile) {
  const SessionOptions options{.context = 4096, .chunk = 64, .threads = 1};
  const std::uint64_t text = Session(tiny_model(), options).memory_bytes();
  const std::uint64_t vision = Session(vision_model(), options).memory_bytes();
  EXPECT_GT(vision, text);
  SessionOptions longer = options;
  longer.chunk += kTokens - 1;
  EXPECT_EQ(vision, Session(tiny_model(), longer).memory_bytes());
}

TEST(PictureSession, DrawsNoImageToken) {
  // The hottest of draws: every id of the vocabulary is as good as any other.
  const TokenId image = vision_model().tokenizer().image_token();
  GenerateOptions options{.max_tokens = 200};
  options.sampling = {.temperature = 1e6F, .top_k = 0, .top_p = 1.0F};
  for (options.sampling.seed = 1; options.sampling.seed <= 20; ++options.sampling.seed) {
    Session session(vision_model(), {.context = 512, .threads = 1});
    session.append(std::span(tiny_ids()).first(10));
    const Completion completion = session.generate(options);
    EXPECT_EQ(std::ranges::count(completion.ids, image), 0) << options.sampling.seed;
  }
}

}  // namespace
}  // namespace lapidary::testing
