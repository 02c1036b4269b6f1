"""Seconds that the trials of a sweep spend in scanning and controls: two versions of spectra side by side in one run.

    git worktree add ../before COMMIT
    python scripts/bench_sweep_scan.py ../before [--width 768] [--trials 12] [-o TABLE.md]

Writes a base of synthetic weights (`synthetic.base`) and LoRA adapters of ranks 1 to 16 on it, and hands them trial by
trial to `scan_trial` of the other version and of this one, which take turns; each has a cache folder of its own, empty
at first. Exit code 1 if a count of a trial, or of one of its controls, differs.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RANKS = (1, 2, 4, 8, 16, 8)
LAYERS = 2
HEADER = "| trial | rank | intruders | before (s) | now (s) |  |\n|---|---|---|---|---|---|"


def shapes(width: int) -> dict[str, tuple[int, int]]:
    """The matrices of one layer of a Llama."""
    attention = {f"self_attn.{name}_proj": (width, width) for name in "qkvo"}
    wide = {"mlp.gate_proj": (4 * width, width), "mlp.up_proj": (4 * width, width), "mlp.down_proj": (width, 4 * width)}
    return attention | wide


def write_checkpoints(folder: Path, width: int, trials: int) -> None:
    """A base and the adapters, as peft saves them."""
    import synthetic
    from safetensors.torch import save_file

    weights, adapters = {}, [dict[str, Any]() for _ in range(trials)]
    for layer in range(LAYERS):
        for place, (name, (d_out, d_in)) in enumerate(shapes(width).items()):
            full, seed = f"model.layers.{layer}.{name}", 100 * layer + place
            weights[f"{full}.weight"] = synthetic.base(d_out, d_in, seed)
            for trial, tensors in enumerate(adapters):
                size = 10.0 + 2.0 * trial
                update = synthetic.low_rank(d_out, d_in, seed + 1000 * (trial + 1), RANKS[trial % len(RANKS)], size)
                tensors[f"base_model.model.{full}.lora_A.weight"] = update.A.contiguous()
                tensors[f"base_model.model.{full}.lora_B.weight"] = update.B.contiguous()
    (folder / "base").mkdir()
    save_file(weights, folder / "base" / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "llama", "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": LAYERS}
    (folder / "base" / "config.json").write_text(json.dumps(config))
    for trial, tensors in enumerate(adapters):
        path = folder / f"trial-{trial}"
        path.mkdir()
        rank = RANKS[trial % len(RANKS)]
        save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})
        settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "base_model_name_or_path": str(folder / "base")}
        settings["target_modules"] = [name.split(".")[-1] for name in shapes(width)]
        (path / "adapter_config.json").write_text(json.dumps(settings))


def work(folder: Path, out: Path) -> None:
    """Scan the trials that stdin names, with the spectra of this process; one JSON line per trial."""
    from spectra.runs.trial import TrialFolder
    from spectra.sweep.spec.read import read_specification
    from spectra.sweep.trial.spectra_rows import scan_trial

    checkpoints = sorted(map(str, folder.glob("trial-*")))
    specification = read_specification({"base": str(folder / "base"), "checkpoints": checkpoints}, ())
    for line in sys.stdin:
        trial = TrialFolder(out / line.strip())
        began = time.perf_counter()
        whole, _ = scan_trial(trial, folder / line.strip(), str(folder / "base"), specification)
        seconds = time.perf_counter() - began
        rows = trial.rows("controls")
        controls = {} if rows is None else rows.groupby("control")["is_intruder"].sum().to_dict()
        found = {"count": whole["count"], "controls": {name: int(count) for name, count in controls.items()}}
        print(json.dumps({"seconds": seconds, "found": found}), flush=True)


def worker(tree: Path, folder: Path, name: str) -> "subprocess.Popen[str]":
    """A process that works with the package of a source tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve()), "SPECTRA_CACHE": str(folder / f"cache-{name}")}
    command = [sys.executable, __file__, "--work", str(folder), str(folder / f"out-{name}")]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def scanned(process: "subprocess.Popen[str]", trial: str) -> dict[str, Any]:
    """One trial by one of the workers."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{trial}\n")
    process.stdin.flush()
    return dict(json.loads(process.stdout.readline()))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="source tree of the other version")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("-o", "--out", type=Path)
    asked = parser.parse_args()
    differing, rows, sums = 0, [], [0.0, 0.0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoints(folder, asked.width, asked.trials)
        now = Path(__file__).resolve().parent.parent
        workers = [worker(tree, folder, label) for tree, label in ((asked.before, "before"), (now, "now"))]
        for trial in range(asked.trials):
            found = [scanned(process, f"trial-{trial}") for process in workers]
            differing += found[0]["found"] != found[1]["found"]
            before, after = (one["seconds"] for one in found)
            sums = [sums[0] + before, sums[1] + after]
            count = found[1]["found"]["count"]
            rows.append(f"| {trial + 1} | {RANKS[trial % len(RANKS)]} | {count} | {before:.2f} | {after:.2f} | ")
            rows[-1] += f"{before / after:.1f}x |"
            print(rows[-1], found, flush=True)
        for process in workers:
            process.communicate()
    per = [total / asked.trials for total in sums]
    rows.append(f"| mean | | | {per[0]:.2f} | {per[1]:.2f} | {per[0] / per[1]:.1f}x |")
    matrices = LAYERS * len(shapes(asked.width))
    text = f"# Scanning and controls of a sweep, per trial\n\n    {shlex.join(['python', *sys.argv])}\n\n"
    text += f"{matrices} matrices of {asked.width} x {asked.width} and {asked.width} x {4 * asked.width}; "
    text += f"{differing} trials differ.\n\n"
    text += "\n".join([HEADER, *rows, ""])
    print(text)
    if asked.out:
        asked.out.write_text(text)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
