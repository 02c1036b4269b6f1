"""Write two adapters that have no intruder each, and whose merge has one in every matrix.

    python scripts/plant_pair.py BASE OUT [--share 0.7]

Both add the same random rank-one direction to each matrix, at a share of the size at which it becomes an intruder: a
share below 1 keeps each by itself below that size, and one above 1/2 brings the sum beyond it.
"""

import argparse
from pathlib import Path

import torch

from spectra.linalg.secular import directions_in_basis
from spectra.linalg.svd import thin_svd
from spectra.metrics.thresholds import critical_sizes
from spectra.surgery.lora_folder import ModuleFactors, module_to_adapt, plain_config
from spectra.weights import Origin, base_fingerprint, open_pair, write_adapter


def main() -> None:
    """Plant and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base")
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.7, help="Size as a share of the critical one.")
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--epsilon", type=float, default=0.5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    factors = []
    for matrix in open_pair(arguments.base, arguments.base).matrices:
        named = module_to_adapt(matrix)
        if isinstance(named, str):
            continue
        svd = thin_svd(matrix.W0.load())
        u, v = (torch.nn.functional.normalize(torch.randn(d), dim=0) for d in matrix.shape)
        directions = directions_in_basis(svd, u[:, None], v[None])
        [size] = critical_sizes(svd.S, directions, k=arguments.k, epsilon=arguments.epsilon).tolist()
        factors.append(ModuleFactors(named[0], arguments.share * size * u[:, None], v[None]))
    origin = Origin(arguments.base, base_fingerprint(arguments.base), "scripts/plant_pair.py")
    for name in ("first", "second"):
        tensors = {key: tensor for each in factors for key, tensor in each.tensors().items()}
        config = plain_config(factors, arguments.base, task_type="FEATURE_EXTRACTION")
        write_adapter(arguments.out / name, config, tensors, origin)
    print(f"{len(factors)} matrices, twice: {arguments.out / 'first'}, {arguments.out / 'second'}")


if __name__ == "__main__":
    main()
