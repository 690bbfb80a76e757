#!/usr/bin/env bash
# Builds the engine's benchmark and runs it: cycles per packet through one worker, over in-process devices.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
cmake -S . -B build/native -G Ninja -DIRONCORE_PYTHON=OFF -DIRONCORE_NATIVE_TESTS=ON -DCMAKE_BUILD_TYPE=Release >&2
cmake --build build/native --target dataplane_bench >&2
exec build/native/cpp/dataplane_bench --json "$@"
