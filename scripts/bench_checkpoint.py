"""Scan of a whole checkpoint in the shapes of Llama-2-7B: time per matrix and in total, peak memory.

    python scripts/bench_checkpoint.py --layers 2 [--memory 1GiB] [--device cuda] [--keep FOLDER]
    python scripts/bench_checkpoint.py --layers 1 --metrics intruders,update,alignment,base,nulls

Writes N layers of synthetic bf16 weights (heavy head, bulk, small tail) and a rank-8 adapter, scans them in a process
of its own, and compares with two `torch.linalg.svd` of one matrix of each shape. What is extrapolated is said.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import synthetic
import torch
from bench_worker import synchronise
from safetensors.torch import save_file

import spectra

# A tiny model of the same proportions, to see the script run.
TINY = 16
SHAPES = {
    "self_attn.q_proj": (4096, 4096),
    "self_attn.k_proj": (4096, 4096),
    "self_attn.v_proj": (4096, 4096),
    "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (11008, 4096),
    "mlp.up_proj": (11008, 4096),
    "mlp.down_proj": (4096, 11008),
}
LAYERS_OF_7B = 32


def write(folder: Path, layers: int, seed: int, device: str) -> None:
    """The base, one shard per layer, and the adapter. Layers share their random factors, their rows permuted."""
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir(parents=True)
    adapter.mkdir()
    factors = {shape: synthetic.base(*shape, seed, device).cpu() for shape in set(SHAPES.values())}
    index, lora = {}, {}
    for layer in range(layers):
        shard = {}
        for number, (role, shape) in enumerate(SHAPES.items()):
            generator = torch.Generator().manual_seed(seed + 1000 * layer + number)
            order = torch.randperm(shape[0], generator=generator)
            name = f"model.layers.{layer}.{role}"
            shard[f"{name}.weight"] = factors[shape][order].to(torch.bfloat16)
            update = synthetic.low_rank(*shape, seed + 1000 * layer + number)
            lora[f"base_model.model.{name}.lora_A.weight"] = update.A.contiguous()
            lora[f"base_model.model.{name}.lora_B.weight"] = update.B.contiguous()
        file = f"model-{layer + 1:05d}-of-{layers:05d}.safetensors"
        save_file(shard, base / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(shard, file))
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (base / "config.json").write_text(json.dumps({"model_type": "llama"}))
    save_file(lora, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": str(base),
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config))


def scan(folder: Path, memory: str | None, device: str) -> tuple[float, float, dict[str, object]]:
    """Seconds, peak resident GiB, and the JSON of `spectra intruders` in a process of its own."""
    command = [sys.executable, "-m", "spectra", "intruders", str(folder / "adapter"), "--json", "--no-cache", "--quiet"]
    command += ["--device", device, *(["--memory", memory] if memory else [])]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return time.perf_counter() - began, peak, json.loads(done.stdout)


def processor_seconds(folder: Path, groups: str) -> float:
    """Processor time of `spectra scan --metrics GROUPS` in a process of its own: other work on the machine aside."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "spectra", "scan", str(folder / "adapter"), "--metrics", groups]
    subprocess.run([*command, "--json", "--no-cache", "--quiet"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare_groups(folder: Path, groups: str) -> None:
    """What a spectral scan costs beside the scan for intruders alone."""
    alone, everything = processor_seconds(folder, "intruders"), processor_seconds(folder, groups)
    print("| scan | processor seconds, start-up included | ratio |\n|---|---|---|")
    print(f"| --metrics intruders | {alone:.1f} | 1.0 |")
    print(f"| --metrics {groups} | {everything:.1f} | {everything / alone:.1f} |")


def reading(folder: Path, device: str) -> dict[tuple[int, int], float]:
    """Seconds to bring W0 of each shape from its file (cached by the system) to the device, in float32."""
    found: dict[tuple[int, int], list[float]] = {}
    for pair in spectra.open_pair(folder / "base", folder / "adapter").matrices:
        pair.W0.load(device=device)  # once, so that the file is in memory and the device is ready
        synchronise(device)
        began = time.perf_counter()
        pair.W0.load(device=device)
        synchronise(device)
        found.setdefault(pair.shape, []).append(time.perf_counter() - began)
    return {shape: sum(seconds) / len(seconds) for shape, seconds in found.items()}


def two_svds(shape: tuple[int, int], seed: int, device: str) -> float:
    """Twice the seconds of one `torch.linalg.svd` on the device, the weights there already."""
    W = synthetic.base(*shape, seed, device)
    if W.is_cuda:
        torch.linalg.svd(W[:256, :256])  # loads the libraries
        torch.cuda.synchronize()
    began = time.perf_counter()
    S = torch.linalg.svd(W, full_matrices=False).S
    S.sum().item()  # waits for the device
    return 2 * (time.perf_counter() - began)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write, scan, factorise one matrix of each shape, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--memory", help="budget handed to spectra intruders")
    parser.add_argument("--device", default="cpu", help="of the scan and of the SVDs; the weights stay on disk")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write here instead of a temporary folder, and leave it")
    parser.add_argument("--tiny", action="store_true", help="matrices a sixteenth as large, to see the script run")
    parser.add_argument("--metrics", help="compare a spectral scan of these groups with one for intruders, no more")
    asked = parser.parse_args(arguments)
    if asked.tiny:
        SHAPES.update({role: (shape[0] // TINY, shape[1] // TINY) for role, shape in SHAPES.items()})
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        if not (folder / "base").is_dir():
            write(folder, asked.layers, asked.seed, asked.device)
        if asked.metrics:
            compare_groups(folder, asked.metrics)
            return
        seconds, peak, result = scan(folder, asked.memory, asked.device)
        read = reading(folder, asked.device)
    matrices: list[dict[str, object]] = result["matrices"]  # type: ignore[assignment]
    print("| matrix | measured scans | seconds each | of which reading W0 | two torch.linalg.svd | ratio |")
    print("|---|---|---|---|---|---|")
    total = two_total = 0.0
    for shape in dict.fromkeys(SHAPES.values()):
        mine = [float(m["seconds"]) for m in matrices if tuple(m["shape"]) == shape]  # type: ignore[arg-type]
        two = two_svds(shape, asked.seed, asked.device)
        each = sorted(mine)[len(mine) // 2]  # the first one also loads the libraries of a GPU
        share = f"{read[shape]:.3f} ({read[shape] / each:.0%})"
        per_layer = sum(other == shape for other in SHAPES.values())
        total, two_total = total + per_layer * each, two_total + per_layer * two
        print(f"| {shape[0]} x {shape[1]} | {len(mine)} | {each:.3f} | {share} | {two:.2f} | {two / each:.0f}x |")
    print(f"\nDevice {asked.device}. Measured: {asked.layers} layers, {len(matrices)} matrices")
    print(f"in {seconds:.1f} s with start-up,")
    print(f"peak memory {peak:.2f} GiB.")
    print(f"{result['count']} intruders. Per layer {total:.2f} s against {two_total:.1f} s: {two_total / total:.0f}x.")
    print(
        f"Extrapolated to {LAYERS_OF_7B} layers: {LAYERS_OF_7B * total:.0f} s against {LAYERS_OF_7B * two_total:.0f} s."
    )


if __name__ == "__main__":
    main()
