import torch

from spectra.linalg.brackets import Brackets, brackets_from_known

EPSILONS = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)


def of(lower: float, known: float, rest: float) -> Brackets:
    return Brackets(*(torch.tensor([value], dtype=torch.float64) for value in (lower, known, rest)))


def test_nothing_known_leaves_every_epsilon_open() -> None:
    unknown = Brackets.unknown(2)
    assert unknown.upper.tolist() == [1.0, 1.0]
    assert unknown.is_open(EPSILONS).tolist() == [True, True]


def test_one_large_cosine_leaves_no_room_for_another() -> None:
    found = of(0.9, 0.91, float("inf"))
    assert float(found.upper) == 0.91
    assert not bool(found.is_open(EPSILONS))


def test_a_small_lower_bound_and_a_certificate_close_the_bracket() -> None:
    assert not bool(of(0.05, 0.06, 0.19).is_open(EPSILONS))
    assert bool(of(0.05, 0.06, 0.21).is_open(EPSILONS))


def test_a_bracket_that_touches_epsilon_from_above_is_decided_as_the_definition_says() -> None:
    assert not bool(of(0.5, 0.5, 0.1).is_open(EPSILONS))  # max|cos| = 0.5 is no intruder at 0.5
    assert bool(of(0.49, 0.5, 0.1).is_open(EPSILONS))


def test_the_target_is_the_next_epsilon_above_what_is_proven() -> None:
    assert [float(of(low, low, 1.0).next_target(EPSILONS)) for low in (0.0, 0.2, 0.6, 0.9)] == [
        0.2,
        0.5,
        0.8,
        float("inf"),
    ]


def test_an_error_of_the_vector_widens_both_sides() -> None:
    wide = of(0.3, 0.31, 0.4).widened(torch.tensor([0.05], dtype=torch.float64))
    assert [round(float(value), 6) for value in (wide.lower, wide.known, wide.rest)] == [0.25, 0.36, 0.45]


def test_known_vectors_with_an_angle_bound_bracket_the_cosine() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        u, w, y = torch.linalg.qr(torch.randn(6, 3, generator=generator, dtype=torch.float64))[0].T
        y = 0.6 * y + 0.5 * u + 0.62 * w
        y = y / torch.linalg.vector_norm(y)
        sine = 0.05
        off = (1 - sine**2) ** 0.5 * u + sine * w
        found = brackets_from_known(
            (off @ y)[None, None], torch.ones(1).double(), torch.tensor([sine]).double(), torch.ones(1).double()
        )
        assert float(found.lower) <= abs(float(u @ y)) <= float(found.known)
