#!/usr/bin/env bash
# Fuzz the engine and its parsers, with address and undefined-behaviour sanitizers:
#
#   cpp/testing/fuzz.sh [SECONDS] [TARGET...]      60 seconds each; fuzz_engine fuzz_parse fuzz_guest fuzz_embedded
#                                                  fuzz_translate
#
# Needs clang with its runtime (Debian: clang-14 libclang-rt-14-dev); CXX names another clang++. New inputs stay in
# build/fuzz/corpus/TARGET, findings in build/fuzz/findings. `cpp/testing/fuzz.sh merge` puts the smallest set of inputs
# with the same coverage into cpp/testing/corpus, which the unit tests run.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."

BUILD=build/fuzz
CXX=${CXX:-$(command -v clang++ || command -v clang++-14 || echo clang++)}
ALL="fuzz_engine fuzz_parse fuzz_guest fuzz_embedded fuzz_translate"
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0} # the EAL keeps its memory

build() {
  cmake -S . -B "$BUILD" -G Ninja -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_BUILD_TYPE=Release -DIRONCORE_PYTHON=OFF \
    -DIRONCORE_NATIVE_TESTS=ON -DIRONCORE_SANITIZE=address,undefined,fuzzer-no-link >/dev/null
  cmake --build "$BUILD" --target fuzz_seeds $ALL
}

binary() { find "$BUILD" -type f -name "$1" -perm -u+x | head -n 1; }

fuzz() {
  local target=$1 seconds=$2 corpus=$BUILD/corpus/$1 kept=cpp/testing/corpus/${1#fuzz_} length=1600
  mkdir -p "$corpus" "$BUILD/findings"
  if [ "$target" = fuzz_engine ]; then
    length=4096
    [ -n "$(ls -A "$corpus")" ] || "$(binary fuzz_seeds)" "$corpus" 300
  fi
  [ -d "$kept" ] || kept=
  # shellcheck disable=SC2086 # no directory: no argument
  "$(binary "$target")" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=$length \
    -artifact_prefix="$BUILD/findings/$target-" -print_final_stats=1 "$corpus" $kept
}

merge() {
  local target
  for target in fuzz_engine fuzz_guest; do
    local kept=cpp/testing/corpus/${target#fuzz_} merged=$BUILD/merged
    rm -rf "$merged" && mkdir -p "$merged" "$kept" "$BUILD/corpus/$target"
    "$(binary "$target")" -merge=1 -max_len=600 "$merged" "$kept" "$BUILD/corpus/$target"
    rm -rf "$kept" && mv "$merged" "$kept"
  done
}

build
if [ "${1:-}" = merge ]; then
  merge
else
  seconds=${1:-60}
  shift || true
  for target in ${*:-$ALL}; do
    echo "== $target, $seconds s"
    fuzz "$target" "$seconds"
  done
fi
