#!/usr/bin/env bash
# run.sh FUZZER SECONDS ARTIFACT_PREFIX SEED…: runs a fuzzer that begins with the seed files. What it stops at is left
# under the prefix. A short run draws the same numbers each time, so that two runs of the same code find the same; a
# run of a minute or more draws others, to look further.
set -euo pipefail
fuzzer=$1 seconds=$2 prefix=$3
shift 3
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT
cp -- "$@" "$corpus"
[ "$seconds" -ge 60 ] && seed=0 || seed=1  # 0: a random one.
"$fuzzer" -seed=$seed -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -max_len=8192 -verbosity=0 -print_final_stats=1 \
  -artifact_prefix="$prefix" "$corpus" 2>&1 | tail -n 60
