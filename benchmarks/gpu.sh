#!/usr/bin/env bash
# The figures for a GPU in one call, and the tests that need one; DEVICE=cpu runs a small form on a CPU.
#
#     benchmarks/gpu.sh [OUTPUT]
#
# OUTPUT (outputs/gpu) gets a table and one line of JSON for each figure. Most figures need no data: images and texts are synthetic.
# MNIST and CIFAR-10 are read from DLTRAIN_DATA or data where they are there. benchmarks/gpu_vision.sh has accuracy and time on CIFAR-10.
set -euo pipefail
cd "$(dirname "$0")/.."
output=${1:-outputs/gpu}
python=${PYTHON:-python}
device=${DEVICE:-cuda}
mkdir -p "$output"
"$python" -m benchmarks.gpu --device "$device" --steps "${STEPS:-200}" | tee "$output/figures.txt"
if [ "$device" = cuda ]; then
  "$python" -m pytest -m gpu -q tests/test_gpu.py tests/test_gpu_families.py tests/test_gpu_fast_paths.py 2>&1 | tee "$output/tests.txt" | tail -3
fi
