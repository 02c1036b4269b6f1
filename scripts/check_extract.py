"""Hold extracted adapters against Eckart and Young, matrix by matrix, with factorisations of their own.

    python scripts/check_extract.py TUNED --base BASE

For several ways to choose ranks the adapter is written, and read again with safetensors alone: what its factors leave
out of W_tuned - W0 is formed in float64, and set against the singular values of that difference. Prints one row per
choice: the worst excess over the least error that any factors of that rank leave, and how many matrices have one of the
two outside what `spectra extract` states. The exit code is 1 where one has.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

import spectra

CHOICES: tuple[Mapping[str, Any], ...] = ({"rank": 8}, {"rank": 64}, {"energy": 0.5}, {"energy": 0.9})
ROUNDING = 1e-5  # of the norm: factors are stored in float32


def factors(adapter: Path) -> dict[str, np.ndarray]:
    """The tensors of an adapter, in float64."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    return {name: tensor.astype(np.float64) for name, tensor in tensors.items()}


def main() -> int:
    """Extract, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuned")
    parser.add_argument("--base", required=True)
    given = parser.parse_args()
    pair = spectra.open_pair(given.base, given.tuned)
    known = {}
    for matrix in pair.matrices:
        D = (matrix.W_tuned().double() - matrix.W0.load().double()).numpy()
        known[str(matrix.name)] = D, np.linalg.svd(D, compute_uv=False)
    print("| ranks by | numbers | ranks | left out | least possible | worst excess | outside | intruders |")
    print("|---|---|---|---|---|---|---|---|")
    outside = 0
    for choice in CHOICES:
        with tempfile.TemporaryDirectory() as folder:
            found = spectra.extract(given.tuned, out=Path(folder) / "adapter", base=given.base, **choice)
            tensors = factors(Path(folder) / "adapter")
        excess, wrong = 0.0, 0
        for one in found.matrices:
            D, S = known[one.name]
            [module] = [key for key in tensors if one.name in key and "lora_A" in key] or [""]
            BA = tensors[module.replace("lora_A", "lora_B")] @ tensors[module] if module else 0.0
            left, least = np.linalg.norm(D - BA), float(np.linalg.norm(S[one.rank :]))
            slack = ROUNDING * np.linalg.norm(D)
            excess = max(excess, float(left / least - 1)) if least > 0 else excess
            wrong += abs(left - one.error) > slack or not one.least_error - slack <= least <= one.error + slack
        outside += wrong
        ranks = [one.rank for one in found.matrices]
        [(rule, value)] = choice.items()
        print(
            f"| {rule} {value:g} | {sum(one.rank * sum(known[one.name][0].shape) for one in found.matrices):,} "
            f"| {min(ranks)} to {max(ranks)} | {found.error / found.norm:.4f} | {found.least_error / found.norm:.4f} "
            f"| {100 * excess:.3f} % | {wrong} of {len(ranks)} | {found.count_before} to {found.count_after} |",
            flush=True,
        )
    return min(outside, 1)


if __name__ == "__main__":
    sys.exit(main())
