#!/usr/bin/env bash
# test.sh [--all|--long]: builds and runs the tests of the GCC Release build. --all adds the same with Clang and its
# sanitizers, half a minute of fuzzing for each format of files and each text that others write, the shared library and its users, the aarch64 kernels under
# qemu-user, the documentation of the headers, clang-format and clang-tidy. --long adds to that what takes more time and
# finds less: four times the fuzzing, a build without any optional library, one inside another project, the packages on a fresh Debian 12, and
# strangers' programs with every compiler, standard and sanitizer. A part that fails does not keep the later ones from
# running; one that takes longer than its share of the time is stopped and has failed.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

jobs=$(getconf _NPROCESSORS_ONLN)
release=(-DCMAKE_BUILD_TYPE=Release -DLAPIDARY_TEST_MODEL="${model:-}" -DLAPIDARY_WERROR=ON)
fuzz_seconds=${fuzz_seconds:-30}

# build_FOLDER: the parts that build.
build_gcc() {
  configure build "${release[@]}" -DCMAKE_CXX_COMPILER="$compiler" -DLAPIDARY_BENCHMARKS=ON && cmake --build "$root/build"
}
# One build with Clang for its warnings, its sanitizers, its fuzzers and clang-tidy.
build_sanitized() {
  configure build-asan "${release[@]}" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
    -DLAPIDARY_SANITIZE=address,undefined -DLAPIDARY_FUZZ=ON -DLAPIDARY_FUZZ_SECONDS="$fuzz_seconds" \
    && cmake --build "$root/build-asan"
}
# The library and the command line: the unit tests link object files and would see nothing new.
build_shared() {
  configure build-shared "${release[@]}" -DCMAKE_CXX_COMPILER="$compiler" -DBUILD_SHARED_LIBS=ON \
    && cmake --build "$root/build-shared" --target lapidary_cli lapidary_manual
}
build_minimal() {
  configure build-minimal "${release[@]}" -DCMAKE_CXX_COMPILER="$compiler" -DLAPIDARY_JPEG=OFF -DLAPIDARY_WEBP=OFF -DLAPIDARY_GIF=OFF \
    -DLAPIDARY_HEIF=OFF -DLAPIDARY_TIFF=OFF -DLAPIDARY_EDIT=OFF \
    && cmake --build "$root/build-minimal" --target lapidary_cli lapidary_manual
}
build_aarch64() {
  configure build-aarch64 -DCMAKE_BUILD_TYPE=Release -DLAPIDARY_KERNELS_ONLY=ON -DLAPIDARY_WERROR=ON \
    -DCMAKE_TOOLCHAIN_FILE="$root/cmake/toolchain-aarch64.cmake" && cmake --build "$root/build-aarch64"
}

# run_ctest FOLDER OPTIONS…
run_ctest() {
  local folder=$1
  shift
  (cd "$root/$folder" && ctest --output-on-failure --no-tests=error --parallel "$jobs" "$@")
}
# The longest tests of the real model are left to the other build, and so is what no sanitizer sees into.
run_sanitized() {
  GTEST_FILTER='-SessionBits.RealModelPastTheWindow:ScreenedDraw.RealTexts*:Allocation.*RealModel*:Speculation.RealModel*:GenerateGolden.Greedy*' \
    run_ctest build-asan --exclude-regex '^(layout|examples|get_model|cli_ray_batch)$'
}
run_aarch64_without_dot() { QEMU_CPU=cortex-a72 run_ctest build-aarch64; }

run_shared() { run_ctest build-shared --tests-regex '^(install.*|cli_generate|cli_image)$'; }
run_minimal() {
  run_ctest build-minimal --tests-regex '^(install|install_find|install_plugin|cli_generate|cli_chat_plain)$'
}
# A program of another project that has Lapidary's sources as a folder.
run_subdirectory() {
  local folder=$root/build-subdirectory
  if has_command ccache; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1; fi
  cmake -S "$root/tests/install/subdirectory" -B "$folder" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_CXX_FLAGS=-O2 -DLAPIDARY_FOLDER="$root" && cmake --build "$folder" --target consumer \
    && "$folder/consumer" "$root/tests/data/tiny-gemma3-text-bf16.gguf" Hello
}
# Every way to build the programs of tests/install/programs. ThreadSanitizer must see into the library as well; Clang's
# understands what GCC has compiled for its own.
run_programs() {
  local compiler standard failed=""
  configure build-tsan-library -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=g++ -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
    -DLAPIDARY_SANITIZE=thread -DLAPIDARY_BUILD_TOOLS=OFF -DLAPIDARY_BUILD_TESTS=OFF \
    && cmake --build "$root/build-tsan-library" --target lapidary \
    && cmake --install "$root/build-tsan-library" --prefix "$root/build-tsan-library/prefix" > /dev/null || return 1
  for compiler in g++ clang++; do
    for standard in 20 23; do
      programs build/tests/install/work/prefix $compiler $standard "" || failed=yes
      programs build/tests/install/work/prefix $compiler $standard address,undefined || failed=yes
      programs build-shared/tests/install/work/prefix $compiler $standard "" || failed=yes
      programs build-shared/tests/install/work/prefix $compiler $standard address,undefined || failed=yes
      programs build-tsan-library/prefix $compiler $standard thread || failed=yes
    done
  done
  [ -z "$failed" ]
}
# programs PREFIX COMPILER STANDARD SANITIZERS
programs() {
  local name=${1%%/*}-$2-$3${4:+-${4%%,*}}
  say "$name"
  python3 -B "$root/tests/install/programs_test.py" --prefix "$root/$1" --work "$root/build/programs/$name" \
    --data "$root/tests/data" --cxx "$2" --standard "$3" --sanitize "$4"
}
run_bootstrap() {
  python3 "$root/tests/install/packages_test.py" --bootstrap --build "$root/build" --work "$root/build/bootstrap" \
    --model "$root/tests/data/tiny-gemma3-text-bf16.gguf" --consumer "$root/tests/install/consumer"
}

build_docs() {
  cmake --build "$root/build" --target docs
}
sources() {
  (cd "$root" && find include src tools tests docs \( -name '*.h' -o -name '*.cpp' \) -print0)
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
  tidy build-asan "" "${files[@]}" || return 1
  [ ! -f "$root/build-aarch64/compile_commands.json" ] || tidy build-aarch64 "$neon_options" $neon
}

# The script calls itself for each part, so that one can be stopped with all that it started.
if [ "${1:-}" = --part ]; then
  shift
  "$@"
  exit
fi
case ${1:-} in
  "" | --all | --long) all=${1:-} all=${all#--} ;;
  *) die "expected --all, --long or nothing, got: $*" ;;
esac

passed=0 failed=0 failures="" times=""
limit=()
if has_command timeout; then limit=(timeout --kill-after=30); fi

# part NAME SHARE FUNCTION ARGUMENTS…: one thing that passes or fails within SHARE seconds. Where it runs ctest, its
# tests are counted instead of itself.
part() {
  local name=$1 share=$2 start=$SECONDS result=0 log bad count took
  shift 2
  log=$(mktemp)
  say "$name"
  ${limit[@]+"${limit[@]}" "$share"} bash "$root/tools/test.sh" --part "$@" 2>&1 | tee "$log" || result=$?
  took=$((SECONDS - start))
  times="$times$(printf '%6d s of %4d  %s' "$took" "$share" "$name")"$'\n'
  if read -r bad count < <(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\)/\1 \2/p' "$log"); then
    passed=$((passed + count - bad)) failed=$((failed + bad))
    [ "$bad" = 0 ] || result=1
  elif [ $result = 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
  rm -f "$log"
  [ $result != 124 ] || name="$name (stopped after $share s)"
  [ $result = 0 ] || failures="$failures${failures:+, }$name"
  return $result
}

install_missing "${all:-test}"
fetch_model
export model
[ -z "$all" ] || fetch_ray
[ "$all" != long ] || export fuzz_seconds=120

if part "GCC build" 900 build_gcc; then part "GCC tests" 900 run_ctest build || true; fi
if [ -n "$all" ]; then
  if part "Clang build with sanitizers" 900 build_sanitized; then
    part "tests under the sanitizers, fuzzing" $((1620 + 16 * (fuzz_seconds - 30))) run_sanitized || true
  fi
  if part "shared library" 900 build_shared; then part "users of the shared library" 300 run_shared || true; fi
  if has_command aarch64-linux-gnu-g++ && has_command qemu-aarch64; then
    if part "aarch64 build" 300 build_aarch64; then
      part "aarch64 kernels" 240 run_ctest build-aarch64 || true
      # Once more on a CPU without the dot product: what is chosen must run there.
      part "aarch64 kernels without dot product" 240 run_aarch64_without_dot || true
    fi
  else
    say "no aarch64 compiler or qemu-user on this system: the NEON kernels were not tested"
  fi
  if has_command doxygen; then part "documentation of the headers" 60 build_docs || true; fi
  part clang-format 60 check_format || true
  part clang-tidy 900 check_tidy || true
fi
if [ "$all" = long ]; then
  if part "build without optional libraries" 600 build_minimal; then
    part "tests without them" 300 run_minimal || true
  fi
  part "as a folder of another project" 900 run_subdirectory || true
  part "programs against the package, every way" 2400 run_programs || true
  if has_command debootstrap; then part "packages on a fresh Debian 12" 900 run_bootstrap || true; fi
fi

say "time, of what each part may take"
printf '%s' "$times" >&2
if [ -n "$failures" ]; then say "failed: $failures"; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
