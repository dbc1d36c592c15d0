#!/usr/bin/env bash
# run.sh FUZZER SECONDS ARTIFACT_PREFIX SEED…: runs a fuzzer that begins with the seed files. What it stops at is left
# under the prefix.
set -euo pipefail
fuzzer=$1 seconds=$2 prefix=$3
shift 3
corpus=$(mktemp -d)
trap 'rm -rf "$corpus"' EXIT
cp -- "$@" "$corpus"
"$fuzzer" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -max_len=8192 -verbosity=0 -print_final_stats=1 \
  -artifact_prefix="$prefix" "$corpus" 2>&1 | tail -n 60
