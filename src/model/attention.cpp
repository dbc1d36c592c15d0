#include "model/attention.h"

#include <algorithm>
#include <limits>

namespace lapidary {

using kernels::AttentionArgs;
using kernels::AttentionPart;
using kernels::kSegment;

namespace {

// From so many segments on, threads share out the keys instead of the rows where there are few
// rows: then each reads a part of the cache instead of all of it.
constexpr int kSharedSegments = 4;

// The run that a task belongs to, when runs follow each other with tasks_of(run) tasks each; `task`
// becomes its number in the run.
template <class TasksOf>
const Run& run_of_task(std::span<const Run> runs, int& task, const TasksOf& tasks_of) {
  std::size_t i = 0;
  for (int tasks = tasks_of(runs[0]); task >= tasks; tasks = tasks_of(runs[i])) {
    task -= tasks;
    ++i;
  }
  return runs[i];
}

}  // namespace

/// Some query heads of one KV head, of some tokens of a run; one row for each token and head.
struct Attention::Queries {
  const Run* run;
  int token;  // Of the forward pass.
  int tokens;
  int kv_head;
  int head;  // Of the group.
  int heads;

  int count() const { return tokens * heads; }
};

/// How the rows of a run become tasks.
struct Attention::Cut {
  int heads, head_parts;  // Query heads of a task, and tasks of a group.
  int tokens, tiles;      // Tokens of a task, and tiles of a run.
};

int Attention::Keys::segments() const {
  return static_cast<int>(last / kSegment - first / kSegment) + 1;
}

Attention::Keys Attention::keys(int layer, const Run& run) const {
  const bool local = c_.local[static_cast<std::size_t>(layer)];
  const std::int64_t first = local ? std::max<std::int64_t>(run.table->windows_begin(),
                                                            run.position - c_.sliding_window + 1)
                                   : 0;
  return {first, s_.last_key[run.begin + run.count - 1]};
}

void Attention::run(Worker& worker, int layer, std::span<const Run> runs) const {
  const int tokens = runs.back().begin + runs.back().count;
  int longest = 0;
  for (const Run& run : runs) longest = std::max(longest, keys(layer, run).segments());
  const bool few = tokens * c_.query_heads <= kAttentionRows;
  const bool long_enough = longest >= kSharedSegments && longest <= s_.part_segments;
  if (worker.count() > 1 && few && long_enough) {
    by_segments(worker, layer, runs);
  } else {
    by_rows(worker, layer, runs);
  }
}

/// Few tokens in all: a group's heads are shared out among the threads.
Attention::Cut Attention::cut(const Run& run, int tokens, int workers) const {
  Cut out{};
  out.heads = tokens * c_.kv_heads >= 2 * workers ? std::min(group_, kAttentionRows)
                                                  : std::max(1, group_ / workers);
  out.head_parts = (group_ + out.heads - 1) / out.heads;
  out.tokens = std::max(1, kAttentionRows / out.heads);
  out.tiles = (run.count + out.tokens - 1) / out.tokens;
  return out;
}

void Attention::by_rows(Worker& worker, int layer, std::span<const Run> runs) const {
  const int tokens = runs.back().begin + runs.back().count;
  const auto tasks_of = [&](const Run& run) {
    const Cut c = cut(run, tokens, worker.count());
    return c.tiles * c_.kv_heads * c.head_parts;
  };
  int total = 0;
  for (const Run& run : runs) total += tasks_of(run);
  const Scratch& scratch = s_.scratch[static_cast<std::size_t>(worker.index())];
  worker.for_each(total, [&](int task) {
    const Run& run = run_of_task(runs, task, tasks_of);
    const Cut c = cut(run, tokens, worker.count());
    // The last tokens see the most keys: they go first, so that no thread is left with a long task
    // at the end.
    const int token = (c.tiles - 1 - task / (c_.kv_heads * c.head_parts)) * c.tokens;
    const int head = task % c.head_parts * c.heads;
    attend(scratch, layer,
           {&run, run.begin + token, std::min(c.tokens, run.count - token),
            task / c.head_parts % c_.kv_heads, head, std::min(c.heads, group_ - head)});
  });
}

void Attention::by_segments(Worker& worker, int layer, std::span<const Run> runs) const {
  const auto tasks_of = [&](const Run& run) { return keys(layer, run).segments() * c_.kv_heads; };
  int total = 0;
  for (const Run& run : runs) total += tasks_of(run);
  const Scratch& scratch = s_.scratch[static_cast<std::size_t>(worker.index())];
  worker.for_each(total, [&](int task) {
    const Run& run = run_of_task(runs, task, tasks_of);
    const int segments = keys(layer, run).segments();
    attend_segment(scratch, layer, {&run, run.begin, run.count, task / segments, 0, group_},
                   task % segments);
  });
  const auto rows_of = [&](const Run& run) { return run.count * c_.query_heads; };
  const int tokens = runs.back().begin + runs.back().count;
  worker.for_each(tokens * c_.query_heads, [&](int row) {
    const int token = row / c_.query_heads, head = row % c_.query_heads;
    merge_segments(scratch, layer, run_of_task(runs, row, rows_of), token, head);
  });
}

void Attention::gather(const Scratch& scratch, int layer, const Queries& queries) const {
  const bool local = c_.local[static_cast<std::size_t>(layer)];
  const std::int64_t window = local ? c_.sliding_window : std::numeric_limits<std::int32_t>::max();
  const std::int64_t begin = local ? queries.run->table->windows_begin() : 0;
  const int head = queries.kv_head * group_ + queries.head;
  for (int t = 0; t < queries.tokens; ++t) {
    std::copy_n(s_.q[queries.token + t] + head * c_.head_dim, queries.heads * c_.head_dim,
                scratch.queries[t * queries.heads]);
    for (int r = t * queries.heads; r < (t + 1) * queries.heads; ++r) {
      scratch.row_last[r] = s_.last_key[queries.token + t];
      scratch.row_first[r] = std::max(begin, s_.position[queries.token + t] - window + 1);
    }
  }
}

AttentionArgs Attention::arguments(const Scratch& scratch, int layer,
                                   const Queries& queries) const {
  return {.queries = scratch.queries.data,
          .rows = queries.count(),
          .head_dim = c_.head_dim,
          .format = queries.run->table->pool().format(),
          .cache = queries.run->table->head(layer, queries.kv_head),
          .first_key = 0,
          .last_key = 0,
          .row_first = scratch.row_first,
          .row_last = scratch.row_last,
          .scores = scratch.scores,
          .part = scratch.part};
}

void Attention::attend(const Scratch& scratch, int layer, const Queries& queries) const {
  gather(scratch, layer, queries);
  AttentionArgs args = arguments(scratch, layer, queries);
  clear(scratch.so_far, queries.count(), c_.head_dim);
  // Neither ever decreases from one token to the next.
  const std::int64_t last = scratch.row_last[queries.count() - 1];
  for (std::int64_t key = scratch.row_first[0]; key <= last; key = args.last_key + 1) {
    args.first_key = key;
    args.last_key = std::min(last, (key / kSegment + 1) * kSegment - 1);
    kernels_.attention(args);
    kernels_.attention_merge(args.part, queries.count(), c_.head_dim, scratch.so_far);
  }
  kernels_.attention_finish(scratch.so_far, queries.count(), c_.head_dim);
  for (int t = 0; t < queries.tokens; ++t) {
    store(row_of(scratch.so_far, static_cast<std::size_t>(t * queries.heads), c_.head_dim),
          queries.token + t, queries.kv_head * group_ + queries.head, queries.heads);
  }
}

/// Where the parts of a KV head of a run begin: [tokens of the run][heads of the group].
std::size_t Attention::part_row(const Run& run, int kv_head) const {
  return static_cast<std::size_t>(run.begin * c_.query_heads + kv_head * run.count * group_);
}

AttentionPart Attention::part(int segment, std::size_t row) const {
  return row_of(s_.parts, static_cast<std::size_t>(segment) * kAttentionRows + row, c_.head_dim);
}

void Attention::attend_segment(const Scratch& scratch, int layer, const Queries& queries,
                               int segment) const {
  gather(scratch, layer, queries);
  AttentionArgs args = arguments(scratch, layer, queries);
  const Keys all = keys(layer, *queries.run);
  const std::int64_t begin = (all.first / kSegment + segment) * kSegment;
  args.first_key = std::max(all.first, begin);
  args.last_key = std::min(all.last, begin + kSegment - 1);
  args.part = part(segment, part_row(*queries.run, queries.kv_head));
  kernels_.attention(args);
}

void Attention::merge_segments(const Scratch& scratch, int layer, const Run& run, int token,
                               int head) const {
  const std::size_t row = part_row(run, head / group_) +
                          static_cast<std::size_t>((token - run.begin) * group_ + head % group_);
  clear(scratch.so_far, 1, c_.head_dim);
  for (int segment = 0; segment < keys(layer, run).segments(); ++segment)
    kernels_.attention_merge(part(segment, row), 1, c_.head_dim, scratch.so_far);
  kernels_.attention_finish(scratch.so_far, 1, c_.head_dim);
  store(scratch.so_far, token, head, 1);
}

/// What `heads` heads of a token got, from query head `head` on, as the next matrix reads it.
void Attention::store(const AttentionPart& part, int token, int head, int heads) const {
  const int column = head * c_.head_dim, count = heads * c_.head_dim;
  std::copy_n(part.output, count, s_.attended.dense[token] + column);
  kernels_.quantize_columns(part.output, column, count, s_.attended.quantized, token);
}

}  // namespace lapidary
