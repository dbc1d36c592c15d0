#include "memory_chart.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "text.h"

namespace cli {

namespace {

struct Row {
  int context;
  std::uint64_t kv;
  std::uint64_t kv_global_only;
};

std::vector<Row> rows_of(const lapidary::ModelInfo& info, lapidary::KvType kv, int most) {
  constexpr int kFirst = 1024, kLast = 131072;
  std::vector<int> contexts;
  for (int context = kFirst; context <= std::max(kLast, most) / 2; context *= 2)
    contexts.push_back(context);
  contexts.push_back(std::max(kLast, most));
  std::vector<Row> rows;
  rows.reserve(contexts.size());
  for (const int context : contexts)
    rows.push_back({context, info.kv_bytes(context, false, kv), info.kv_bytes(context, true, kv)});
  return rows;
}

// `bytes` of `most` as a bar of at most 40 signs, behind one of `drawn` signs.
std::string bar(std::uint64_t bytes, std::uint64_t most, const char* sign, int& drawn) {
  constexpr double kWidth = 40;
  const int end = static_cast<int>(
      std::lround(rate(kWidth * static_cast<double>(bytes), static_cast<double>(most))));
  std::string text;
  for (; drawn < end; ++drawn) text += sign;
  return text;
}

}  // namespace

std::string memory_chart(const lapidary::ModelInfo& info, lapidary::KvType kv, int most) {
  const std::vector<Row> rows = rows_of(info, kv, most);
  const std::uint64_t weights = info.weight_bytes;
  const std::uint64_t whole = weights + rows.back().kv_global_only;
  std::string text =
      "  context      weights           KV   all global  # weights  = KV  . all global\n";
  for (const Row& row : rows) {
    int drawn = 0;
    text += format("  %7d %12s %12s %12s  ", row.context, human_bytes(weights).c_str(),
                   human_bytes(row.kv).c_str(), human_bytes(row.kv_global_only).c_str());
    text += bar(weights, whole, "#", drawn);
    text += bar(weights + row.kv, whole, "=", drawn);
    text += bar(weights + row.kv_global_only, whole, ".", drawn) + "\n";
  }
  return text;
}

Json memory_by_context(const lapidary::ModelInfo& info, lapidary::KvType kv, int most) {
  Json list = Json::array();
  for (const Row& row : rows_of(info, kv, most)) {
    list.push_back({{"context", row.context},
                    {"weight_bytes", info.weight_bytes},
                    {"kv_bytes", row.kv},
                    {"kv_bytes_global_only", row.kv_global_only}});
  }
  return list;
}

}  // namespace cli
