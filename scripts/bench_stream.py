"""Scan 405B-shaped checkpoints that exist nowhere: bytes served, reads of each matrix, peak memory, seconds.

    python scripts/bench_stream.py [--scale 4] [--memory 2GiB] [--roles gate_proj] [--full] [--check]

A server on this machine speaks the hub's API and makes shards from seeds, in a process of its own;
`spectra intruders` scans an adapter (or, with --full, a checkpoint tuned as a whole) of that base. --check scans
the same weights from files as well and holds every verdict against the streamed one. --scale divides both dimensions.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import synthetic
import torch
from safetensors.torch import save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.hub_server import Content, Hub, running  # noqa: E402

# Llama-3.1-405B.
LAYERS = 126
SHAPES = {
    "self_attn.q_proj": (16384, 16384),
    "self_attn.k_proj": (1024, 16384),
    "self_attn.v_proj": (1024, 16384),
    "self_attn.o_proj": (16384, 16384),
    "mlp.gate_proj": (53248, 16384),
    "mlp.up_proj": (53248, 16384),
    "mlp.down_proj": (16384, 53248),
}
TILE_ROWS = 1024
HEAD = 32
BULK = 0.02
RANK = 8


def shape_of(role: str, scale: int) -> tuple[int, int]:
    """Of a scaled-down model."""
    return SHAPES[role][0] // scale, SHAPES[role][1] // scale


@lru_cache(maxsize=3)
def tile(d_in: int) -> Tensor:
    """Independent normal numbers; every block of rows is this tile with its columns in another order."""
    return BULK * torch.randn(TILE_ROWS, d_in, generator=torch.Generator().manual_seed(0))


@lru_cache(maxsize=6)
def head(d_out: int, d_in: int, seed: int) -> tuple[Tensor, Tensor]:
    """The heavy head: 32 singular values falling like i^-1/2, as two factors."""
    generator = torch.Generator().manual_seed(seed)
    U, V = (synthetic.orthonormal(size, HEAD, generator) for size in (d_out, d_in))
    return U * (40.0 / torch.arange(1, HEAD + 1).sqrt()), V.mH.contiguous()


@lru_cache(maxsize=6)
def update(d_out: int, d_in: int, seed: int) -> tuple[Tensor, Tensor]:
    """The factors B and A of what tuning adds."""
    made = synthetic.low_rank(d_out, d_in, seed, RANK)
    return made.B.contiguous(), made.A.contiguous()


@lru_cache(maxsize=4)
def block(shape: tuple[int, int], seed: int, number: int, tuned: bool) -> bytes:
    """One block of rows in bf16."""
    rows = slice(number * TILE_ROWS, min((number + 1) * TILE_ROWS, shape[0]))
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(1000 * seed + number))
    made = tile(shape[1])[: rows.stop - rows.start, order]
    for factors in (head(*shape, seed), *((update(*shape, seed),) if tuned else ())):
        made = torch.addmm(made, factors[0][rows], factors[1])
    return made.to(torch.bfloat16).view(torch.uint8).numpy().tobytes()


def matrix_bytes(shape: tuple[int, int], seed: int, tuned: bool, start: int, stop: int) -> Iterator[bytes]:
    """Bytes of one matrix from one place to another."""
    size = TILE_ROWS * shape[1] * 2
    while start < stop:
        number = start // size
        end = min(stop, (number + 1) * size)
        yield block(shape, seed, number, tuned)[start - number * size : end - number * size]
        start = end


def shard(layer: int, scale: int, tuned: bool) -> Content:
    """The file of one layer, made as it is read."""
    header, places, offset = {}, [], 0
    for number, role in enumerate(SHAPES):
        shape = shape_of(role, scale)
        end = offset + 2 * shape[0] * shape[1]
        header[f"model.layers.{layer}.{role}.weight"] = {
            "dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end],
        }  # fmt: skip
        places.append((offset, end, shape, 10 * layer + number))
        offset = end
    text = json.dumps(header).encode()
    text = len(text).to_bytes(8, "little") + text

    def read(start: int, stop: int) -> bytes:
        parts = [text[start:stop]]
        for first, last, shape, seed in places:
            low, high = max(start - len(text), first), min(stop - len(text), last)
            if low < high:
                parts += matrix_bytes(shape, seed, tuned, low - first, high - first)
        return b"".join(parts)

    return Content(len(text) + offset, read, f"{'tuned' if tuned else 'base'}-{layer}-{scale}")


def model(scale: int, tuned: bool) -> dict[str, Content]:
    """All files of a checkpoint."""
    files = {
        f"model-{layer + 1:05d}-of-{LAYERS:05d}.safetensors": shard(layer, scale, tuned) for layer in range(LAYERS)
    }
    names = {
        f"model.layers.{layer}.{role}.weight": name for layer, name in enumerate(files) for role in SHAPES
    }  # fmt: skip
    index = Content.of(json.dumps({"metadata": {}, "weight_map": names}).encode())
    return {"config.json": Content.of(b'{"model_type": "llama"}'), "model.safetensors.index.json": index, **files}


def serve(scale: int) -> None:
    """Serve until the standard input ends; a line asks for what was served."""
    hub = Hub({"big/base": model(scale, tuned=False), "big/full": model(scale, tuned=True)})
    with running(hub):
        print(hub.url, flush=True)
        for _ in sys.stdin:
            weights = {path: count for path, count in hub.served.items() if path.endswith(".safetensors")}
            print(json.dumps({"served": sum(weights.values()), "requests": len(hub.asked)}), flush=True)
            hub.reset()


def write_adapter(folder: Path, scale: int, roles: Sequence[str], layers: Sequence[int]) -> None:
    """A rank-8 adapter of the selected matrices."""
    lora = {}
    for layer in layers:
        for number, role in enumerate(SHAPES):
            if role.rpartition(".")[2] in roles:
                B, A = update(*shape_of(role, scale), 10 * layer + number)
                lora[f"base_model.model.model.layers.{layer}.{role}.lora_A.weight"] = A
                lora[f"base_model.model.model.layers.{layer}.{role}.lora_B.weight"] = B
    folder.mkdir()
    save_file(lora, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": list(roles)}
    config["base_model_name_or_path"] = "big/base"
    (folder / "adapter_config.json").write_text(json.dumps(config))


def write_files(folder: Path, scale: int, layers: Sequence[int], tuned: bool) -> None:
    """The same weights as files."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    names = {}
    for layer in layers:
        content, name = shard(layer, scale, tuned), f"model-{layer}.safetensors"
        with (folder / name).open("wb") as stream:
            for start in range(0, content.size, 1 << 26):
                stream.write(content.read(start, min(start + (1 << 26), content.size)))
        names.update({f"model.layers.{layer}.{role}.weight": name for role in SHAPES})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def scan(
    checkpoint: str, base: str, asked: argparse.Namespace, environment: dict[str, str]
) -> tuple[dict, float, float]:
    """The JSON of `spectra intruders`, its peak resident GiB and its seconds."""
    command = [sys.executable, "-m", "spectra", "intruders", checkpoint, "--base", base, "--json", "--no-cache", "-q"]
    command += ["--roles", asked.roles, "--layers", asked.layers, "--memory", asked.memory]
    began = time.perf_counter()
    peak = 0.0
    with tempfile.TemporaryFile() as output:
        done = subprocess.Popen(command, stdout=output, env={**os.environ, **environment})
        while done.poll() is None:
            peak = max(peak, resident_peak(done.pid))
            time.sleep(0.05)
        if done.returncode:
            sys.exit(f"spectra intruders ended with status {done.returncode}")
        output.seek(0)
        return json.load(output), peak, time.perf_counter() - began


def resident_peak(pid: int) -> float:
    """The most GiB that a process has held since its program began; what it was forked from does not count."""
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM")), 0) / 2**20


def verdicts(result: dict) -> list[tuple[str, int, bool]]:
    """Every verdict, by matrix and vector."""
    return [(m["name"], v["index"], v["is_intruder"]) for m in result["matrices"] for v in m["vectors"]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve, scan, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--roles", default="q_proj,k_proj,gate_proj,down_proj")
    parser.add_argument("--layers", default="0")
    parser.add_argument("--full", action="store_true", help="a checkpoint tuned as a whole instead of an adapter")
    parser.add_argument("--check", action="store_true", help="scan the same weights from files, too")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.serve:
        serve(asked.scale)
        return
    layers = [int(layer) for layer in asked.layers.split(",")]
    command = [sys.executable, __file__, "--serve", "--scale", str(asked.scale)]
    with (
        tempfile.TemporaryDirectory() as temporary,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdin is not None and server.stdout is not None
        url, folder = server.stdout.readline().strip(), Path(temporary)
        environment = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HOME": temporary}
        tuned = "big/full"
        if not asked.full:
            tuned = str(folder / "adapter")
            write_adapter(folder / "adapter", asked.scale, asked.roles.split(","), layers)
        result, peak, seconds = scan(tuned, "big/base", asked, environment)
        print(file=server.stdin, flush=True)
        served = json.loads(server.stdout.readline())
        print("| matrix | shape | GB in bf16 | reads | intruders | seconds |\n|---|---|---|---|---|---|")
        for matrix in result["matrices"]:
            reads = ", ".join(f"{side} {count:.2f}" for side, count in (matrix["reads"] or {}).items()) or "once"
            d_out, d_in = matrix["shape"]
            print(
                f"| {matrix['name']} | {d_out} x {d_in} | {2e-9 * d_out * d_in:.2f} | {reads} | {matrix['count']} "
                f"| {matrix['seconds']:.0f} |"
            )
        streamed = result["streamed"]
        print(
            f"\nServed {served['served']:,} bytes of shards; the selected tensors have {streamed['planned_bytes']:,}."
        )
        print(f"Counted by the scan: {streamed['read_bytes']:,} in {streamed['requests']} requests.")
        print(f"Peak resident memory {peak:.2f} GiB (--memory {asked.memory}), {seconds:.0f} s with start-up.")
        if asked.check:
            write_files(folder / "base", asked.scale, layers, tuned=False)
            if asked.full:
                write_files(folder / "full", asked.scale, layers, tuned=True)
            local, peak, seconds = scan(
                str(folder / "full") if asked.full else tuned, str(folder / "base"), asked, environment
            )
            found = verdicts(result)
            differing = sum(a != b for a, b in zip(found, verdicts(local), strict=True))
            print(
                f"From files: peak {peak:.2f} GiB, {seconds:.0f} s; verdicts that differ: {differing} of {len(found)}."
            )


if __name__ == "__main__":
    main()
