#!/usr/bin/env bash
# Everything that only a GPU can tell, in less than eight minutes on one card:
#
#     bash scripts/check_gpu.sh [FOLDER]                            writes FOLDER/gpu_benchmark.md (default: reports)
#     DEVICE=cpu SCALE=tiny bash scripts/check_gpu.sh /tmp/gpu      the same commands, small, on any machine
#     PARTS="tests scans" bash scripts/check_gpu.sh                 some of the parts
#
# Every part has its own time limit, and one that fails does not stop the others. Exit code 1 when any part failed.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=$(mkdir -p "${1:-reports}" && cd "${1:-reports}" && pwd) || exit 1
device=${DEVICE:-cuda} scale=${SCALE:-full} python=${PYTHON:-python3}
parts=${PARTS:-tests verdicts placement checkpoint scans threads steps sweep}
table=$folder/gpu_benchmark.md log=$folder/check_gpu.log
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
export TOKENIZERS_PARALLELISM=false TRANSFORMERS_VERBOSITY=error HF_DATASETS_DISABLE_PROGRESS_BARS=1
failed=""

# part NAME TITLE SECONDS COMMAND...: its output under its title, in the table and on the screen.
part() {
    local name=$1 title=$2 limit=$3 code began=$SECONDS
    shift 3
    case " $parts " in *" $name "*) ;; *) return ;; esac
    printf '\n## %s\n\n' "$title" | tee -a "$table"
    timeout -k 5 "$limit" "$@" >"$work/out" 2>"$work/err"
    code=$?
    { printf '\n=== %s: %s\n' "$name" "$*"; cat "$work/out" "$work/err"; } >>"$log"
    cat "$work/out" | tee -a "$table"
    if [ $code -ne 0 ]; then
        failed="$failed $name"
        printf '\nThis part ended with code %s' $code | tee -a "$table"
        [ $code -eq 124 ] && printf ' (its limit is %s seconds)' "$limit" | tee -a "$table"
        printf '.\n' | tee -a "$table"
        tail -n 25 "$work/err"
    fi
    printf '\nThis part took %s seconds.\n' $((SECONDS - began)) | tee -a "$table"
}

# A line of figures for the head of the report.
machine() {
    "$python" - "$device" "$scale" <<'PYTHON'
import os, sys
import accelerate, peft, torch, transformers
device, scale = sys.argv[1:]
card = torch.cuda.get_device_name() if device == "cuda" else "no card"
print(f"{card}, {os.cpu_count()} CPU cores, torch {torch.__version__}, transformers {transformers.__version__}, "
      f"peft {peft.__version__}, accelerate {accelerate.__version__}. Scale: {scale}.")
PYTHON
}

sweep() {
    cat >"$work/sweep.yaml" <<'YAML'
title: A small sweep on this device
base: demo-lm
task: python-code
heldout:
  - {task: "wordnet-sample:lm-loss", limit: 60, max_length: 64}
methods:
  - {method: full, learning_rate: 1.0e-3}
  - {method: lora, rank: 8, learning_rate: 3.0e-3}
precision: bfloat16
base_dtype: bfloat16
attention: sdpa
trajectory: 2
steps: 20
batch_size: 16
max_length: 64
train_examples: 200
validation_examples: 10
test_examples: 20
YAML
    "$python" - "$work" <<'PYTHON'
import sys
from pathlib import Path
import spectra
work = Path(sys.argv[1])
spectra.run_sweep(work / "sweep.yaml", work / "run", report=False, on_event=lambda event: print(event, file=sys.stderr))
trials = spectra.Run(work / "run").table("trials")
columns = [name for name in ("label", "status", "count", "validation_score", "tokens_per_second", "peak_memory_bytes", "seconds") if name in trials]
print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
for row in trials[columns].itertuples(index=False):
    print("| " + " | ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row) + " |")
sys.exit(0 if set(trials["status"]) == {"done"} else 1)
PYTHON
}
export -f sweep
export work python

printf '# What a GPU computes, and how fast\n\nWritten by `scripts/check_gpu.sh`.\n\n' >"$table"
: >"$log"
machine | tee -a "$table"
if [ "$scale" = tiny ]; then
    patience=300 fuzz=0.1 largest=80 shapes=300x300 small="--largest 256" reduced="--tiny"
else
    patience=120 fuzz=0.25 largest=400 shapes=2048x2048,4096x4096,11008x4096 small="" reduced=""
fi

part tests "Tests that need a GPU" 150 "$python" -m pytest -m gpu -q -p no:xdist -p no:cacheprovider \
    tests/engine tests/scanning tests/training/test_precision_of_training.py tests/interventions/test_mitigation_plan.py
part verdicts "Verdicts on the device against float64 on the CPU" 60 \
    "$python" scripts/fuzz_engine.py --device "$device" --minutes "$fuzz" --largest "$largest"
part verdicts "The same with every factorisation on the device" 60 \
    "$python" scripts/fuzz_engine.py --device "$device" --minutes "$fuzz" --largest "$largest" --seed 1 --factorise-there
# shellcheck disable=SC2086  # options, not names
part placement "Small dense work on the CPU and on the device" 60 \
    "$python" scripts/bench_placement.py --device "$device" $small
part checkpoint "A layer in the shapes of Llama-2-7B, from its file" 120 \
    "$python" scripts/bench_checkpoint.py --layers 2 --device "$device" $reduced
part scans "Scans against two SVDs by torch on the same device" 150 \
    "$python" scripts/bench_scan.py --device "$device" --shapes "$shapes" --checked 0
part threads "The smallest of these with four threads on the CPU" 60 env OMP_NUM_THREADS=4 \
    "$python" scripts/bench_scan.py --device "$device" --shapes "${shapes%%,*}" --checked 0
part steps "Training steps" 120 "$python" scripts/bench_steps.py --device "$device" $reduced
part sweep "A small sweep" "$patience" bash -c sweep

if [ -n "$failed" ]; then
    printf '\nParts that failed:%s.\n' "$failed" | tee -a "$table"
    exit 1
fi
