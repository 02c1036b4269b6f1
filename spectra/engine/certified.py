"""The definition's verdicts from bounds, with a full factorisation only for what stays undecided.

1. Leading left singular vectors y_j of every tuned matrix by block Lanczos (`linalg.triplets`); of a narrow one from
   all eigenpairs of its Gram matrix (`linalg.gram_spectrum`).
2. For each y_j, from block Lanczos on W0: a lower bound from the leading vectors of W0 that the run (or an earlier
   scan) knows, an upper bound from the certificate (`linalg.certificate`); of a small W0 first both from all eigenpairs
   of its Gram matrix.
3. Where the error of y_j itself may leave an epsilon open: y_j is sought once more, more closely, and asked again.
4. Brackets that still hold an epsilon after the step limit: a full factorisation.

Where nothing is known of W0 and an update has a small rank, steps 1 and 2 share one run (`linalg.joint`). Every pass
over W0 serves all tuned matrices of the call.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import CERTIFICATE, FACTORISED, LEADING, CosineBounds, exact_bounds
from spectra.engine.exact import exact, no_base_vectors
from spectra.engine.factors import BaseFactors
from spectra.engine.learning import learn, learn_from_spectrum, prove_floor
from spectra.engine.question import FINE_ANGLE, RELATIVE_FLOOR, Question
from spectra.engine.tuned import Tuned, leading_vectors_of
from spectra.linalg.brackets import Brackets
from spectra.linalg.completeness import Count
from spectra.linalg.definite import smallest_eigenvalue_exceeds
from spectra.linalg.gram_spectrum import LARGEST_SPECTRUM, NARROW, small_leading_vectors
from spectra.linalg.joint import JointSearch, KnownPairs, change_of, delta_of, fits_jointly
from spectra.linalg.krylov import BlockLanczos, RitzPairs, gram_together
from spectra.linalg.operators import RowChunked
from spectra.linalg.threads import one_thread
from spectra.linalg.triplets import (
    LeadingVectors,
    leading_vectors,
    leading_within,
    search_together,
    update_directions,
)

# A run on W0, its Ritz pairs, and how many of them stand for its leading eigenvalues, where that is known.
Taught = tuple[BlockLanczos, RitzPairs, Count | None]

# Steps after which the brackets are looked at; the last one is the limit ...
CHECKPOINTS = (3, 5, 7, 9, 12, 16, 20, 26, 32)
# ... of a matrix with this many entries after every step from the first one on, since a pass costs more than a look.
EVERY_STEP_ENTRIES = 1 << 22
# Tuned vectors are sought to this sine of their angle, and more closely where that leaves a verdict open.
COARSE_ANGLE = 3e-3
# Leading vectors of W0 that are kept for the next scan, beyond the k that it will look for.
LEARNED_BESIDE = 4
# An adopted run goes on while its space has fewer columns than this; a narrower one takes the vectors that stay open.
LARGEST_ADOPTED = 400
# The leading vectors of a tuned matrix are sought first in the span of this share of the base vectors.
STARTING_SHARE = 4


def certified(
    base: BaseFactors,
    tuned: Sequence[Tuned],
    k: int,
    epsilons: Float[Tensor, " e"],
    *,
    largest_spectrum: int = LARGEST_SPECTRUM,
) -> list[CosineBounds]:
    """Bounds of every tuned matrix that decide every epsilon, as the exact method would.

    Args:
        base: The base matrix and its known factors.
        tuned: The tuned matrices.
        k: Leading vectors of each.
        epsilons: The thresholds to be decided.
        largest_spectrum: Smaller dimension up to which step 2 reads all eigenpairs of the Gram matrix.

    Source: `linalg.certificate`, and `linalg.gram_spectrum` for small matrices.
    Cost: about 7-18 passes over W0 with k + 6 to 3 k columns per tuned matrix, when nothing is cached; for a small
        matrix one symmetric eigenproblem of its smaller size and 3-6 such passes.
    """
    if base.is_zero:
        return [no_base_vectors(base, each, k, "certified") for each in tuned]
    epsilons = epsilons.double()
    small = min(base.W0.shape) <= largest_spectrum and not isinstance(base.W0, RowChunked)
    with one_thread() if small else nullcontext():
        return _certified(base, tuned, k, epsilons, small)


def _certified(
    base: BaseFactors, tuned: Sequence[Tuned], k: int, epsilons: Float[Tensor, " e"], small: bool
) -> list[CosineBounds]:
    looks = _first_looks(base, tuned, k, small)
    _answer(base, looks, epsilons, small)
    sharper = [i for i, look in enumerate(looks) if look.can_be_judged and look.question.waits_for_columns(epsilons)]
    for i in sharper:
        looks[i] = Look(base, _sharper(base, tuned[i], k, looks[i].vectors))
    _answer(base, [looks[i] for i in sharper], epsilons, small)
    return [_result(base, each, k, epsilons, look) for each, look in zip(tuned, looks, strict=True)]


class Look:
    """The leading vectors of one tuned matrix, and the question which vectors of W0 they resemble."""

    def __init__(self, base: BaseFactors, vectors: LeadingVectors, search: JointSearch | None = None) -> None:
        """Ask what is known of W0 already.

        Args:
            base: The base matrix.
            vectors: The leading vectors.
            search: Where they were found, if that was in a Krylov space of W0: the question goes on in it.
        """
        self.vectors, self.question = (
            vectors,
            Question(base, vectors.U, vectors.sin_angles.double(), vectors.back_from(base.W0)),
        )
        if search is not None and search.pairs is not None:
            self.question.adopt(search.run, search.pairs.vectors[:, : vectors.U.shape[1]])

    @property
    def can_be_judged(self) -> bool:
        """False where only a full factorisation can tell what the leading vectors are."""
        return self.vectors.converged and not bool(self.vectors.ill_conditioned.any())


def _answer(base: BaseFactors, looks: Sequence[Look], epsilons: Float[Tensor, " e"], small: bool) -> None:
    """Step 2 of the module's docstring, for all that can be judged."""
    judged = [look for look in looks if look.can_be_judged]
    if small:
        _answer_from_spectrum(base, judged, epsilons)
    _answer_together(base, judged, epsilons)


def _first_looks(base: BaseFactors, tuned: Sequence[Tuned], k: int, small: bool) -> list[Look]:
    """The leading vectors of all tuned matrices, from what is known of W0."""
    if small and (base.leading is None or min(base.W0.shape) <= NARROW):
        return [Look(base, _leading_vectors_of_small(base, each, k)) for each in tuned]
    if searches := _joint_searches(base, tuned, k):
        search_together(base.W0, searches)
        # Where leading vectors of W0 are known, a narrow run for the vectors that stay open costs less than this one.
        return [Look(base, each.result(), each if base.leading is None else None) for each in searches]
    warm = base.leading.vectors if base.leading is not None else None
    found = leading_vectors_of(base.W0, tuned, k, warm=warm, tolerance=COARSE_ANGLE)
    return [Look(base, vectors) for vectors in found]


def _joint_searches(base: BaseFactors, tuned: Sequence[Tuned], k: int) -> list[JointSearch]:
    """One search per tuned matrix in a Krylov space of W0; none where one of them does not fit it."""
    searches = []
    known = None
    if base.leading is not None:
        known = KnownPairs(base.leading.vectors, base.leading.values, base.leading.residual)
    for each in tuned:
        if each.update is None:
            return []
        delta = delta_of(each.update)
        if not fits_jointly(base.W0, delta):
            return []
        searches.append(JointSearch(base.W0, each.update, delta, k, known=known, tolerance=COARSE_ANGLE))
    return searches


def _leading_vectors_of_small(base: BaseFactors, tuned: Tuned, k: int) -> LeadingVectors:
    """Leading vectors of one small tuned matrix; of one that is not narrow sought first near those of W0."""
    W = tuned.operator(base.W0)
    if min(W.shape) <= NARROW:
        return small_leading_vectors(W, k, COARSE_ANGLE)
    spectrum = base.spectrum()
    directions = gram_together(W, [None], [spectrum.vectors[:, : k + 2]])[0]
    if tuned.update is not None:
        directions = torch.cat([directions, update_directions(W, tuned.update, k)], dim=1)
    nearby = spectrum.neighbourhood(directions, spectrum.values.shape[0] // STARTING_SHARE)
    counter = None
    if tuned.update is not None and fits_jointly(base.W0, delta := delta_of(tuned.update)):
        counter = partial(spectrum.counted_with, *change_of(base.W0, delta), delta.S)
    return leading_vectors(W, [None], k, warm=leading_within(W, nearby, k + 2), counter=counter)[0]


def _sharper(base: BaseFactors, tuned: Tuned, k: int, vectors: LeadingVectors) -> LeadingVectors:
    """The same leading vectors once more, as near as the arithmetic brings them."""
    W = tuned.operator(base.W0)
    found = vectors.U if base.W0.shape[0] <= base.W0.shape[1] else W.rmatmat(vectors.U)
    warm = torch.cat([found, vectors.following], dim=1)
    return leading_vectors(W, [None], k, warm=warm, tolerance=FINE_ANGLE / 2, counter=lambda *_: vectors.count)[0]


def _answer_from_spectrum(base: BaseFactors, looks: Sequence[Look], epsilons: Float[Tensor, " e"]) -> None:
    """Ask all eigenpairs of a small W0 what the leading ones leave open."""
    for look in looks:
        if bool(look.question.open_columns(epsilons).any()):
            look.question.read(base.spectrum())
    if base.leading is None and base.is_stored:
        learn_from_spectrum(base)


def _answer_together(base: BaseFactors, looks: Sequence[Look], epsilons: Float[Tensor, " e"]) -> None:
    """Run block Lanczos on W0 for all questions in lockstep until their brackets decide every epsilon."""
    adopted = [look for look in looks if look.question.is_adopted]
    best = _answer_in_adopted(base, [look.question for look in adopted], epsilons)
    active = []
    for look in looks:
        open_columns = look.question.open_columns(epsilons)
        if bool(open_columns.any()) and look.question.may_be_decided(epsilons):
            look.question.begin(open_columns, look.vectors.following)
            active.append(look.question)
    every_step = base.W0.shape[0] * base.W0.shape[1] >= EVERY_STEP_ENTRIES
    for step in range(1, CHECKPOINTS[-1] + 1):
        runs = [question.run for question in active if question.run is not None]
        if not runs:
            break
        for run, product in zip(
            runs, gram_together(base.W0, [None] * len(runs), [r.pending for r in runs]), strict=True
        ):
            run.advance(product)
        look_now = step in CHECKPOINTS or (every_step and step > CHECKPOINTS[0])
        if not (look_now or any(run.exhausted for run in runs)):
            continue
        still_active = []
        for question, run in zip(active, runs, strict=True):
            pairs = run.ritz()
            over = run.exhausted or step == CHECKPOINTS[-1]
            question.tighten(pairs, epsilons, over=over)
            if best is None or pairs.values.shape[0] >= best[1].values.shape[0]:
                best = run, pairs, question.count
            if question.may_be_decided(epsilons) and not over:
                still_active.append(question)
        active = still_active
    if best is not None:
        floor = _proven_floor(base, [look.question for look in looks], epsilons)
        wanted = max(look.vectors.S.shape[0] for look in looks) + LEARNED_BESIDE
        learn(base, *best, wanted=wanted)
        prove_floor(base, floor)


def _answer_in_adopted(
    base: BaseFactors, questions: Sequence[Question], epsilons: Float[Tensor, " e"]
) -> Taught | None:
    """Ask the runs that began before the questions, and carry them on while that may decide something.

    Returns:
        What the largest of the runs teaches of W0.
    """
    best: Taught | None = None
    active = list(questions)
    while active:
        runs = [question.run for question in active if question.run is not None]
        pairs = [run.ritz() for run in runs]
        still_active = []
        for question, run, known in zip(active, runs, pairs, strict=True):
            over = run.exhausted or run.basis.shape[1] >= LARGEST_ADOPTED
            question.tighten(known, epsilons, over=over)
            if best is None or known.values.shape[0] >= best[1].values.shape[0]:
                best = run, known, question.count
            if question.may_be_decided(epsilons) and not over:
                still_active.append(question)
        active = still_active
        runs = [question.run for question in active if question.run is not None]
        products = gram_together(base.W0, [None] * len(runs), [run.pending for run in runs]) if runs else []
        for run, product in zip(runs, products, strict=True):
            run.advance(product)
    return best


def _proven_floor(base: BaseFactors, questions: Sequence[Question], epsilons: Float[Tensor, " e"]) -> float:
    """A tall W0: prove that no eigenvalue lies below the floor that the certificates rest on, or withdraw them.

    Nothing is proven when nothing rests on it, when an earlier scan has proven it, or when some vector stays open:
    W0 is then factorised anyway, and decides for all.

    Returns:
        The largest floor known to be proven, 0 when there is none.
    """
    known = base.leading.floor if base.leading is not None else 0.0
    resting = [q for q in questions if q.right_space and bool(torch.isfinite(q.brackets.rest).any())]
    floor = max((q.floor for q in questions), default=0.0)
    if not resting or known >= floor:
        return known
    open_somewhere = any(bool(q.open_columns(epsilons).any()) for q in questions)
    if not open_somewhere and smallest_eigenvalue_exceeds(base.W0, floor, floor / RELATIVE_FLOOR):
        return floor
    for question in resting:
        question.withdraw()
    return known


def _result(base: BaseFactors, tuned: Tuned, k: int, epsilons: Float[Tensor, " e"], look: Look) -> CosineBounds:
    """The brackets as they stand, or a full factorisation where they leave a verdict open."""
    vectors, question = look.vectors, look.question
    if not look.can_be_judged:
        return exact(base, [tuned], k, epsilons)[0]
    brackets = question.final
    resembles = (brackets.lower >= epsilons.max()) | ~torch.isfinite(brackets.rest)
    decided = [LEADING if known else CERTIFICATE for known in resembles.tolist()]
    open_columns = brackets.is_open(epsilons)
    cosines = None
    if bool(open_columns.any()):
        index = open_columns.nonzero().flatten()
        full = base.full()
        S, ill = vectors.S, vectors.ill_conditioned
        cosines, U, error = full.U.mH @ vectors.U, lambda: vectors.U, question.error
        judged = exact_bounds(full, cosines, S, ill, epsilons, "certified", U, error)
        exactly = Brackets(judged.lower, judged.upper, torch.zeros_like(judged.upper))
        brackets = brackets.replaced(index, exactly.select(index))
        if bool((brackets.is_open(epsilons) | (open_columns & judged.ill_conditioned)).any()):
            return exact(base, [tuned], k, epsilons)[0]
        decided = [FACTORISED if is_open else how for is_open, how in zip(open_columns.tolist(), decided, strict=True)]
    return CosineBounds(
        vectors.S,
        brackets.lower,
        brackets.upper,
        vectors.ill_conditioned,
        tuple(decided),
        "certified",
        lambda: vectors.U,
        cosines,
        question.error,
    )
