# shellcheck shell=bash
# Sourced by demo.sh and test.sh: installs what is missing, builds, fetches the model. Everything that is there already
# is left alone, so a second run needs no network.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

on_mac() { [ "$(uname -s)" = Darwin ]; }
if on_mac; then
  compiler=${CXX:-c++}
  if command -v brew > /dev/null; then
    CPATH="$(brew --prefix)/include${CPATH:+:$CPATH}"
    LIBRARY_PATH="$(brew --prefix)/lib${LIBRARY_PATH:+:$LIBRARY_PATH}"
    OpenMP_ROOT=$(brew --prefix libomp 2> /dev/null || true)
    export CPATH LIBRARY_PATH OpenMP_ROOT
  fi
else
  compiler=${CXX:-g++}
fi

has_command() { command -v "$1" > /dev/null; }
has_header() { has_command "$compiler" && printf '#include <%s>\n' "$1" | "$compiler" -E -x c++ - > /dev/null 2>&1; }
has_module() { has_command python3 && python3 -c "import $1" > /dev/null 2>&1; }

# needed [test|all|long]: what it takes to build, to run test.sh too, or test.sh --all, or --long. One a line: a check,
# then the package's name for apt, dnf and brew ("-": comes with something else).
needed() {
  cat << 'LIST'
has_command cmake             | cmake                | cmake                | cmake
has_command ninja             | ninja-build          | ninja-build          | ninja
has_command c++               | g++                  | gcc-c++              | -
has_command python3           | python3              | python3              | python
has_module pip                | python3-pip          | python3-pip          | python
has_command pkg-config        | pkg-config           | pkgconf-pkg-config   | pkgconf
has_header sentencepiece_processor.h | libsentencepiece-dev | sentencepiece-devel | sentencepiece
has_header fmt/format.h       | libfmt-dev           | fmt-devel            | fmt
has_header CLI/CLI.hpp        | libcli11-dev         | cli11-devel          | cli11
has_header nlohmann/json.hpp  | nlohmann-json3-dev   | json-devel           | nlohmann-json
has_header editline/readline.h | libedit-dev         | libedit-devel        | libedit
has_header stb/stb_image.h    | libstb-dev           | stb-devel            | -
has_header jpeglib.h          | libjpeg62-turbo-dev  | libjpeg-turbo-devel  | jpeg-turbo
has_header webp/demux.h       | libwebp-dev          | libwebp-devel        | webp
has_header gif_lib.h          | libgif-dev           | giflib-devel         | giflib
has_header libheif/heif.h     | libheif-dev          | libheif-devel        | libheif
has_header tiffio.h           | libtiff-dev          | libtiff-devel        | libtiff
has_header gtest/gtest.h      | libgtest-dev         | gtest-devel          | googletest
LIST
  if on_mac; then
    # shellcheck disable=SC2016  # Expanded by the check.
    echo 'test -d "$OpenMP_ROOT" | - | - | libomp'
  else
    echo 'has_command g++ | g++ | gcc-c++ | -'
  fi
  [ -n "${1:-}" ] || return 0
  echo 'has_header benchmark/benchmark.h | libbenchmark-dev | google-benchmark-devel | google-benchmark'
  echo 'has_command dpkg-shlibdeps | dpkg-dev | - | -'
  [ "$1" != test ] || return 0
  cat << 'LIST'
has_command clang++           | clang                | clang                | llvm
has_command clang-format      | clang-format         | clang-tools-extra    | clang-format
has_command clang-tidy        | clang-tidy           | clang-tools-extra    | llvm
has_clang_openmp              | libomp-dev           | libomp-devel         | libomp
has_clang_fuzzer              | libclang-rt-dev      | compiler-rt          | -
has_command doxygen           | doxygen              | doxygen              | doxygen
has_command qemu-aarch64      | qemu-user            | qemu-user            | -
has_command parallel          | parallel             | parallel             | parallel
has_module ensurepip          | python3-venv         | -                    | -
has_command aarch64-linux-gnu-g++ | g++-aarch64-linux-gnu | gcc-c++-aarch64-linux-gnu | -
test -f /usr/src/googletest/CMakeLists.txt | googletest | - | -
LIST
  [ "$1" = long ] || return 0
  echo 'has_command debootstrap | debootstrap | - | -'
}

has_clang_openmp() {
  has_command clang++ && echo 'int main() {}' | clang++ -fopenmp -x c++ - -o /dev/null > /dev/null 2>&1
}

# The fuzzer and the sanitizers are a package of their own, which Debian's clang only recommends.
has_clang_fuzzer() {
  has_command clang++ && printf '#include <cstddef>\nextern "C" int LLVMFuzzerTestOneInput(const char*, std::size_t) { return 0; }' \
    | clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null > /dev/null 2>&1
}

# missing COLUMN [test|all|long]: the packages to install, without repeats.
missing() {
  local check apt dnf brew name
  needed "${2:-}" | while IFS='|' read -r check apt dnf brew; do
    eval "$check" < /dev/null > /dev/null 2>&1 && continue
    case $1 in apt) name=$apt ;; dnf) name=$dnf ;; *) name=$brew ;; esac
    name=${name// /}
    if [ "$name" != - ]; then echo "$name"; fi
  done | sort -u | tr '\n' ' '
}

# install_missing [test|all|long]
install_missing() {
  local manager packages line sudo=""
  for manager in apt-get dnf brew none; do has_command $manager && break; done
  packages=$(missing "${manager%-get}" "${1:-}")
  [ -n "$packages" ] || return 0
  case $manager in
    apt-get) line="apt-get install -y --no-install-recommends $packages" ;;
    dnf) line="dnf install -y $packages" ;;
    brew) line="brew install $packages" ;;
    none) die "no apt, dnf or brew here; please install by your own means: $packages" ;;
  esac
  if [ "$manager" != brew ] && [ "$(id -u)" != 0 ]; then
    # sudo may ask for a password where somebody can answer.
    if has_command sudo && { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
      sudo=sudo
    else
      die "missing: $packages- as root, run: $line"
    fi
  fi
  say "installing: $packages"
  if [ "$manager" = apt-get ]; then
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -qq >&2 || say "apt-get update failed; trying with the lists that are here"
  fi
  # shellcheck disable=SC2086  # Words of a command line.
  $sudo $line >&2 || die "the package manager failed; the command was: $line"
  hash -r
  packages=$(missing "${manager%-get}" "${1:-}")
  [ -z "$packages" ] || die "still missing after the installation: $packages"
}

# fetch_model: sets $model to the real model's path.
fetch_model() {
  model=$(python3 "$root/tools/get_model.py") || die "the model could not be fetched"
}

# fetch_ray: makes a Python that has Ray where tests/cli/ray_batch_test.py looks for it, once for all checkouts; without
# it that test is skipped.
fetch_ray() {
  local version=2.60.0 folder
  folder=${XDG_CACHE_HOME:-$HOME/.cache}/lapidary/ray-$version
  [ ! -x "$folder/bin/python" ] || return 0
  say "installing Ray $version in $folder"
  mkdir -p "${folder%/*}"
  rm -rf "$folder.part"
  # Moved once it is whole: what is broken off is begun again.
  if python3 -m venv "$folder.part" && "$folder.part/bin/python" -m pip install -q --disable-pip-version-check "ray==$version" >&2 \
    && "$folder.part/bin/python" -c 'import ray'; then
    mv "$folder.part" "$folder"
  else
    rm -rf "$folder.part"
    say "Ray could not be had: its test is skipped"
  fi
}

# configure FOLDER OPTIONS…: keeps the generator of a folder that is configured already.
configure() {
  local folder=$root/$1 generator=(-G Ninja) log
  log=$(mktemp)
  shift
  [ ! -f "$folder/CMakeCache.txt" ] || generator=()
  # A compiler cache, where there is one, then serves every checkout on this machine.
  if has_command ccache; then
    export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
    set -- "$@" -DCMAKE_CXX_COMPILER_LAUNCHER=ccache
  fi
  cmake -S "$root" -B "$folder" ${generator[@]+"${generator[@]}"} -DCMAKE_EXPORT_COMPILE_COMMANDS=ON "$@" > "$log" 2>&1 \
    || { cat "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
}

# configure_release: the one build that demo.sh and test.sh share.
configure_release() {
  configure build -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" -DLAPIDARY_WERROR=ON \
    -DLAPIDARY_TEST_MODEL="$model"
}
