#!/bin/sh
# All GPU benchmarks on a machine that has torch and perhaps nothing else, not even a network:
#
#   [WHEELS=folder] [PYTHON=python3] [OUT=folder] [TOKENS=folder] benchmarks/gpu.sh [--toy | --sizes 124M 1.3B]
#
# TOKENS is what `megatron-nlg prep run configs/corpora/tiny_shakespeare_gpt2.yaml --out TOKENS` has made elsewhere; the
# speed ladder trains on it, and is left out without it.
# WHEELS holds the wheels of requirements/gpu-bench.txt; they are unpacked under build/gpu-packages, beside the machine's
# own packages and not into them. Results go to benchmarks/results, or to OUT. Ends with 0 when all went well.
set -u
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python3}
packages=build/gpu-packages
if [ -n "${WHEELS:-}" ]; then
    rm -rf "$packages"
    "$PYTHON" -m pip install --disable-pip-version-check --quiet --no-index --no-deps --target "$packages" \
        "$WHEELS"/*.whl || exit 1
fi
PYTHONPATH="$PWD:$PWD/$packages${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
"$PYTHON" -c 'import sys, torch; print("Python", sys.version.split()[0], "torch", torch.__version__, torch.cuda.device_count(), "GPUs")' || exit 1
toy= train_out= equality_out= ladder_out= code=0
[ "${1:-}" = --toy ] && toy=--toy
if [ -n "${OUT:-}" ]; then
    mkdir -p "$OUT" || exit 1
    train_out="--out=$OUT/train_gpu.json" equality_out="--out=$OUT/equality_gpu.json"
    ladder_out="--result=$OUT/ladder_gpu.json"
fi
# shellcheck disable=SC2086  # empty ones are to vanish
"$PYTHON" -m benchmarks.equality_gpu $toy ${equality_out:+"$equality_out"} || code=1
"$PYTHON" -m benchmarks.train_gpu "$@" ${train_out:+"$train_out"} || code=1
if [ -n "${TOKENS:-}" ]; then
    # Batches that fill a GPU; the toy takes a model for laptops.
    size="batch.micro=16 batch.global=32"
    [ -n "$toy" ] && size="--smaller --steps 4 --warmup 1 model.num_layers=2 model.sequence_length=32"
    # shellcheck disable=SC2086
    "$PYTHON" -m benchmarks.ladder "data.blend=$TOKENS/blend.yaml" $size ${ladder_out:+"$ladder_out"} || code=1
else
    echo "ladder: left out: TOKENS names no prepared corpus"
fi
exit $code
