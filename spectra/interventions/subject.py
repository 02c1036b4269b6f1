"""A tuned checkpoint under intervention: its verdicts, the directions that are treated, and its matrices at hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from spectra.engine.storage import as_operator
from spectra.errors import SpectrumError
from spectra.interventions.deltas import Delta, delta_of, squared_norm
from spectra.interventions.direction_selection import selected_directions
from spectra.interventions.directions import leading_triplets
from spectra.interventions.mitigation_plan import require_same
from spectra.linalg.operators import Dense, LinearOperator, LowRankUpdate, Updated
from spectra.linalg.svd import SVD
from spectra.records.matrix_scan import MatrixScan
from spectra.records.scan import Scan
from spectra.weights import CheckpointPair, MatrixPair


@dataclass(frozen=True, eq=False)
class Subject:
    """A checkpoint and what is treated in it.

    Attributes:
        pair: The checkpoint beside its base.
        scan: The verdicts on its matrices, in the same order.
        select: Which intruders are treated; see `direction_selection.selected_directions`.
        share: For the selection "energy".
        device: torch device of the computation.
    """

    pair: CheckpointPair
    scan: Scan
    select: str
    share: float
    device: str
    _triplets: dict[str, SVD] = field(default_factory=dict, init=False)

    @cached_property
    def chosen(self) -> Mapping[str, tuple[int, ...]]:
        """Positions of the treated vectors, by the name of the matrix; only matrices that have any.

        Raises:
            SpectrumError: If no matrix has an intruder.
        """
        found = {
            spectrum.name: selected_directions(spectrum.side_vectors("left"), self.select, share=self.share)
            for spectrum in self.scan.matrices
        }
        treated = {name: positions for name, positions in found.items() if positions}
        if not treated:
            raise SpectrumError(_nothing_to_treat(self.scan))
        return treated

    @property
    def directions(self) -> int:
        """Number of treated directions."""
        return sum(map(len, self.chosen.values()))

    @cached_property
    def spectra(self) -> Mapping[str, MatrixScan]:
        """The verdicts by name."""
        return {spectrum.name: spectrum for spectrum in self.scan.matrices}

    @cached_property
    def squared_norms(self) -> Mapping[str, float]:
        """||delta_W||_F^2 of every scanned matrix."""
        return {name: squared_norm(self.delta(name)) for name in self.spectra}

    def delta(self, name: str) -> Delta:
        """delta_W of one matrix."""
        return delta_of(self._matrices[name], self.device)

    def tuned(self, name: str) -> LinearOperator:
        """W_tuned of one matrix."""
        W0, update = self._parts(name)
        return W0 if update is None else Updated(W0, update)

    def triplets(self, name: str) -> SVD:
        """The leading k singular triplets of W_tuned of one matrix; those that the scan judged.

        Raises:
            SpectrumError: If a treated vector is another one than the scan's.
        """
        if name not in self._triplets:
            found = leading_triplets(*self._parts(name), self.scan.k)
            chosen = self.chosen.get(name, ())
            require_same(self.spectra[name], [float(found.S[index]) for index in chosen], chosen)
            self._triplets[name] = found
        return self._triplets[name]

    @cached_property
    def _matrices(self) -> Mapping[str, MatrixPair]:
        return {str(matrix.name): matrix for matrix in self.pair.matrices}

    def _parts(self, name: str) -> tuple[LinearOperator, LowRankUpdate | None]:
        """W0 and its update; or W_tuned and None where the update has no factors."""
        matrix = self._matrices[name]
        update = matrix.update(device=self.device)
        if update is None:
            return Dense(matrix.W_tuned(device=self.device)), None
        return as_operator(matrix.W0, dtype=torch.float32, device=self.device), update


def _nothing_to_treat(scan: Scan) -> str:
    """That there is no intruder, how near the nearest vector comes, and what to do."""
    nearest = min(
        ((vector.max_cosine, matrix.name) for matrix in scan.matrices for vector in matrix.side_vectors("left")),
        default=(1.0, "no matrix"),
    )
    return (
        f"'{scan.checkpoint}' has no intruder dimension in {len(scan.matrices)} matrices "
        f"(k = {scan.k}, epsilon = {scan.epsilon:g}), so there is nothing to scale; the vector that resembles W0 least "
        f"reaches |cos| {nearest[0]:.3f} ('{nearest[1]}'). Whatever it forgot, it forgot without intruders; raise "
        "--epsilon above that value to treat the least similar vectors, or k to look further."
    )
