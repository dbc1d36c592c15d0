#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "data.h"
#include "kernels/kernels.h"
#include "kernels/split.h"
#include "peaks.h"

/// The speed of each kernel of each table that runs here, on one thread, beside what the machine
/// could do. Bytes are those of the weights (of attention: of keys and values; of vectors: all that
/// is read and written), each counted once. Operations are multiplications and additions; 16-bit
/// activations are two 8-bit parts and so take twice as many. The names are
/// kernel/table/what/tokens:N.
namespace lapidary {
namespace {

using kernels::kBlock;
using kernels::Kernels;
using kernels::kPanelRows;
using kernels::Packing;

constexpr int kColumns = 2560;  // Of the 4B model: a multiple of 256, so every packing has it.
constexpr int kSmallerColumns[] = {640, 1152};       // Of the 270M and the 1B model.
constexpr int kFeedForward[] = {2048, 6912, 10240};  // The feed-forward widths of the three.
constexpr int kTokens[] = {1, 2, 4, 8, 512};
constexpr std::size_t kTaskBytes = std::size_t{64} << 10;  // Weights of one call when streaming.

struct Table {
  const Kernels* kernels;
  TablePeaks peaks;
};

/// What one call does, and the limit that it is compared with.
struct Work {
  double bytes;
  double operations;
  double limited;  // Bytes or operations, as the limit is.
  double limit;    // Of them, a second.
  const char* limit_name;
};

Work integer_work(const Table& table, double bytes, double operations) {
  return {bytes, operations, operations, table.peaks.int8, "of int8"};
}
Work float_work(const Table& table, double bytes, double operations) {
  return {bytes, operations, operations, table.peaks.fp32, "of fp32"};
}

template <class Call>
void measure(benchmark::State& state, const Work& work, Call call) {
  const double start = thread_seconds();
  for (auto _ : state) {
    call();
    benchmark::ClobberMemory();
  }
  const double seconds = thread_seconds() - start;
  const auto calls = static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["bytes_per_second"] = Counter(work.bytes * calls, Counter::kIsRate);
  state.counters["operations_per_second"] = Counter(work.operations * calls, Counter::kIsRate);
  state.counters["operations_per_byte"] = work.operations / work.bytes;
  state.counters["percent_of_peak"] = 100 * work.limited * calls / seconds / work.limit;
  state.SetLabel(work.limit_name);
}

template <class Run>
void add(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(), run);
}

std::byte* matmul_scratch() {
  static const HugeBuffer scratch(kernels::matmul_scratch_bytes(kColumns));
  return scratch.data();
}

// Matrix products.

struct Product {
  Form form;
  bool in_16_bits;  // 16-bit activations.
  int columns;
  int tokens;

  double operations(int panels) const {
    const double weights = double{kPanelRows} * columns * panels;
    return 2 * weights * tokens * (in_16_bits ? 2 : 1);
  }
  std::string bits() const {
    if (!kernels::is_quantized(form.packing)) return "fp32";
    return in_16_bits ? "16bit" : "8bit";
  }
  bool in_planes() const { return static_cast<int>(form.packing) >= kernels::kPanelPackings; }
};

kernels::PlanesMatmulArgs arguments(const Product& p, const Matrix& m, std::vector<float>& out) {
  const Activations& x = activations(p.tokens, p.columns, p.in_16_bits);
  out.resize(static_cast<std::size_t>(m.panel_count) * kPanelRows *
             static_cast<std::size_t>(p.tokens));
  return {.top = {.panels = m.panels,
                  .panel_bytes = m.panel_bytes,
                  .columns = p.columns,
                  .panel_begin = 0,
                  .panel_end = m.panel_count,
                  .input = &x.quantized,
                  .dense_input = x.values.data(),
                  .token_begin = 0,
                  .tokens = p.tokens,
                  .out = out.data(),
                  .out_stride = static_cast<std::size_t>(m.panel_count) * kPanelRows,
                  .scratch = matmul_scratch()},
          .second = m.low};
}

void multiply(const Kernels& table, const Product& p, const kernels::PlanesMatmulArgs& args) {
  const int packing = static_cast<int>(p.form.packing);
  if (p.in_planes()) {
    table.matmul_planes[packing - kernels::kPanelPackings](args);
  } else {
    (p.in_16_bits ? table.matmul16 : table.matmul)[packing](args.top);
  }
}

void run_product(benchmark::State& state, const Table& table, const Product& p) {
  const Matrix& m = cached_matrix(p.form, p.columns);
  std::vector<float> out;
  const kernels::PlanesMatmulArgs args = arguments(p, m, out);
  const auto bytes = static_cast<double>(m.bytes());
  const bool quantized = kernels::is_quantized(p.form.packing);
  const Work work =
      (quantized ? integer_work : float_work)(table, bytes, p.operations(m.panel_count));
  measure(state, work, [&] { multiply(*table.kernels, p, args); });
}

/// Each call takes the next piece of a matrix far larger than the caches.
void run_stream(benchmark::State& state, const Table& table, const Product& p, double reads) {
  static int next = 0;
  const Matrix& m = streamed_matrix(p.form, p.columns);
  const std::size_t panel = m.panel_bytes + m.low_bytes;
  const int step = std::max(1, static_cast<int>(kTaskBytes / panel));
  std::vector<float> out;
  kernels::PlanesMatmulArgs args = arguments(p, m, out);
  const double bytes = static_cast<double>(panel) * step;
  measure(state, {bytes, p.operations(step), bytes, reads, "of memory"}, [&] {
    if (next + step > m.panel_count) next = 0;
    args.top.panel_begin = next;
    args.top.panel_end = next += step;
    multiply(*table.kernels, p, args);
  });
}

void add_products(const Table& table, const std::string& isa, double reads) {
  for (const Form& form : forms()) {
    for (const bool in_16_bits : {false, true}) {
      Product p{form, in_16_bits, kColumns, 1};
      // Dense products have one kind of input, those in planes 16 bits.
      if (in_16_bits ? !kernels::is_quantized(form.packing) : p.in_planes()) continue;
      const std::string what = isa + "/" + std::string(form.name) + "/" + p.bits();
      add("stream/" + what + "/tokens:1",
          [=](benchmark::State& state) { run_stream(state, table, p, reads); });
      for (const int tokens : kTokens) {
        p.tokens = tokens;
        add("matmul/" + what + "/tokens:" + std::to_string(tokens),
            [=](benchmark::State& state) { run_product(state, table, p); });
      }
    }
  }
}

/// The widths of the smaller models, for some packings.
void add_smaller_products(const Table& table, const std::string& isa) {
  for (const Form& form : forms()) {
    if (form.packing != Packing::kQ4_0 && form.packing != Packing::kQ5_0 &&
        form.packing != Packing::kQ8_0)
      continue;
    for (const int columns : kSmallerColumns) {
      for (const int tokens : {1, 512}) {
        const Product p{form, false, columns, tokens};
        add("matmul/" + isa + "/" + std::string(form.name) +
                "/8bit/columns:" + std::to_string(columns) + "/tokens:" + std::to_string(tokens),
            [=](benchmark::State& state) { run_product(state, table, p); });
      }
    }
  }
}

// Attention: one segment of the cache, all of its keys seen by every row.

constexpr int kHeadDim = 256;

void run_attention(benchmark::State& state, const Table& table, kernels::KvFormat format,
                   int rows) {
  constexpr std::size_t kCached = std::size_t{kernels::kSegment} * kHeadDim;
  // Pages of one KV head, as they come; keys and values are random alike.
  static const std::vector<std::uint16_t> cache = random_bf16(2 * kCached);
  static const std::vector<std::int32_t> pages = [] {
    std::vector<std::int32_t> all(kernels::kSegment / kernels::kPagePositions);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }();
  const std::size_t head_bytes = kernels::kv_head_bytes(format, kHeadDim);
  const auto count = static_cast<std::size_t>(rows);
  const std::vector<float> queries = random_floats(count * kHeadDim, 1.0F / 16);
  const std::vector<std::int64_t> first(count, 0), last(count, kernels::kSegment - 1);
  std::vector<float> scores(count * kernels::kSegment), output(count * kHeadDim), sum(count),
      maximum(count);
  const kernels::AttentionArgs args{
      .queries = queries.data(),
      .rows = rows,
      .head_dim = kHeadDim,
      .format = format,
      .cache = {reinterpret_cast<const std::byte*>(cache.data()), head_bytes, pages.data(), 0},
      .first_key = 0,
      .last_key = kernels::kSegment - 1,
      .row_first = first.data(),
      .row_last = last.data(),
      .scores = scores.data(),
      .part = {output.data(), maximum.data(), sum.data()}};
  const Work work =
      float_work(table, static_cast<double>(head_bytes * pages.size()), 4.0 * kCached * rows);
  measure(state, work, [&] { table.kernels->attention(args); });
}

// Kernels over one vector.

void run_rmsnorm(benchmark::State& state, const Table& table, int n) {
  const auto count = static_cast<std::size_t>(n);
  const std::vector<float> x = random_floats(count), weight = random_floats(count);
  std::vector<float> out(count);
  measure(state, float_work(table, 12.0 * n, 4.0 * n),
          [&] { table.kernels->rmsnorm(x.data(), weight.data(), n, 1e-6F, out.data()); });
}

/// A gate so large that gelu(gate) = gate, times 1: it stays as it is, however often this runs.
void run_gelu_mul(benchmark::State& state, const Table& table, int n) {
  constexpr double kOperations = 28;  // Of one value, the polynomial of exp among them.
  const auto count = static_cast<std::size_t>(n);
  std::vector<float> gate(count);
  for (std::size_t i = 0; i < count; ++i) gate[i] = 8.0F + 0.25F * static_cast<float>(i % 16);
  const std::vector<float> up(count, 1.0F);
  measure(state, float_work(table, 12.0 * n, kOperations * n),
          [&] { table.kernels->gelu_mul(gate.data(), up.data(), n); });
}

/// A comparison, a multiplication and a rounding for each value.
void run_quantize(benchmark::State& state, const Table& table, int n, bool in_16_bits) {
  const Activations a(1, n, in_16_bits);
  const auto kernel = in_16_bits ? table.kernels->quantize16 : table.kernels->quantize;
  measure(state, float_work(table, (in_16_bits ? 6.0 : 5.0) * n, 3.0 * n),
          [&] { kernel(a.values.data(), n, a.quantized, 0); });
}

void add_vectors(const Table& table, const std::string& isa) {
  for (const int n : {kSmallerColumns[0], kSmallerColumns[1], kColumns}) {
    const std::string columns = "/columns:" + std::to_string(n);
    add("rmsnorm/" + isa + columns, [=](benchmark::State& s) { run_rmsnorm(s, table, n); });
    for (const bool in_16_bits : {false, true}) {
      add("quantize/" + isa + (in_16_bits ? "/16bit" : "/8bit") + columns,
          [=](benchmark::State& s) { run_quantize(s, table, n, in_16_bits); });
    }
  }
  for (const int n : kFeedForward) {
    add("gelu_mul/" + isa + "/columns:" + std::to_string(n),
        [=](benchmark::State& s) { run_gelu_mul(s, table, n); });
  }
}

// Block floating point, at the width of the vision encoder.

void run_bfp_matmul(benchmark::State& state, const Table& table, int tokens) {
  constexpr int kWidth = 1152, kBlocks = kWidth / kernels::kBfpBlock, kPanels = 4;
  constexpr std::size_t kPanelValues = std::size_t{kWidth} * kPanelRows;
  std::vector<std::int16_t> panels(kPanels * kPanelValues);
  for (std::size_t i = 0; i < panels.size(); ++i)
    panels[i] = static_cast<std::int16_t>(i * 7919 % (2 * kernels::kBfpLevels + 1) -
                                          std::size_t{kernels::kBfpLevels});
  const std::vector<float> panel_scales(std::size_t{kPanels} * kBlocks * kPanelRows, 0x1p-14F);
  const auto count = static_cast<std::size_t>(tokens);
  const std::vector<float> x = random_floats(count * kWidth);
  std::vector<std::int16_t> values(x.size());
  std::vector<float> scales(count * kBlocks), out(count * kPanels * kPanelRows);
  for (std::size_t t = 0; t < count; ++t)
    table.kernels->bfp_quantize(x.data() + t * kWidth, kWidth, kernels::kBfpBlock,
                                values.data() + t * kWidth, scales.data() + t * kBlocks);
  const kernels::BfpMatmulArgs args{.panels = panels.data(),
                                    .panel_scales = panel_scales.data(),
                                    .panel_count = kPanels,
                                    .columns = kWidth,
                                    .block = kernels::kBfpBlock,
                                    .values = values.data(),
                                    .value_stride = kWidth,
                                    .scales = scales.data(),
                                    .scale_stride = kBlocks,
                                    .tokens = tokens,
                                    .out = out.data(),
                                    .out_stride = std::size_t{kPanels} * kPanelRows,
                                    .accumulate = false};
  const auto bytes = static_cast<double>(panels.size() * sizeof(std::int16_t));
  const Work work = integer_work(table, bytes, 2.0 * kPanels * kPanelValues * tokens);
  measure(state, work, [&] { table.kernels->bfp_matmul(args); });
}

// The screened head.

const Form& form_of(Packing packing) {
  return *std::find_if(forms().begin(), forms().end(),
                       [=](const Form& f) { return f.packing == packing; });
}

/// A ScreenInput of kColumns values with lanes of ordinary size; no bound is checked here.
struct Screen {
  static constexpr std::size_t kBlocks = kColumns / kBlock;
  std::vector<std::int8_t> norms = std::vector<std::int8_t>(kBlocks, kernels::kNormLevels / 2);
  std::vector<float> low = random_floats(kBlocks * 16), high = random_floats(kBlocks * 16),
                     centre = random_floats(kBlocks * 16);
  std::vector<kernels::TwoBitInput> two_bits = std::vector<kernels::TwoBitInput>(kBlocks / 8);
  kernels::ScreenInput view{kBlocks,    norms.data(), 0.125F,        two_bits.data(),
                            low.data(), high.data(),  centre.data(), 0xFF};
};

void run_screen_panel(benchmark::State& state, const Table& table) {
  const Matrix& m = cached_matrix(form_of(Packing::kQ8Split), kColumns);
  const kernels::SplitLayout layout(Packing::kQ8Split, kColumns);
  const Screen x;
  const std::vector<float> estimates = random_floats(kPanelRows);
  std::vector<float> upper(kPanelRows);
  const auto bytes = static_cast<double>(layout.top_bytes() - layout.bounds());
  const Work work =
      integer_work(table, bytes * m.panel_count, 2.0 * layout.blocks * kPanelRows * m.panel_count);
  measure(state, work, [&] {
    for (std::size_t p = 0; p < static_cast<std::size_t>(m.panel_count); ++p)
      table.kernels->screen_panel(m.panels + p * m.panel_bytes + layout.bounds(), x.view,
                                  estimates.data(), upper.data());
  });
}

void run_screen_row(benchmark::State& state, const Table& table, Packing packing) {
  const Matrix& m = cached_matrix(form_of(packing), kColumns);
  const auto screen_row =
      packing == Packing::kQ6Split ? table.kernels->screen_two_bit_row : table.kernels->screen_row;
  const Screen x;
  const Work work =
      float_work(table, static_cast<double>(m.low_bytes), 2.0 * kColumns * kPanelRows);
  float sum = 0;
  measure(state, work, [&] {
    for (int row = 0; row < kPanelRows; ++row) sum += screen_row(m.low, row, x.view);
    benchmark::DoNotOptimize(sum);
  });
}

void add_table(const Table& table, double reads) {
  const std::string isa = table.kernels->name;
  add_products(table, isa, reads);
  add_smaller_products(table, isa);
  for (const int rows : {1, 4, 64}) {
    add("attention/" + isa + "/rows:" + std::to_string(rows),
        [=](benchmark::State& s) { run_attention(s, table, kernels::KvFormat::kBf16, rows); });
    add("attention/" + isa + "/rows:" + std::to_string(rows) + "/int8",
        [=](benchmark::State& s) { run_attention(s, table, kernels::KvFormat::kInt8, rows); });
  }
  for (const int tokens : kTokens) {
    add("bfp_matmul/" + isa + "/tokens:" + std::to_string(tokens),
        [=](benchmark::State& s) { run_bfp_matmul(s, table, tokens); });
  }
  add_vectors(table, isa);
  add("screen_panel/" + isa, [=](benchmark::State& s) { run_screen_panel(s, table); });
  add("screen_row/" + isa,
      [=](benchmark::State& s) { run_screen_row(s, table, Packing::kQ8Split); });
  add("screen_two_bit_row/" + isa,
      [=](benchmark::State& s) { run_screen_row(s, table, Packing::kQ6Split); });
}

void add_context(const std::string& name, double value) {
  benchmark::AddCustomContext(name, std::to_string(std::llround(value)));
}

/// The peaks of this machine go into the report's context: in operations or bytes a second.
void add_all() {
  const double reads = measure_reads(large_memory());
  add_context("peak_memory", reads);
  add_context("peak_cache", measure_reads(large_memory().first(std::size_t{256} << 10)));
  for (const Kernels* found : kernels::available()) {
    const std::string isa = found->name;
    const Table table{found, measure_peaks(*found)};
    add_context("peak_int8_" + isa, table.peaks.int8);
    add_context("peak_fp32_" + isa, table.peaks.fp32);
    add_table(table, reads);
  }
}

}  // namespace
}  // namespace lapidary

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  lapidary::add_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
