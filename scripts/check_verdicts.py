"""Every verdict of a scan against the definition in float64 NumPy: all matrices, all leading vectors, nine epsilons.

    python scripts/check_verdicts.py CKPT... --base BASE [--methods certified,cached-basis] [--side left]

Two full SVDs and all cosines of each matrix, from the definition alone, stand beside the brackets of each method. A
verdict differs when  upper < epsilon  is not  max_i |<u_i, y>| < epsilon;  a bracket misses when the true cosine lies
outside of it by more than 1e-4, the rounding of float32. Prints one JSON line per checkpoint and method; exit code 1 if
anything differs.
"""

import argparse
import json
import sys
from collections import Counter

import numpy as np
import torch

import spectra
from spectra.records import IntruderScan
from spectra.weights import MatrixPair

EPSILONS = tuple(round(0.1 * i, 1) for i in range(1, 10))
ROUNDING = 1e-4


def left_vectors(W: np.ndarray, side: str) -> np.ndarray:
    """All left singular vectors, or all right ones."""
    return np.linalg.svd(W.T if side == "right" else W, full_matrices=False)[0]


def true_cosines(pairs: list[MatrixPair], k: int, side: str, bases: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Definition 3.1 with the absolute cosine, for every matrix; `bases` keeps what is known of each W0."""
    found = {}
    for pair in pairs:
        name = str(pair.name)
        if name not in bases:
            bases[name] = left_vectors(pair.W0.load(dtype=torch.float64, device="cpu").numpy(), side)
        U = left_vectors(pair.W_tuned(torch.float64).numpy(), side)[:, :k]
        found[name] = np.abs(bases[name].T @ U).max(axis=0)
    return found


def compare(scan: IntruderScan, truth: dict[str, np.ndarray]) -> dict[str, object]:
    """What the scan of one checkpoint says against what is true."""
    decided: Counter[str] = Counter()
    differing: list[str] = []
    vectors = flagged = missed = 0
    nearest = 1.0
    for matrix in scan.matrices:
        for vector, true in zip(matrix.vectors, truth[matrix.name].tolist(), strict=True):
            vectors += 1
            decided[vector.decided_by] += 1
            flagged += vector.ill_conditioned
            missed += not vector.lower - ROUNDING <= true <= vector.upper + ROUNDING
            nearest = min(nearest, *(abs(true - epsilon) for epsilon in EPSILONS))
            wrong = [epsilon for epsilon in EPSILONS if (vector.upper < epsilon) != (true < epsilon)]
            differing += [f"{matrix.name} vector {vector.index} at {epsilon}: true {true:.5f}" for epsilon in wrong]
    counts = {"matrices": len(scan.matrices), "vectors": vectors, "verdicts": vectors * len(EPSILONS)}
    facts = {"ill_conditioned": flagged, "outside_bracket": missed, "nearest_to_an_epsilon": nearest}
    return {**counts, **facts, "decided_by": dict(decided), "intruders": scan.count, "differing": differing}


def main() -> None:
    """Check every checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", metavar="CKPT")
    parser.add_argument("--base", required=True)
    parser.add_argument("--methods", default="certified", help="comma-separated")
    parser.add_argument("--side", default="left", choices=("left", "right"))
    parser.add_argument("--k", type=int, default=10)
    asked = parser.parse_args()
    wrong = False
    bases: dict[str, np.ndarray] = {}
    for checkpoint in asked.checkpoints:
        pairs = spectra.open_pair(asked.base, checkpoint).matrices
        truth = true_cosines(list(pairs), asked.k, asked.side, bases)
        for method in asked.methods.split(","):
            scan = spectra.intruders(
                checkpoint, base=asked.base, k=asked.k, epsilons=EPSILONS, method=method, side=asked.side
            )
            found = compare(scan, truth)
            wrong |= bool(found["differing"] or found["outside_bracket"])
            print(json.dumps({"checkpoint": checkpoint, "method": method, "side": asked.side, **found}), flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
