"""What an intervention is held against: edits of the same kind and size that leave the intruders alone.

Every control is an edit of W_tuned, like `directions.scaled_directions`, so that the same code applies and measures
all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from spectra.errors import SpectrumError
from spectra.interventions.deltas import EditNorms
from spectra.interventions.directions import frobenius, triplets_of
from spectra.linalg.operators import LinearOperator, LowRankUpdate
from spectra.records.matrix_scan import MatrixScan
from spectra.records.verdicts import VectorVerdict


def norm_matched_shrink(update: LowRankUpdate, edit: LowRankUpdate) -> LowRankUpdate:
    """The edit that scales the whole update to the norm which the intervention leaves it.

    edit' = (c - 1) delta_W  with  c = ||delta_W + edit||_F / ||delta_W||_F.

    Args:
        update: delta_W.
        edit: The intervention.

    Returns:
        The edit; c may exceed 1, because an intruder of W0 + delta_W also holds energy of W0.

    Raises:
        SpectrumError: If delta_W is zero.

    Source: the control asked for in the public discussion of arXiv:2410.21228 (shrinking the whole update).
        Difference: the norm is matched matrix by matrix, not once for the model.
    """
    factor = EditNorms.of(update, edit).shrink_factor(1.0)
    return replace(update, scaling=(factor - 1) * update.scaling)


def random_directions(W: LinearOperator, edit: LowRankUpdate, *, seed: int) -> LowRankUpdate:
    """Scale as many random left directions of W_tuned, changing as much energy as the intervention does.

    edit' = sign(lambda - 1) c Q Q^H W,  Q a random orthonormal d_out x n,  c = ||edit||_F / ||Q^H W||_F.

    Args:
        W: W_tuned.
        edit: The intervention: its rank is the number of directions, its norm the energy.
        seed: Of the random directions.

    Returns:
        The edit. A random direction usually holds less energy than an intruder, so c often exceeds 1: the direction
        is then reversed, not only removed.

    Raises:
        SpectrumError: If W holds nothing in the drawn directions.

    Source: as many random directions, the control asked for in the public discussion of arXiv:2410.21228.
        Difference: the energy is matched by a factor on the projection, see `random_projections`.
    """
    projection = random_projections(W, edit.rank, seed=seed)
    size = frobenius(projection)
    if size == 0:
        raise SpectrumError("The tuned matrix is zero in every random direction. Leave this matrix out.")
    factor = frobenius(edit) / size
    return replace(projection, scaling=-factor if edit.scaling < 0 else factor)


def random_projections(W: LinearOperator, n: int, *, seed: int) -> LowRankUpdate:
    """What W reads out into n random directions:  Q Q^H W,  Q a random orthonormal d_out x n.

    Added (lambda - 1) times, it does to random left directions what the intervention does to intruders: they keep
    lambda times what W holds in them.

    Args:
        W: W_tuned.
        n: Number of directions.
        seed: Of the draw.

    Returns:
        The projection.

    Source: Q from the QR of a Gaussian matrix: Haar measure (Mezzadri 2007, arXiv:math-ph/0609050).
        Difference: the signs of R are not fixed; Q Q^H does not depend on them.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(W.shape[0], n, generator=generator, dtype=torch.float64)
    Q = torch.linalg.qr(gaussian)[0].to(device=W.device, dtype=W.dtype)
    found = triplets_of(W, Q)
    root = found.S.sqrt()
    return LowRankUpdate(found.U * root, root[:, None] * found.Vh)


def neighbours(verdicts: Sequence[VectorVerdict], chosen: Sequence[int]) -> tuple[int, ...]:
    """For each treated vector the pre-trained one, no intruder, of the most similar singular value.

    Args:
        verdicts: All verdicts of the matrix on one side.
        chosen: Treated positions.

    Returns:
        As many other positions, each used once, for `scaled_directions`.

    Raises:
        SpectrumError: If there are fewer pre-trained vectors than treated ones among the k.

    Source: Shuttleworth et al., arXiv:2410.21228, section 5, the control beside the intervention.
        Difference: the nearest by |sigma_i - sigma_j| among the k scanned, where the paper takes the next in rank.
    """
    free = [verdict for verdict in verdicts if not verdict.is_intruder]
    if len(free) < len(chosen):
        raise SpectrumError(
            f"{len(chosen)} directions need as many pre-trained neighbours, and {len(free)} of the {len(verdicts)} "
            "scanned vectors are no intruders. Scan with a larger k."
        )
    sigma = {verdict.index: verdict.singular_value for verdict in verdicts}
    found: list[int] = []
    for index in chosen:
        nearest = min(free, key=lambda verdict: abs(verdict.singular_value - sigma[index]))
        free.remove(nearest)
        found.append(nearest.index)
    return tuple(found)


def stand_ins(matrices: Sequence[MatrixScan], treated: Sequence[str], *, seed: int) -> Mapping[str, str]:
    """For each treated matrix a random one without intruders, of the same shape where there is one.

    Args:
        matrices: All scanned matrices.
        treated: Names of the treated ones.
        seed: Of the draw.

    Returns:
        Treated name -> name of its stand-in, each used once.

    Raises:
        SpectrumError: If there are fewer matrices without intruders than treated ones.
    """
    shape = {matrix.name: matrix.shape for matrix in matrices}
    free = [matrix.name for matrix in matrices if matrix.count == 0 and matrix.name not in set(treated)]
    if len(free) < len(treated):
        raise SpectrumError(
            f"{len(treated)} treated matrices need as many without intruders, and there are {len(free)}. "
            "Treat fewer matrices, or leave this control out."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = [free[place] for place in torch.randperm(len(free), generator=generator).tolist()]
    found: dict[str, str] = {}
    for name in treated:
        found[name] = next((other for other in drawn if shape[other] == shape[name]), drawn[0])
        drawn.remove(found[name])
    return found
