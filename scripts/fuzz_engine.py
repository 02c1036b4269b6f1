"""Every method of the engine against float64 SVDs, on hard matrices and updates, until the time is up.

    python scripts/fuzz_engine.py --minutes 10 --seed 0
    python scripts/fuzz_engine.py --only SEED          one draw again, in full
    python scripts/fuzz_engine.py --device cuda [--factorise-there]      the engine on a GPU, the truth on the CPU

A difference counts where the truth is firm: where no backward error of a few roundings, and no choice of basis among
equal singular values, could change it. Vectors that the engine marks as ill-conditioned are not counted as differences;
their share stands in the table. Exit code 1 when anything differs.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import hard_matrices

from spectra.engine.bounds import CosineBounds
from spectra.engine.cached_basis import cached_basis
from spectra.engine.certified import certified
from spectra.engine.exact import exact
from spectra.engine.factors import BaseFactors, LeadingFactors, TransposedFactors
from spectra.engine.methods import Method
from spectra.engine.tuned import Tuned, adjoint
from spectra.linalg import placement
from spectra.linalg.operators import Dense, LowRankUpdate
from spectra.linalg.svd import SVD

WAYS: dict[str, Method] = {
    "exact": exact,
    "certified": certified,
    "certified by Krylov spaces": partial(certified, largest_spectrum=0),
    "cached-basis": cached_basis,
    "cached-basis by Krylov spaces": partial(cached_basis, narrow=0),
}
# Backward error granted to both sides of a comparison, in roundings of the largest singular value.
GRANTED = 16.0
# Singular values nearer than this many roundings count as equal, with room for what the engine calls equal.
EQUAL = 96.0
MARGIN = 2e-5


@dataclass
class Memory:
    """A factor store in memory: what one scan learns, the next one starts from."""

    leading: LeadingFactors | None = None
    full: SVD | None = None

    def load_leading(self) -> LeadingFactors | None:
        """The leading factors that were kept."""
        return self.leading

    def save_leading(self, factors: LeadingFactors) -> None:
        """Keep leading factors."""
        self.leading = factors

    def load_full(self) -> SVD | None:
        """The thin SVD that was kept."""
        return self.full

    def save_full(self, svd: SVD) -> None:
        """Keep a thin SVD."""
        self.full = svd

    def has_full(self) -> bool:
        """True when there is one."""
        return self.full is not None


@dataclass(frozen=True)
class Truth:
    """The largest cosines of the leading tuned vectors in float64, and between what they may lie."""

    S: np.ndarray
    least: np.ndarray
    most: np.ndarray
    scale: float


@dataclass
class Draw:
    """One matrix with its updates, and how the engine is asked about them."""

    seed: int
    family: str
    updates: tuple[str, ...]
    W0: torch.Tensor
    tuned: list[Tuned]
    dense: list[np.ndarray]
    way: str
    side: str
    warm: bool
    k: int
    epsilons: list[float]

    def __str__(self) -> str:
        shape = f"{self.W0.shape[0]} x {self.W0.shape[1]}"
        start = "warm" if self.warm else "cold"
        return (
            f"seed {self.seed}: {self.family}, {shape}, {' + '.join(self.updates)}, {self.way}, {start}, {self.side}, "
            f"{str(self.W0.dtype).removeprefix('torch.')}, k {self.k}"
        )


@dataclass
class Tally:
    """What was checked and found, of one family or one way."""

    draws: int = 0
    vectors: int = 0
    marked: int = 0
    found: Counter[str] = field(default_factory=Counter)


def make(seed: int, largest: int) -> Draw:
    """The draw of a seed."""
    draw = np.random.default_rng(seed)
    family = str(draw.choice(hard_matrices.FAMILIES))
    small, large = sorted(int(side) for side in draw.integers(24, largest, 2))
    shape = [(small, small), (small, large), (large, small)][draw.integers(3)]
    dtype = torch.float64 if draw.random() < 0.25 else torch.float32
    storage = torch.bfloat16 if draw.random() < 0.15 else torch.float32
    W0 = torch.from_numpy(hard_matrices.base(family, shape, draw).copy()).to(storage).to(dtype)
    held = W0.double().numpy()
    names, tuned, dense = [], [], []
    for _ in range(int(draw.choice([1, 1, 3]))):
        name = str(draw.choice(hard_matrices.UPDATES))
        B, A = getattr(hard_matrices.Updates(held, draw), name)()
        first = torch.from_numpy(np.ascontiguousarray(B)).to(storage if A is None else torch.float32).to(dtype)
        if A is None:
            each, W = Tuned(W=Dense(first)), first.double().numpy()
        else:
            second = torch.from_numpy(np.ascontiguousarray(A)).to(torch.float32).to(dtype)
            each = Tuned(update=LowRankUpdate(first, second))
            W = held + first.double().numpy() @ second.double().numpy()
        names.append(name)
        tuned.append(each)
        dense.append(W)
    return Draw(
        seed,
        family,
        tuple(names),
        W0,
        tuned,
        dense,
        str(draw.choice(list(WAYS))),
        str(draw.choice(["left", "right"])),
        bool(draw.random() < 0.5),
        int(draw.choice([1, 5, 10])),
        sorted({0.5, *draw.uniform(0.1, 0.95, 3).tolist()}),
    )


def moved(tuned: Tuned, device: str) -> Tuned:
    """The same tuned matrix on a device."""
    if tuned.update is not None:
        return Tuned(update=tuned.update.to(dtype=tuned.update.B.dtype, device=device))
    if tuned.W is None:
        raise ValueError("a Tuned has an update or a matrix")
    return Tuned(W=Dense(tuned.W.dense().to(device)))


def ask(drawn: Draw, device: str = "cpu") -> list[CosineBounds]:
    """What the engine says. A warm start has learned from another update, from both sides."""
    W0 = drawn.W0.to(device)
    base = BaseFactors(Dense(W0), Memory() if drawn.warm else None)
    tuned = [moved(each, device) for each in drawn.tuned]
    epsilons = torch.tensor(drawn.epsilons, dtype=torch.float64)
    if drawn.warm:
        shape, generator = drawn.W0.shape, torch.Generator().manual_seed(drawn.seed)
        B, A = (torch.randn(size, generator=generator).to(W0) for size in ((shape[0], 3), (3, shape[1])))
        size = torch.linalg.matrix_norm(W0) / torch.linalg.matrix_norm(B @ A)
        other = Tuned(update=LowRankUpdate(B, A, 0.3 * float(size)))
        for way in (certified, WAYS[drawn.way]):
            way(base, [other], drawn.k, epsilons)
            way(TransposedFactors(adjoint(base.W0), inner=base), [other.transposed()], drawn.k, epsilons)
        base = BaseFactors(base.W0, base.store)
    if drawn.side == "left":
        return WAYS[drawn.way](base, tuned, drawn.k, epsilons)
    turned = TransposedFactors(adjoint(base.W0), inner=base)
    return WAYS[drawn.way](turned, [each.transposed() for each in tuned], drawn.k, epsilons)


def truth(W0: np.ndarray, W: np.ndarray, k: int, eps: float) -> Truth:
    """The definition in float64, and how far rounding of W0 and W could move it."""
    U0, S0, _ = np.linalg.svd(W0, full_matrices=False)
    U, S, _ = np.linalg.svd(W, full_matrices=False)
    k = min(k, len(S))
    scale = max(float(S0[0]), float(S[0]), 1e-300)
    cosines = U0.T @ U
    apart = S0[:-1] - S0[1:] > EQUAL * eps * S0[0]
    group = np.concatenate([[0], np.cumsum(apart)])
    count = int(group[-1]) + 1
    mass = np.zeros((count, k))
    np.add.at(mass, group, cosines[:, :k] ** 2)
    size = np.bincount(group, minlength=count)[:, None].astype(float)
    if len(U0) > len(S0) and S0[-1] <= EQUAL * eps * S0[0]:
        mass[-1], size[-1] = np.maximum(1 - mass[:-1].sum(axis=0), 0), np.inf
    moved = _moved(cosines, S0, S, k, group, GRANTED * eps * max(float(S0[0]), 1e-300), GRANTED * eps * scale)
    by_group = np.zeros((count, k))
    np.maximum.at(by_group, group, moved)
    width = np.minimum(size, len(S0))
    least = np.max(np.sqrt(mass / size) - by_group, axis=0)
    most = np.max(np.sqrt(mass) + by_group * np.sqrt(width), axis=0)
    neighbours = np.abs(S[:k, None] - S[None, :])
    neighbours[np.arange(k), np.arange(k)] = np.inf
    arbitrary = neighbours.min(axis=1) <= 4 * GRANTED * eps * scale if len(S) > 1 else np.zeros(k, bool)
    if S0[0] == 0:
        arbitrary[:] = True
    least, most = np.where(arbitrary, 0, least), np.where(arbitrary, 1, most)
    return Truth(S[:k], np.clip(least, 0, 1), np.clip(most, 0, 1), scale)


def _moved(
    cosines: np.ndarray, S0: np.ndarray, S: np.ndarray, k: int, group: np.ndarray, base: float, tuned: float
) -> np.ndarray:
    """First-order change of every cosine under backward errors of these sizes."""
    along = cosines[:, :k] ** 2
    turned0 = np.minimum(base / np.maximum(np.abs(S0[:, None] - S0[None, :]), 1e-300), 1)
    turned0[group[:, None] == group[None, :]] = 0
    left_over = np.maximum(1 - along.sum(axis=0), 0)
    by_base = turned0**2 @ along + np.minimum(base / np.maximum(S0, 1e-300), 1)[:, None] ** 2 * left_over
    turned = np.minimum(tuned / np.maximum(np.abs(S[:k, None] - S[None, :]), 1e-300), 1)
    turned[np.arange(k), np.arange(k)] = 0
    outside = np.maximum(1 - (cosines**2).sum(axis=1), 0)[:, None]
    by_tuned = cosines**2 @ (turned**2).T + outside * np.minimum(tuned / np.maximum(S[:k], 1e-300), 1) ** 2
    return np.sqrt(by_base) + np.sqrt(by_tuned)


def problems(found: CosineBounds, true: Truth, epsilons: list[float], eps: float) -> Iterator[str]:
    """What is wrong with the answer for one tuned matrix."""
    if found.S.shape[0] != len(true.S):
        yield "number of vectors"
        return
    S, marked = found.S.double().numpy(), found.ill_conditioned.tolist()
    missed = np.abs(S - true.S) > max(1e-4, 1e3 * eps) * true.scale
    if missed.any():
        yield "leading vector missed"
    for j, (low, high) in enumerate(zip(found.lower.tolist(), found.upper.tolist(), strict=True)):
        if not (np.isfinite(low) and np.isfinite(high)):
            yield "not a number"
        elif low > high:
            yield "empty bracket"
        if marked[j] or missed[: j + 1].any():
            continue
        if low > true.most[j] + MARGIN or high < true.least[j] - MARGIN:
            yield "bracket"
        for epsilon in epsilons:
            firm = true.least[j] >= epsilon + MARGIN or true.most[j] < epsilon - MARGIN
            verdict = found.verdicts(epsilon, "left")[j].is_intruder
            if firm and verdict != (true.most[j] < epsilon):
                yield "verdict"


def check(drawn: Draw, tallies: list[Tally], device: str = "cpu") -> list[str]:
    """Count what is wrong with one draw."""
    eps = float(torch.finfo(drawn.W0.dtype).eps)
    wrong: list[str] = []
    W0 = drawn.W0.double().numpy()
    vectors = marked = 0
    try:
        answers = ask(drawn, device)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        answers, wrong = [], [f"raised {type(error).__name__}"]
    for found, W in zip(answers, drawn.dense[: len(answers)], strict=True):
        sides = (W0, W) if drawn.side == "left" else (W0.T, W.T)
        wrong += problems(found, truth(*sides, drawn.k, eps), drawn.epsilons, eps)
        vectors += found.S.shape[0]
        marked += int(found.ill_conditioned.sum())
    for tally in tallies:
        tally.draws += 1
        tally.vectors += vectors
        tally.marked += marked
        tally.found.update(wrong)
    return wrong


def table(tallies: dict[str, Tally]) -> str:
    """One line per family or way."""
    lines = ["| of | draws | vectors | marked | different |", "|---|---|---|---|---|"]
    for name, tally in tallies.items():
        share = f"{tally.marked / max(tally.vectors, 1):.1%}"
        wrong = ", ".join(f"{count} {what}" for what, count in tally.found.items()) or "0"
        lines.append(f"| {name} | {tally.draws} | {tally.vectors} | {share} | {wrong} |")
    return "\n".join(lines)


def run(seeds: Iterator[int], until: float, largest: int, device: str = "cpu") -> tuple[dict[str, Tally], list[str]]:
    """Draw until the time is up; the tallies and the draws with a difference."""
    tallies: dict[str, Tally] = {}
    different = []
    for seed in seeds:
        if time.monotonic() > until:
            break
        drawn = make(seed, largest)
        names = (drawn.family, drawn.way, *(f"update: {name}" for name in set(drawn.updates)))
        wrong = check(drawn, [tallies.setdefault(name, Tally()) for name in names], device)
        if wrong:
            different.append(f"{drawn}: {', '.join(sorted(set(wrong)))}")
            print(different[-1], flush=True)
    return tallies, different


def main() -> None:
    """Print every difference as it is found, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=260, help="largest side of a matrix")
    parser.add_argument("--only", type=int, help="the seed of one draw to be repeated")
    parser.add_argument("--device", default="cpu", help="of the engine")
    parser.add_argument("--factorise-there", action="store_true", help="small factorisations on the device, too")
    asked = parser.parse_args()
    if asked.factorise_there:
        placement.SVD_ON_CPU = placement.EIGENPROBLEM_ON_CPU = 0
    first = asked.only if asked.only is not None else asked.seed * 10_000_000
    seeds = iter([first]) if asked.only is not None else iter(range(first, first + 10_000_000))
    tallies, different = run(seeds, time.monotonic() + 60 * asked.minutes, asked.largest, asked.device)
    print(table(dict(sorted(tallies.items()))))
    print(f"{len(different)} draws differ. Engine on {asked.device}, truth in float64 on the CPU.")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
