#include "bench.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <optional>

#include "commands.h"
#include "json.h"
#include "model_folder.h"
#include "terminal.h"
#include "text.h"

namespace cli {

namespace {

using lapidary::TokenId;

// What every measurement runs over, repeated as needed: a model's own output may fall into a loop,
// and its speed with it.
constexpr std::string_view kText =
    "A cutter of gems begins by doing nothing at all. The rough stone lies on a square of grey "
    "felt under the north "
    "window, and for an hour, sometimes for a day, it is only turned and looked at. Light goes in "
    "at one side and comes "
    "out at another, bent, weakened, split into a thin line of colours; and from the way in which "
    "it is bent the cutter "
    "reads where the flaws are, which way the crystal grew, and how much will have to be lost. "
    "More than half of a stone "
    "ends as dust on the wheel. The art is in choosing which half.\n\n"
    "There were once forty workshops in the street behind the harbour, each with its own wheel "
    "driven by a belt from the "
    "mill. Boys of twelve swept the floors, because the sweepings were sieved on Saturdays and "
    "sold by weight. In 1871 a "
    "good journeyman earned 28 shillings a week, and a master who could cut a sapphire of 9 carats "
    "without a feather in "
    "it might ask what he liked. Their tools would fit into a cigar box: a dop, a quadrant, three "
    "laps of copper and tin, "
    "a bottle of olive oil, and a little jar of diamond powder with a waxed cork.\n\n"
    "\"How do you know when it is finished?\" asked the visitor. The old woman wiped the stone "
    "with her thumb and held it "
    "up. \"When there is nothing left that I could take away,\" she said, \"and when it looks back "
    "at you.\" She wrote "
    "the weight in her book, 4.37, drew a line beneath it, and reached for the next paper packet "
    "without looking.\n";

struct Options {
  ModelFlags model;
  ImageFlags images;
  bool image = false;
  int prefill = 512;
  int decode = 48;
  int depth = 0;
  bool fill = false;
  int rounds = 3;
  int sequences = 1;
  std::string head = "full";
  lapidary::SamplingOptions sampling = {.temperature = 0};
  bool json = false;
};

struct Measurement {
  std::string test;
  int tokens = 0;
  std::vector<double> speeds;  // Tokens per second, one a round.
  std::uint64_t hash = 0;      // Of the last logits.
};

std::vector<TokenId> fixed_ids(const lapidary::Tokenizer& tokenizer, std::size_t count) {
  const std::vector<TokenId> once = tokenizer.encode(kText);
  std::vector<TokenId> ids{tokenizer.bos()};
  while (ids.size() < count) ids.insert(ids.end(), once.begin(), once.end());
  ids.resize(count);
  return ids;
}

// Where a measurement begins: behind `before` and nothing else.
void go_to(lapidary::Session& session, const Options& options, std::span<const TokenId> before) {
  session.clear();
  if (before.empty()) return;
  if (options.fill) {
    lapidary::append_made_up(session, static_cast<int>(before.size()));
  } else {
    session.append(before, {}, &interrupted);
  }
}

// Tokens per second of `count` tokens behind the first `depth`; `step` of them at a time.
double measure(lapidary::Session& session, const Options& options, std::span<const TokenId> ids,
               int depth, int count, int step) {
  go_to(session, options, ids.first(static_cast<std::size_t>(depth)));
  std::span<const TokenId> rest =
      ids.subspan(static_cast<std::size_t>(depth), static_cast<std::size_t>(count));
  const double start = now();
  for (; !rest.empty(); rest = rest.subspan(static_cast<std::size_t>(step))) {
    session.append(rest.first(static_cast<std::size_t>(step)), {}, &interrupted);
    if (options.head == "screened") {
      session.draw(options.sampling);
    } else {
      session.logits();
    }
  }
  return rate(count, now() - start);
}

// Tokens per second of all sessions together, `count` one by one in each.
double measure_together(std::span<lapidary::Session> sessions, const Options& options,
                        std::span<const TokenId> ids, int depth, int count) {
  std::vector<lapidary::Session*> all;
  all.reserve(sessions.size());
  for (lapidary::Session& session : sessions) {
    go_to(session, options, ids.first(static_cast<std::size_t>(depth)));
    all.push_back(&session);
  }
  const auto rest = ids.subspan(static_cast<std::size_t>(depth), static_cast<std::size_t>(count));
  const double start = now();
  for (const TokenId id : rest) {
    const std::vector<TokenId> next(all.size(), id);
    lapidary::append_together(all, next);
  }
  return rate(count * options.sequences, now() - start);
}

// Tokens per second of a prompt with a row of logits for every token: what decoding together could
// reach if it lost nothing.
double measure_rows(lapidary::Session& session, const Options& options,
                    std::span<const TokenId> ids, int depth, int count) {
  go_to(session, options, ids.first(static_cast<std::size_t>(depth)));
  const auto rest = ids.subspan(static_cast<std::size_t>(depth), static_cast<std::size_t>(count));
  const double start = now();
  session.append_with_logits(
      rest, [](int, std::span<const float>) {}, &interrupted);
  return rate(count, now() - start);
}

double measure_once(std::span<lapidary::Session> sessions, const Options& options,
                    const Measurement& test, std::span<const TokenId> ids, int depth, int count) {
  if (test.test == "together") return measure_together(sessions, options, ids, depth, count);
  if (test.test == "rows") return measure_rows(sessions[0], options, ids, depth, count);
  return measure(sessions[0], options, ids, depth, count, test.test == "decode" ? 1 : count);
}

std::vector<Measurement> measure_all(std::span<lapidary::Session> sessions,
                                     const Options& options) {
  const int most = std::max(options.prefill, options.decode);
  const std::vector<TokenId> ids =
      fixed_ids(sessions[0].model().tokenizer(),
                static_cast<std::size_t>(options.depth) + static_cast<std::size_t>(most));
  std::vector<Measurement> tests;
  if (options.prefill > 0) tests.push_back({"prefill", options.prefill, {}, 0});
  if (options.decode > 0) tests.push_back({"decode", options.decode, {}, 0});
  if (options.sequences > 1) {
    if (options.prefill > 0) tests.push_back({"rows", options.prefill, {}, 0});
    if (options.decode > 0) tests.push_back({"together", options.decode, {}, 0});
  }
  // One warm-up: pages are touched, threads are up, the clock has settled.
  for (const Measurement& test : tests) {
    measure_once(sessions, options, test, ids, 0,
                 std::min(test.tokens, test.test == "prefill" || test.test == "rows" ? 512 : 8));
  }
  for (int round = 0; round < options.rounds; ++round) {
    for (Measurement& test : tests) {
      test.speeds.push_back(measure_once(sessions, options, test, ids, options.depth, test.tokens));
      test.hash = hash_of(sessions[0].logits());
    }
  }
  return tests;
}

// Of all rows whose upper four bits were read, how many had the fifth read too, how many the rest,
// and how many were multiplied in full.
void add_shares(Json& object, const lapidary::HeadStats& stats) {
  const auto rows = static_cast<double>(stats.rows);
  object["head_five_bit_share"] = rate(static_cast<double>(stats.five_bit_rows), rows);
  object["head_low_share"] = rate(static_cast<double>(stats.low_rows), rows);
  object["head_exact_share"] = rate(static_cast<double>(stats.exact_rows), rows);
  object["head_gave_up_share"] =
      rate(static_cast<double>(stats.gave_up), static_cast<double>(stats.searches));
}

Json describe(const Measurement& test, const Options& options, const lapidary::Session& session,
              const lapidary::MachineLimits& limits) {
  const lapidary::ModelInfo& info = session.model().info();
  const double speed = median(test.speeds);
  const auto [low, high] = std::minmax_element(test.speeds.begin(), test.speeds.end());
  // A prompt reads every weight once a chunk, a decoded token once, sequences together once for
  // all.
  double reads_per_token = 1.0;
  if (test.test == "prefill" || test.test == "rows")
    reads_per_token =
        std::ceil(test.tokens / static_cast<double>(options.model.chunk)) / test.tokens;
  if (test.test == "together") reads_per_token = 1.0 / options.sequences;
  const double gigabytes =
      speed * reads_per_token * static_cast<double>(info.bytes_per_token) / 1e9;
  const double gigaops = speed * 2 * static_cast<double>(info.multiplications_per_token) / 1e9;
  Json object;
  object["test"] = test.test;
  object["tokens_per_second"] = speed;
  object["lowest"] = *low;
  object["highest"] = *high;
  object["tokens"] = test.tokens;
  object["depth"] = options.depth;
  if (test.test == "together") object["sequences"] = options.sequences;
  object["filled"] = options.fill;
  object["kv"] = options.model.kv;
  object["rounds"] = options.rounds;
  object["threads"] = session.threads();
  object["isa"] = session.model().isa();
  object["head"] = options.head;
  if (options.head == "screened") add_shares(object, session.head_stats());
  object["gigabytes_per_second"] = gigabytes;
  object["bandwidth_share"] = rate(gigabytes, limits.read_gigabytes_per_second);
  object["gigaops_per_second"] = gigaops;
  object["peak_share"] = rate(gigaops, limits.int8_gigaops_per_second);
  object["logits_hash"] = format("%016llx", static_cast<unsigned long long>(test.hash));
  return object;
}

std::string table_row(const Json& test) {
  return format(
      "%-8s %5d tokens at %d: %8.1f t/s (%.1f to %.1f), %6.2f GB/s = %3.0f %% of memory, %3.0f %% "
      "of int8 peak, logits %s\n",
      test["test"].get<std::string>().c_str(), test["tokens"].get<int>(), test["depth"].get<int>(),
      test["tokens_per_second"].get<double>(), test["lowest"].get<double>(),
      test["highest"].get<double>(), test["gigabytes_per_second"].get<double>(),
      100 * test["bandwidth_share"].get<double>(), 100 * test["peak_share"].get<double>(),
      test["logits_hash"].get<std::string>().c_str());
}

// One session with an engine of its own, as a program makes it; several share one.
std::vector<lapidary::Session> make_sessions(const lapidary::Model& model,
                                             const lapidary::SessionOptions& wanted, int count,
                                             std::uint64_t kv_bytes) {
  std::vector<lapidary::Session> sessions;
  if (count == 1) {
    sessions.emplace_back(model, wanted);
    return sessions;
  }
  const lapidary::Engine engine(model, {.threads = wanted.threads,
                                        .pass = wanted.chunk,
                                        .context = wanted.context,
                                        .kv = wanted.kv,
                                        .kv_memory = kv_bytes,
                                        .reuse = false,
                                        .memory_limit = wanted.memory_limit});
  for (int i = 0; i < count; ++i) sessions.emplace_back(engine);
  return sessions;
}

int bench(const Options& options) {
  if (options.image)
    return bench_image(options.model, options.images, options.rounds, options.json);
  ModelFlags flags = options.model;
  if (flags.context == 0)
    flags.context = std::max(1, options.depth + std::max(options.prefill, options.decode));
  const lapidary::ModelOptions as{.screened_head = options.head == "screened"};
  const lapidary::SessionOptions wanted = flags.session();
  const lapidary::MemoryPlan plan = plan_memory(find_model(flags.model), as, wanted);
  const auto more_sessions = static_cast<std::uint64_t>(options.sequences - 1);
  // Without a limit the measurement of the machine makes do with what there is.
  const std::uint64_t machine = flags.memory_limit > 0 ? lapidary::kMeasureMachineBytes : 0;
  check_memory(flags, as, true, more_sessions * plan.kv + machine);
  const lapidary::Model model = load_model(options.model, as);
  // Theirs, and the windows of a pass.
  const std::uint64_t kv = static_cast<std::uint64_t>(options.sequences) * plan.kv +
                           model.info().kv_bytes(2 * wanted.chunk, true, wanted.kv);
  std::vector<lapidary::Session> sessions = make_sessions(model, wanted, options.sequences, kv);
  hold_interrupts(Interrupts::kStop);
  const std::vector<Measurement> tests = measure_all(sessions, options);
  const lapidary::MachineLimits limits =
      lapidary::measure_machine(options.model.threads, options.model.isa);
  Output output;
  for (const Measurement& test : tests) {
    const Json object = describe(test, options, sessions[0], limits);
    output.write(options.json ? to_line(object) + "\n" : table_row(object));
  }
  output.check();
  return 0;
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::uint64_t hash_of(std::span<const float> values) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const float value : values)
    hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001b3U;
  return hash;
}

void add_bench(CLI::App& app, Run& run) {
  CLI::App& command = add_command(app, "bench", "measure speed over a fixed text");
  const auto options = std::make_shared<Options>();
  constexpr double kMost = 1 << 24;
  add_model_flags(command, options->model);
  add_option(command, "--prefill", options->prefill, "tokens of the prompt; 0: no such test")
      .range(0, kMost);
  // tokenize has a --decode that is a flag.
  add_option(command, "--decode", options->decode, "tokens one by one; 0: no such test")
      .range(0, kMost)
      .environment("LAPIDARY_BENCH_DECODE");
  add_option(command, "--depth", options->depth, "tokens that are there before the measured ones")
      .range(0, kMost);
  add_flag(command, "--fill", options->fill,
           "make up keys and values of --depth instead of computing them: for speed alone");
  add_option(command, "--rounds", options->rounds, "measurements; the median counts")
      .range(1, 1000);
  add_option(command, "--sequences", options->sequences,
             "sequences of two more tests: a prompt with logits of every token, and decoding them "
             "together with the full head; 1: none")
      .range(1, lapidary::kMostTogether);
  // Elsewhere --image names a file.
  add_flag(command, "--image", options->image,
           "measure the encoding of a built-in picture, and nothing else")
      .environment("LAPIDARY_BENCH_IMAGE");
  add_vision_flag(command, options->images);
  add_option(command, "--head", options->head, "how the output matrix is computed")
      .one_of({"full", "screened"});
  add_option(command, "--temp", options->sampling.temperature,
             "of the draws from a screened head; 0: greedy")
      .range(0, 100)
      .environment("LAPIDARY_BENCH_TEMP");
  add_flag(command, "--json", options->json, "one JSON object a line");
  when_chosen(command, run, [options] { return bench(*options); });
}

}  // namespace cli
