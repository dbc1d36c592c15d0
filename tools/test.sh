#!/usr/bin/env bash
# test.sh [--all]: builds and runs the tests of the GCC Release build. --all adds Clang, ASan and UBSan, a minute of
# fuzzing for each picture format, the aarch64 kernels under qemu-user, clang-format and clang-tidy. A failed step does
# not keep the later ones from running.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

case ${1:-} in
  "" | --all) all=${1:+all} ;;
  *) die "expected --all or nothing, got: $*" ;;
esac

passed=0 failed=0 failures=""
jobs=$(getconf _NPROCESSORS_ONLN)

# step NAME COMMAND…: one thing that passes or fails.
step() {
  local name=$1 start=$SECONDS
  shift
  say "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1)) failures="$failures${failures:+, }$name"
  fi
  say "$name: $((SECONDS - start)) s"
}

# run_ctest FOLDER: counts its tests instead of itself.
run_ctest() {
  local log=$root/$1/ctest.log count bad
  (cd "$root/$1" && ctest --output-on-failure --no-tests=error --parallel "$jobs") 2>&1 | tee "$log" || true
  read -r bad count < <(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\)/\1 \2/p' "$log") \
    || { bad=1 count=1; }
  passed=$((passed + count - bad)) failed=$((failed + bad))
  if [ "$bad" != 0 ]; then failures="$failures${failures:+, }tests in $1"; fi
}

# test_build FOLDER OPTIONS…
test_build() {
  local folder=$1
  step "build of $folder" build_one "$@"
  [ ! -f "$root/$folder/.built" ] || run_ctest "$folder"
}
build_one() {
  rm -f "$root/$1/.built"
  configure "$@" && cmake --build "$root/$1" && touch "$root/$1/.built"
}

sources() {
  (cd "$root" && find include src tools tests \( -name '*.h' -o -name '*.cpp' \) -print0)
}
check_format() {
  (cd "$root" && sources | xargs -0 clang-format --dry-run -Werror)
}
# tidy FOLDER "OPTIONS" FILES…: with the compile commands of a build.
tidy() {
  local folder=$1 options=$2
  shift 2
  # shellcheck disable=SC2086  # Words of a command line.
  (cd "$root" && printf '%s\0' "$@" \
    | xargs -0 -n 1 -P "$jobs" clang-tidy -p "$folder" --quiet $options 2> /dev/null)
}
# Clang before 15 knows the dot product only where the whole file is compiled for it; the other option is GCC's own.
neon_options="--extra-arg=-march=armv8.2-a+dotprod --extra-arg=-Wno-unknown-warning-option"

check_tidy() {
  local file neon=src/kernels/neon.cpp files=()
  while read -r file; do
    [ "$file" = $neon ] || files+=("$file")
  done < <(cd "$root" && find src tools -name '*.cpp')
  tidy build-clang "" "${files[@]}" || return 1
  [ ! -f "$root/build-aarch64/compile_commands.json" ] || tidy build-aarch64 "$neon_options" $neon
}

# fuzz_pictures FORMAT: a minute of the fuzzer, beginning with the test pictures of one format. What it stops at is left
# in build-fuzz.
fuzz_pictures() {
  local folder=$root/build-fuzz corpus result=0
  corpus=$(mktemp -d)
  cp "$root"/tests/data/vision/decode/*."$1" "$corpus"
  "$folder/tests/fuzz/image_fuzz" -max_total_time=60 -timeout=60 -rss_limit_mb=4096 -max_len=8192 -verbosity=0 \
    -print_final_stats=1 -artifact_prefix="$folder/$1-" "$corpus" > "$folder/$1.log" 2>&1 || result=1
  if [ $result = 0 ]; then grep number_of_executed_units "$folder/$1.log"; else tail -n 60 "$folder/$1.log"; fi >&2
  rm -rf "$corpus"
  return $result
}
build_fuzzers() {
  configure build-fuzz -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
    -DLAPIDARY_SANITIZE=address,undefined,fuzzer-no-link -DLAPIDARY_OPENMP=OFF -DLAPIDARY_FUZZ=ON \
    && cmake --build "$root/build-fuzz" --target image_fuzz gguf_fuzz
}

install_missing "${all:-test}"
fetch_model
release=(-DCMAKE_BUILD_TYPE=Release -DLAPIDARY_TEST_MODEL="$model")
test_build build "${release[@]}" -DCMAKE_CXX_COMPILER="$compiler" -DLAPIDARY_WERROR=ON -DLAPIDARY_BENCHMARKS=ON

if [ -n "$all" ]; then
  test_build build-clang "${release[@]}" -DCMAKE_CXX_COMPILER=clang++ -DLAPIDARY_WERROR=ON -DLAPIDARY_OPENMP=ON
  # The longest tests of the real model are left to the other builds: under the sanitizers they take ten minutes.
  export GTEST_FILTER='-SessionBits.RealModelPastTheWindow:ScreenedDraw.RealTexts*:Allocation.*RealModel*:Speculation.RealModel*:GenerateGolden.Greedy*'
  test_build build-asan "${release[@]}" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
    -DLAPIDARY_SANITIZE=address,undefined
  unset GTEST_FILTER
  step "build of build-fuzz" build_fuzzers
  if [ -x "$root/build-fuzz/tests/fuzz/image_fuzz" ]; then
    for format in png jpg webp bmp gif; do step "fuzzing $format" fuzz_pictures $format; done
  fi
  if has_command aarch64-linux-gnu-g++ && has_command qemu-aarch64; then
    test_build build-aarch64 -DCMAKE_BUILD_TYPE=Release -DLAPIDARY_KERNELS_ONLY=ON -DLAPIDARY_WERROR=ON \
      -DCMAKE_TOOLCHAIN_FILE="$root/cmake/toolchain-aarch64.cmake"
    # Once more on a CPU without the dot product: what is chosen must run there.
    if [ -f "$root/build-aarch64/.built" ]; then QEMU_CPU=cortex-a72 run_ctest build-aarch64; fi
  else
    say "no aarch64 compiler or qemu-user on this system: the NEON kernels were not tested"
  fi
  step clang-format check_format
  step clang-tidy check_tidy
fi

if [ -n "$failures" ]; then say "failed: $failures"; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
