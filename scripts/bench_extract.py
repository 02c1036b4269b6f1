"""Time of the leading triplets with their bracket against a full SVD of the same difference, and memory of `extract`.

    python scripts/bench_extract.py                       # 4096 x 4096, rank 64, three spectra, one run
    python scripts/bench_extract.py --memory 2            # two layers in the shapes of a 7B model, from files

Every row holds the error of the factors against the best error of that rank, from the full SVD of the same matrix.
Times are of the wall; the ratio of processor times stands beside theirs, which other work on the machine disturbs less.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file

from spectra.linalg.truncation import fixed_rank, truncated

Result = TypeVar("Result")

# The matrices of one layer of Llama-2-7B.
LAYER = {
    **{f"self_attn.{name}_proj": (4096, 4096) for name in "qkvo"},
    "mlp.gate_proj": (11008, 4096),
    "mlp.up_proj": (11008, 4096),
    "mlp.down_proj": (4096, 11008),
}


def updates(size: int) -> dict[str, torch.Tensor]:
    """Dense updates: a planted head in noise, a decaying spectrum, and noise alone, which has no gap at all."""
    noise = torch.randn(size, size) / size**0.5
    left, right = (torch.linalg.qr(torch.randn(size, 16)).Q for _ in range(2))
    values = torch.arange(1, size // 3 + 1.0) ** -0.5
    decaying = (torch.randn(size, size // 3) * values) @ torch.randn(size // 3, size) / size + 0.002 * noise
    return {
        "16 planted in noise": noise + (left * torch.linspace(40, 6, 16)) @ right.T,
        "decaying": decaying,
        "noise": noise,
    }


def compare(size: int, rank: int, count: int) -> None:
    """One row per spectrum: seconds, ratio, bracket and truth."""
    torch.manual_seed(0)
    print(f"{size} x {size}, rank {rank}, float32, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(
        "| spectrum | bracketed | full SVD | ratio | of processor times | left out | proven least | best by the SVD "
        "| width of the bracket |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    truncated(torch.randn(700, 700), fixed_rank(8))  # the first call loads libraries
    for name, D in list(updates(size).items())[:count]:
        copy = D.clone()
        mine, found = timed(partial(truncated, copy, fixed_rank(rank)))
        full, svd = timed(partial(torch.linalg.svd, D, full_matrices=False))
        S = svd.S.double()
        best, bracket = float(S[rank:].norm()), found.bracket
        print(
            f"| {name} | {mine[0]:.2f} s | {full[0]:.1f} s | {full[0] / mine[0]:.0f} | {full[1] / mine[1]:.0f} "
            f"| {bracket.error:.5g} | {bracket.least:.5g} "
            f"| {best:.5g} | {100 * (bracket.error - bracket.least) / bracket.error:.2g} % |",
            flush=True,
        )


def timed(work: Callable[[], Result]) -> tuple[tuple[float, float], Result]:
    """Seconds of the wall and of the processor, and the result."""
    began, cpu = time.perf_counter(), time.process_time()
    result = work()
    return (time.perf_counter() - began, time.process_time() - cpu), result


def write_pair(folder: Path, layers: int) -> None:
    """A base and a tuned checkpoint in bfloat16."""
    for which in ("base", "tuned"):
        torch.manual_seed(0)
        tensors = {}
        for layer in range(layers):
            for name, shape in LAYER.items():
                W = 0.02 * torch.randn(shape)
                update = torch.randn(shape[0], 32) @ torch.randn(32, shape[1]) / 32**0.5
                tensors[f"model.layers.{layer}.{name}.weight"] = (
                    W + 0.005 * update if which == "tuned" else W
                ).bfloat16()
        (folder / which).mkdir()
        save_file(tensors, folder / which / "model.safetensors", metadata={"format": "pt"})


def memory(layers: int) -> None:
    """Peak memory of `extract` on layers in bfloat16, above what the imports take."""
    from spectra.surgery import extract

    with tempfile.TemporaryDirectory() as folder:
        # Made in a process of its own, whose peak is not this one's.
        maker = multiprocessing.get_context("spawn").Process(target=write_pair, args=(Path(folder), layers))
        maker.start()
        maker.join()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        result = extract(
            Path(folder) / "tuned", base=Path(folder) / "base", out=Path(folder) / "out", rank=64, count=False
        )
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"\n{len(result.matrices)} matrices of {layers} layers at rank 64 in {seconds:.0f} s; {result.sentences()[1]}"
    )
    print(f"Peak memory {peak / 2**20:.2f} GiB; {before / 2**20:.2f} GiB of it are libraries.")
    print(f"The largest matrix takes {11008 * 4096 * 4 / 2**30:.2f} GiB in float32.")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--memory", type=int, help="Memory of so many layers in the shapes of a 7B model instead.")
    parser.add_argument("--spectra", type=int, default=3, help="How many of the three spectra.")
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.memory)
    else:
        compare(arguments.size, arguments.rank, arguments.spectra)


if __name__ == "__main__":
    main()
