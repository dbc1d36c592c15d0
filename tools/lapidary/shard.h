#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "options.h"

namespace cli {

/// A part of the requests of a batch: of every `count` on end, one.
struct Shard {
  std::uint64_t index = 0;  ///< From 0.
  std::uint64_t count = 1;

  /// Whether the request at `place` among all, from 0, is one of its own.
  bool has(std::uint64_t place) const { return place % count == index; }

  /// "03-of-12": as long for all shards, so that names of files sort as the shards do.
  std::string name() const;
};

/// --shard: `text` becomes "I/N", "auto" or "auto/N"; anything else ends the program with 2.
Option add_shard_flag(CLI::App& app, std::string& text);

/// What --shard has said; nothing for an empty text. "auto" is the task of a Slurm array or the pod
/// of an indexed Kubernetes job that this process belongs to. Throws Error(kUsage) where there is
/// none, or where it cannot be told of how many.
std::optional<Shard> find_shard(const std::string& text);

/// The variable of the environment that "auto" would find; empty: none.
std::string shard_variable();

/// `path` with the shard's name in place of "{shard}". Throws Error(kUsage) where it asks for one
/// and there is no shard.
std::string name_shard(std::string path, const std::optional<Shard>& shard);

}  // namespace cli
