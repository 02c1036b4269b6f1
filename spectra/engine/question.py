"""Which singular vectors of W0 do these columns resemble? A question whose brackets are tightened step by step."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.engine.factors import BaseFactors, LeadingFactors
from spectra.linalg.angles import angle_bounds
from spectra.linalg.brackets import Brackets, brackets_from_known
from spectra.linalg.certificate import Certificate
from spectra.linalg.completeness import Count, complete_pairs
from spectra.linalg.gram_spectrum import GramSpectrum
from spectra.linalg.krylov import BlockLanczos, RitzPairs, random_columns
from spectra.linalg.placement import numbers

# The certificate of a tall matrix speaks of eigenvalues above this fraction of the largest; see `definite`.
RELATIVE_FLOOR = 48 * torch.finfo(torch.float32).eps
# Random columns beside the y_j: they tell whether a leading vector of W0 is missing, and reveal equal singular values
# that the y_j alone would see as one. Fewer are needed where the leading vectors of W0 are known. (At 4096 x 4096
# twelve tell after 4 passes, eight after 5.)
RANDOM_COLUMNS = 12
RANDOM_COLUMNS_BESIDE_KNOWN = 6
# Directions near leading vectors of W0 that a first run on it starts from, too.
NEAR_COLUMNS = 6
# A Ritz vector whose angle bound lies below this is an atom: it stands for one singular vector of W0.
ATOM_ANGLE = 1e-2
# A column known to this sine of its angle is no reason for an open verdict.
FINE_ANGLE = 1e-4


class Question:
    """Which singular vectors of W0 do the columns of U resemble? The brackets while they are tightened."""

    def __init__(
        self,
        base: BaseFactors,
        U: Float[Tensor, "d_out k"],
        error: Float[Tensor, " k"],
        back: Float[Tensor, "d_in k"] | None = None,
    ) -> None:
        """Project to the smaller space of W0, and ask the leading factors that are already known.

        Args:
            base: What is known of W0.
            U: The columns.
            error: Bounds on the sines of their angles to what they stand for.
            back: W0^H @ U, where it is known already.
        """
        self.base, self.error = base, error
        self.right_space = base.W0.shape[0] > base.W0.shape[1]
        self.image = U
        if self.right_space:
            self.image = base.W0.rmatmat(U) if back is None else back
        self.Y = self.image
        self.brackets = Brackets.unknown(U.shape[1])
        self.leak = torch.zeros_like(self.brackets.lower)
        self.run: BlockLanczos | None = None
        self.columns = torch.arange(U.shape[1])
        self.lengths = torch.zeros_like(self.error)
        self.before = self.brackets
        self.floor = 0.0  # what the certificates rest on: no eigenvalue of a tall W0 lies below it
        self.count: Count | None = None  # why no leading vector of W0 is missing, at the last look
        self.placed: Tensor | None = None  # coordinates of the image in a run that was adopted
        self.locked = base.leading
        if self.locked is not None:
            self._deflate(self.locked)

    @property
    def final(self) -> Brackets:
        """The brackets, widened by the error of the columns of U themselves."""
        return self.brackets.widened(self.error)

    def open_columns(self, epsilons: Float[Tensor, " e"]) -> Bool[Tensor, " k"]:
        """True where the final brackets leave a verdict open."""
        return self.final.is_open(epsilons)

    def may_be_decided(self, epsilons: Float[Tensor, " e"]) -> bool:
        """True where a longer run may decide an open column: not where only its own error stands against it."""
        found = Brackets(self.brackets.lower, self.brackets.known, torch.zeros_like(self.brackets.rest))
        hidden = found.widened(self.error).is_open(epsilons) & ~found.is_open(epsilons) & (self.error > FINE_ANGLE)
        return bool((self.open_columns(epsilons) & ~hidden).any())

    def waits_for_columns(self, epsilons: Float[Tensor, " e"]) -> bool:
        """True where verdicts are open and every open one may hang on the error of its column of U."""
        open_columns = self.open_columns(epsilons)
        return bool(open_columns.any()) and bool((self.error[open_columns] > FINE_ANGLE).all())

    def _deflate(self, known: LeadingFactors) -> None:
        along = known.vectors.mH @ self.Y
        lengths = numbers(torch.linalg.vector_norm(self.Y.double(), dim=0))
        scales = known.values.clamp_min(0).sqrt() if self.right_space else torch.ones_like(known.values)
        self.Y = self.Y - known.vectors @ along
        along = numbers(along)
        self.brackets = brackets_from_known(along, lengths, known.sin_angles, scales)
        self.leak = (along.abs() * known.sin_angles[:, None]).sum(dim=0)

    def read(self, spectrum: GramSpectrum) -> None:
        """Take the brackets that all eigenpairs prove."""
        self.brackets = spectrum.brackets(self.image, right_space=self.right_space)

    def withdraw(self) -> None:
        """Take back what rests on the floor, which could not be proven."""
        nothing = torch.full_like(self.brackets.rest, float("inf"))
        self.brackets = Brackets(self.brackets.lower, self.brackets.known, nothing)

    def begin(self, open_columns: Bool[Tensor, " k"], near: Float[Tensor, "d f"], seed: int = 0) -> None:
        """Start the Krylov run from the undecided vectors and a few random ones.

        Args:
            open_columns: The undecided ones.
            near: Directions near leading vectors of W0, for the first look at it: the run settles those vectors
                early, which sharpens the certificate, and they are kept for the next scan.
            seed: Of the random columns.
        """
        self.placed = None
        self.columns = open_columns.nonzero().flatten()
        chosen = self.Y[:, self.columns]
        lengths = torch.linalg.vector_norm(chosen, dim=0)
        self.lengths = numbers(lengths)
        self.before = self.brackets.select(self.columns)
        directions = chosen / lengths.clamp_min(1e-30)
        if self.locked is None:
            start = torch.cat([random_columns(RANDOM_COLUMNS, chosen, seed), directions, near[:, :NEAR_COLUMNS]], dim=1)
            self.run = BlockLanczos(start, random=RANDOM_COLUMNS)
        else:
            # Another seed than that of the run which found the known vectors: they must be independent of it.
            start = torch.cat([random_columns(RANDOM_COLUMNS_BESIDE_KNOWN, chosen, seed + 1), directions], dim=1)
            self.run = BlockLanczos(
                start,
                self.locked.vectors,
                largest=float(self.locked.values[0]),
                deflation=self.locked.residual,
                random=RANDOM_COLUMNS_BESIDE_KNOWN,
            )

    def adopt(self, run: BlockLanczos, coordinates: Float[Tensor, "n k"]) -> None:
        """Go on with a run on W0, nothing deflated, in whose space the columns of U lie.

        Args:
            run: The run.
            coordinates: Of the columns of U, in the basis of the run as far as it went when they were found. (In right
                space their images lie in the space after one step more.)
        """
        self.run, self.placed, self.before = run, coordinates, self.brackets
        self.columns = torch.arange(self.image.shape[1])

    @property
    def is_adopted(self) -> bool:
        """True while the run is one that began before the question."""
        return self.placed is not None

    def tighten(self, pairs: RitzPairs, epsilons: Float[Tensor, " e"], *, over: bool) -> None:
        """Take the brackets that the run proves as it stands; before it is over, those that decide all or none.

        Whether a leading vector of W0 is missing among those that have settled is asked only where the space may
        suffice if none is.
        """
        angles = angle_bounds(pairs, pairs.values.shape[0], self.Y.dtype)
        settled = angles[: _leading(angles <= ATOM_ANGLE)]
        certificate, leak = self._certificate(pairs, epsilons)
        self.count = None
        if not over and certificate.is_hopeless(settled):
            return
        # On a first look little is decided without the vectors that the columns resemble, and the next step will know
        # more.
        waits = (self.locked is None or self.is_adopted) and not over
        least = certificate.needed(settled.shape[0]) if waits else 1
        at_most = settled.shape[0]
        self.count = complete_pairs(pairs, self.Y.dtype, at_least=least, at_most=at_most) if at_most else None
        if self.count is not None:
            settled = angle_bounds(pairs, self.count.number, self.Y.dtype, self.count.limit)
            self._take(certificate, leak, settled[: _leading(settled <= ATOM_ANGLE)], whole=not over)
        elif waits and at_most:
            self.brackets = self.brackets.replaced(self.columns, self.before)
        else:
            self._take(certificate, leak, settled[:0], whole=not over)

    def _certificate(self, pairs: RitzPairs, epsilons: Float[Tensor, " e"]) -> tuple[Certificate, Float[Tensor, " c"]]:
        """The certificate of the space, and what the columns have outside it."""
        coordinates, outside = self._coordinates(pairs)
        if self.right_space:  # Ritz values only grow, and so does the floor
            self.floor = RELATIVE_FLOOR * pairs.largest
        # What lies outside the space, or was left of the known vectors; in right space it counts 1 / sqrt(floor) times.
        leak = outside / (self.floor**0.5 if self.right_space else 1.0)
        certificate = Certificate(
            pairs,
            coordinates,
            self.before,
            epsilons,
            dtype=self.Y.dtype,
            right_space=self.right_space,
            floor=self.floor,
            margin=leak + self.error[self.columns],
        )
        return certificate, leak

    def _take(
        self, certificate: Certificate, leak: Float[Tensor, " c"], atoms: Float[Tensor, " a"], *, whole: bool
    ) -> None:
        """The brackets that follow from the space and its atoms."""
        found = certificate.brackets(atoms, whole=whole)
        beside = ATOM_ANGLE * leak  # a known vector has at most the sine of its angle outside the space
        bounds = (found.lower - beside).clamp_min(0), (found.known + beside).clamp(max=1.0), found.rest + leak
        self.brackets = self.brackets.replaced(self.columns, Brackets(*bounds))

    def _coordinates(self, pairs: RitzPairs) -> tuple[Float[Tensor, "n c"], Float[Tensor, " c"]]:
        """The columns, or their images, in the basis of the run, and the size of what lies outside it."""
        if self.run is None:
            raise ValueError("a question is tightened by its run")
        count = self.columns.shape[0]
        coordinates = pairs.values.new_zeros(pairs.values.shape[0], count)
        if self.placed is None:
            first = RANDOM_COLUMNS if self.locked is None else RANDOM_COLUMNS_BESIDE_KNOWN
            known = self.run.start_coordinates[:, first : first + count].double() * self.lengths
            outside = self.leak[self.columns]
        elif self.right_space:
            along = self.run.basis.mH @ self.image
            outside = numbers(torch.linalg.vector_norm(self.image - self.run.basis @ along, dim=0))
            known = numbers(along)
        else:
            known, outside = self.placed, torch.zeros_like(self.error)
        coordinates[: known.shape[0]] = known
        return coordinates, outside


def _leading(flags: Bool[Tensor, " n"]) -> int:
    """How many flags are set before the first that is not."""
    return int(torch.cumprod(flags.int(), dim=0).sum())
