"""All methods give the definition's verdicts: planted truths, every kind of spectrum, every epsilon."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.engine.bounds import CosineBounds
from spectra.engine.cached_basis import cached_basis
from spectra.engine.certified import certified
from spectra.engine.factors import BaseFactors, LeadingFactors, TransposedFactors
from spectra.engine.methods import METHODS, choose
from spectra.engine.tuned import Tuned, adjoint
from spectra.linalg.operators import Dense, LowRankUpdate
from tests import reference
from tests.planted import SPECTRA, base_matrix, random_update, update_with_cosine

# What serves the large matrices must hold on the small ones of these tests, too.
BY_KRYLOV = partial(certified, largest_spectrum=0)
WAYS = {
    **METHODS,
    "certified by Krylov spaces": BY_KRYLOV,
    "cached-basis by Krylov spaces": partial(cached_basis, narrow=0),
}
EPSILONS = torch.arange(1, 10, dtype=torch.float64) / 10
SHAPES = ((144, 144), (240, 144), (144, 240))
K = 6
# float32 matrices against a float64 reference: rounding of W0, of the update, and of the factorisations.
ROUNDING = 2e-3


def assert_the_definition_holds(found: CosineBounds, W0: torch.Tensor, W: torch.Tensor, side: str = "left") -> None:
    true = torch.from_numpy(reference.largest_cosines(W0.numpy(), W.numpy(), K, side))
    firm = ~found.ill_conditioned
    assert bool((found.lower <= true + ROUNDING)[firm].all())
    assert bool((true <= found.upper + ROUNDING)[firm].all())
    for epsilon in EPSILONS.tolist():
        clear = firm & ((true - epsilon).abs() > ROUNDING)
        assert ((found.upper < epsilon) == (true < epsilon))[clear].all()
        assert not bool(
            ((found.lower < epsilon) & (epsilon <= found.upper) & (found.lower != found.upper))[clear].any()
        )


@pytest.mark.parametrize("method", WAYS)
@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(SPECTRA),
    rank=st.sampled_from((1, 4, 12)),
    size=st.sampled_from((0.01, 0.5, 3.0, 10.0, 100.0)),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25)
def test_every_method_gives_the_definitions_verdicts_on_low_rank_updates(
    method: str, shape: tuple[int, int], kind: str, rank: int, size: float, seed: int
) -> None:
    W0, _ = base_matrix(*shape, kind, seed)
    update = random_update(*shape, rank, size, seed + 1)
    [found] = WAYS[method](BaseFactors(Dense(W0)), [Tuned(update=update)], K, EPSILONS)
    assert_the_definition_holds(found, W0, W0 + update.dense())


@pytest.mark.parametrize("method", WAYS)
@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(SPECTRA),
    size=st.sampled_from((0.001, 0.1, 1.0)),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=12)
def test_every_method_gives_the_definitions_verdicts_on_dense_updates(
    method: str, shape: tuple[int, int], kind: str, size: float, seed: int
) -> None:
    W0, _ = base_matrix(*shape, kind, seed)
    W = W0 + size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    [found] = WAYS[method](BaseFactors(Dense(W0)), [Tuned(W=Dense(W))], K, EPSILONS)
    assert_the_definition_holds(found, W0, W)


@pytest.mark.parametrize("method", WAYS)
@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(("head and bulk", "power law", "flat")),
    at=st.integers(0, 120),
    epsilon=st.sampled_from((0.3, 0.5, 0.8)),
    above=st.booleans(),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25)
def test_a_vector_planted_just_beside_epsilon_is_judged_on_the_right_side(
    method: str, shape: tuple[int, int], kind: str, at: int, epsilon: float, above: bool, seed: int
) -> None:
    W0, factors = base_matrix(*shape, kind, seed)
    update = update_with_cosine(factors, epsilon + (0.02 if above else -0.02), at, seed)
    asked = torch.tensor([epsilon], dtype=torch.float64)
    [found] = WAYS[method](BaseFactors(Dense(W0)), [Tuned(update=update)], K, asked)
    true = reference.largest_cosines(W0.numpy(), (W0 + update.dense()).numpy(), K)
    assert bool(found.upper[0] < epsilon) is not above
    assert [bool(high < epsilon) for high in found.upper] == [bool(value < epsilon) for value in true]


@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_right_singular_vectors_are_judged_by_the_same_code(method: str, shape: tuple[int, int]) -> None:
    W0, _ = base_matrix(*shape, "head and bulk", 3)
    tuned = Tuned(update=random_update(*shape, 4, 12.0, 4))
    base = BaseFactors(Dense(W0))
    turned = TransposedFactors(adjoint(base.W0), inner=base)
    [found] = WAYS[method](turned, [tuned.transposed()], K, EPSILONS)
    assert_the_definition_holds(found, W0, tuned.operator(base.W0).dense(), side="right")


@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_many_adapters_in_one_call_get_the_verdicts_of_separate_calls(method: str, shape: tuple[int, int]) -> None:
    W0, _ = base_matrix(*shape, "power law", 5)
    tuned = [Tuned(update=random_update(*shape, 2 + i, 2.0 * 3**i, i)) for i in range(4)]
    tuned.append(Tuned(W=Dense(W0 + 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(9)))))
    base = BaseFactors(Dense(W0))
    for each, found in zip(tuned, WAYS[method](base, tuned, K, EPSILONS), strict=True):
        assert_the_definition_holds(found, W0, each.operator(base.W0).dense())


@pytest.mark.parametrize("method", WAYS)
def test_an_untuned_matrix_has_no_intruders_by_any_method(method: str) -> None:
    W0, _ = base_matrix(160, 160, "head and bulk", 6)
    nothing = Tuned(update=LowRankUpdate(torch.zeros(160, 2), torch.randn(2, 160), 1.0))
    [found] = WAYS[method](BaseFactors(Dense(W0)), [nothing], 10, EPSILONS)
    assert not bool((found.upper < 0.9).any())


def test_what_an_earlier_adapter_taught_is_used_and_changes_no_verdict() -> None:
    W0, _ = base_matrix(300, 300, "head and bulk", 7)
    base = BaseFactors(Dense(W0))
    asked = torch.tensor([0.5], dtype=torch.float64)
    BY_KRYLOV(base, [Tuned(update=random_update(300, 300, 4, 20.0, 1))], K, asked)
    assert base.leading is not None
    assert base.leading.values.shape[0] > 0
    second = Tuned(update=random_update(300, 300, 4, 14.0, 2))
    [found] = BY_KRYLOV(base, [second], K, asked)
    [expected] = METHODS["exact"](base, [second], K, asked)
    assert ((found.upper < 0.5) == (expected.upper < 0.5)).all()
    assert set(found.decided) <= {"leading vector", "certificate"}


def test_a_certificate_decides_planted_intruders_of_a_large_matrix_without_a_factorisation() -> None:
    W0, _ = base_matrix(512, 512, "head and bulk", 8)
    base = BaseFactors(Dense(W0))
    [found] = BY_KRYLOV(
        base, [Tuned(update=random_update(512, 512, 4, 60.0, 3))], 8, torch.tensor([0.5], dtype=torch.float64)
    )
    assert found.decided[:4] == ("certificate",) * 4
    assert "full factorisation" not in found.decided
    assert not base.has_full()


def test_an_epsilon_within_the_error_of_a_tuned_vector_is_decided_by_a_closer_look() -> None:
    W0, _ = base_matrix(400, 400, "head and bulk", 4)
    tuned = Tuned(W=Dense(W0 + 0.05 * torch.randn(400, 400, generator=torch.Generator().manual_seed(1))))
    true = reference.largest_cosines(W0.numpy(), tuned.operator(Dense(W0)).dense().numpy(), K, "left")
    for cosine in true.tolist():
        for epsilon in (cosine - 4e-4, cosine + 4e-4):  # far inside the error that the first look leaves
            base = BaseFactors(Dense(W0))
            if abs(true - epsilon).min() > 2e-4:
                [found] = BY_KRYLOV(base, [tuned], K, torch.tensor([epsilon], dtype=torch.float64))
                assert (found.upper < epsilon).tolist() == (true < epsilon).tolist()
                assert not base.has_full()


class Remembered:
    """A store in memory."""

    leading: LeadingFactors | None = None

    def load_leading(self) -> LeadingFactors | None:
        return self.leading

    def save_leading(self, factors: LeadingFactors) -> None:
        self.leading = factors

    def load_full(self) -> None:
        return None

    def save_full(self, svd: object) -> None:
        raise AssertionError("a certificate needs no full factorisation here")

    def has_full(self) -> bool:
        return False


@pytest.mark.parametrize("shape", [(400, 400), (600, 400), (400, 600)])
def test_a_first_scan_leaves_the_next_one_nothing_to_seek_but_its_own_vectors(shape: tuple[int, int]) -> None:
    W0, _ = base_matrix(*shape, "head and bulk", 4)
    asked, store = torch.tensor([0.5], dtype=torch.float64), Remembered()
    first, second = (
        Tuned(W=Dense(W0 + 0.02 * torch.randn(*shape, generator=torch.Generator().manual_seed(i)))) for i in (1, 2)
    )
    BY_KRYLOV(BaseFactors(Dense(W0), store), [first], K, asked)
    assert store.leading is not None
    assert store.leading.values.shape[0] >= 2 * K

    class Untouched(Dense):
        def matmat(self, X: torch.Tensor) -> torch.Tensor:
            raise AssertionError("the second scan made a pass over W0")

    base = BaseFactors(Untouched(W0), store)
    tall = shape[0] > shape[1]  # W0^H U is one half pass there, and no more
    [found] = BY_KRYLOV(base, [second], K, asked)
    assert (found.lower >= 0.5).all()
    assert tall or set(found.decided) == {"leading vector"}


@pytest.mark.parametrize("way", [certified, BY_KRYLOV])
def test_both_sides_of_a_square_matrix_are_judged_by_their_own_vectors(way) -> None:
    W0, _ = base_matrix(160, 160, "head and bulk", 7)
    base = BaseFactors(Dense(W0))
    turned = TransposedFactors(adjoint(base.W0), inner=base)
    tuned = Tuned(update=random_update(160, 160, 4, 20.0, 1))
    W = tuned.operator(base.W0).dense()
    assert_the_definition_holds(way(base, [tuned], K, EPSILONS)[0], W0, W, side="left")
    assert_the_definition_holds(way(turned, [tuned.transposed()], K, EPSILONS)[0], W0, W, side="right")


def test_equal_leading_singular_values_are_flagged_and_not_silently_judged() -> None:
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(140, 140, generator=generator))[0] for _ in range(2))
    S = torch.linspace(3, 1, 140)
    S[:3] = torch.tensor([5.0, 4.0, 4.0])
    W0 = (U * S) @ V.mH
    for method in WAYS.values():
        [found] = method(BaseFactors(Dense(W0)), [Tuned(W=Dense(W0.clone()))], 4, EPSILONS)
        assert found.ill_conditioned.tolist() == [False, True, True, False]


def test_the_choice_of_method_follows_size_knowledge_and_number_of_adapters() -> None:
    def base(n: int) -> BaseFactors:
        return BaseFactors(Dense(torch.randn(n, n, generator=torch.Generator().manual_seed(n))))

    assert choose(base(64), 1, 10) == "exact"
    assert choose(base(800), 1, 10) == "certified"
    assert choose(base(800), 100, 10) == "cached-basis"
    known = base(800)
    known.full()
    assert choose(known, 1, 10) == "cached-basis"


class Watched(Dense):
    """A matrix that notes with how many threads it is read or multiplied."""

    seen: set[int] = set()

    def rmatmat(self, Y: torch.Tensor) -> torch.Tensor:
        self.seen.add(torch.get_num_threads())
        return super().rmatmat(Y)

    def dense(self) -> torch.Tensor:
        self.seen.add(torch.get_num_threads())
        return super().dense()


def test_a_small_matrix_is_scanned_with_one_thread_and_a_large_one_multiplied_with_all() -> None:
    W0 = Watched(base_matrix(144, 144, "head and bulk", seed=3)[0])
    tuned = [Tuned(update=random_update(144, 144, 3, 6.0, seed=8))]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for largest, threads in ((640, {1}), (0, {2})):
            W0.seen.clear()
            certified(BaseFactors(W0), tuned, K, EPSILONS, largest_spectrum=largest)
            assert W0.seen == threads
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
