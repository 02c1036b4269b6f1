"""Hard matrices and updates for the engine: each family breaks an assumption that some method could make."""

from collections.abc import Callable

import numpy as np

Matrix = np.ndarray
SINGLE = float(np.finfo(np.float32).eps)


def orthonormal(draw: np.random.Generator, rows: int, columns: int) -> Matrix:
    """Orthonormal columns of random directions."""
    return np.linalg.qr(draw.standard_normal((rows, columns)))[0]


def _near_pairs(draw: np.random.Generator, n: int) -> Matrix:
    S = np.linspace(1.0, 0.1, n)
    S[1::2] = S[0::2][: n // 2] * (1 - SINGLE * 10 ** draw.uniform(1.5, 4.5, n // 2))
    return S


def _bulk(draw: np.random.Generator, n: int) -> Matrix:
    return np.linalg.svd(draw.standard_normal((n, 2 * n)) / np.sqrt(2 * n), compute_uv=False)


# Singular values, in any order, of a matrix with random singular vectors.
SPECTRA: dict[str, Callable[[np.random.Generator, int], Matrix]] = {
    "flat": lambda draw, n: np.ones(n),
    "geometric": lambda draw, n: draw.choice([0.9, 0.97, 0.995]) ** np.arange(n),
    "cluster at the head": lambda draw, n: np.r_[np.full(5, 2.0), np.linspace(1, 0.05, n - 5)],
    "cluster in the middle": lambda draw, n: np.r_[
        np.linspace(1, 0.5, n // 2 - 4), np.full(8, 0.5), np.linspace(0.5, 0.05, n - n // 2 - 4)
    ],
    "cluster at the tail": lambda draw, n: np.maximum(np.linspace(1, 0, n), 0.3),
    "exact low rank": lambda draw, n: np.r_[np.linspace(1, 0.2, n // 5), np.zeros(n - n // 5)],
    "one huge value": lambda draw, n: np.r_[10 ** draw.uniform(2, 4), np.linspace(1, 0.1, n - 1)],
    "1 to 1e-8": lambda draw, n: np.logspace(0, -8, n),
    "near pairs": _near_pairs,
    "head far above the bulk": lambda draw, n: np.r_[
        10 ** draw.uniform(1, 3) * np.linspace(1, 0.5, 12), np.linspace(1, 0.2, n - 12)
    ],
    "heavy head and bulk": lambda draw, n: np.r_[3 + 8 * np.arange(1, 13) ** -0.5, _bulk(draw, n - 12)],
    "power law": lambda draw, n: np.arange(1, n + 1) ** -draw.uniform(0.3, 1.2),
    "random bulk": _bulk,
}


def _kahan(draw: np.random.Generator, n: int) -> Matrix:
    angle = draw.uniform(0.8, 1.4)
    K = np.eye(n) - np.cos(angle) * np.triu(np.ones((n, n)), 1)
    return np.sin(angle) ** np.arange(n)[:, None] * K


def _square(inner: Callable[[np.random.Generator, int], Matrix]) -> Callable[[np.random.Generator, int, int], Matrix]:
    """A square matrix beside zeros."""

    def padded(draw: np.random.Generator, d_out: int, d_in: int) -> Matrix:
        n = min(d_out, d_in)
        W = np.zeros((d_out, d_in))
        W[:n, :n] = inner(draw, n)
        return W

    return padded


def _zero_rows(draw: np.random.Generator, d_out: int, d_in: int) -> Matrix:
    W = draw.standard_normal((d_out, d_in))
    W[draw.choice(d_out, d_out // 5, replace=False)] = 0
    return W


def _repeated_rows(draw: np.random.Generator, d_out: int, d_in: int) -> Matrix:
    W = draw.standard_normal((d_out, d_in))
    third = d_out // 3
    W[third : 2 * third] = W[:third]
    return W


def _toeplitz(draw: np.random.Generator, d_out: int, d_in: int) -> Matrix:
    distance = np.arange(d_out)[:, None] - np.arange(d_in)[None, :]
    return (draw.standard_normal(d_out + d_in) * draw.uniform(0.5, 1))[distance + d_in - 1]


# Matrices that are given by their entries.
ENTRIES: dict[str, Callable[[np.random.Generator, int, int], Matrix]] = {
    "Kahan": _square(_kahan),
    "Hilbert": lambda draw, d_out, d_in: 1 / (np.arange(d_out)[:, None] + np.arange(d_in)[None, :] + 1.0),
    "Toeplitz": _toeplitz,
    "decaying Toeplitz": lambda draw, d_out, d_in: 0.9 ** np.abs(np.arange(d_out)[:, None] - np.arange(d_in)[None, :]),
    "second differences": lambda draw, d_out, d_in: (
        2 * np.eye(d_out, d_in) - np.eye(d_out, d_in, 1) - np.eye(d_out, d_in, -1)
    ),
    "orthogonal": lambda draw, d_out, d_in: 3.7 * orthonormal(draw, max(d_out, d_in), max(d_out, d_in))[:d_out, :d_in],
    "identity": lambda draw, d_out, d_in: np.eye(d_out, d_in),
    "zero rows": _zero_rows,
    "repeated rows": _repeated_rows,
    "constant": lambda draw, d_out, d_in: np.ones((d_out, d_in)),
    "blocks": _square(lambda draw, n: np.kron(np.eye(4), draw.standard_normal((n // 4 + 1, n // 4 + 1)))[:n, :n]),
    "signs": lambda draw, d_out, d_in: np.sign(draw.standard_normal((d_out, d_in))),
    "zero": lambda draw, d_out, d_in: np.zeros((d_out, d_in)),
}
FAMILIES = (*SPECTRA, *ENTRIES)


def base(family: str, shape: tuple[int, int], draw: np.random.Generator) -> Matrix:
    """A W0 of a family."""
    if family in ENTRIES:
        return ENTRIES[family](draw, *shape)
    n = min(shape)
    S = np.sort(SPECTRA[family](draw, n))[::-1]
    return (orthonormal(draw, shape[0], n) * S) @ orthonormal(draw, shape[1], n).T


def _scaled(B: Matrix, A: Matrix, size: float) -> tuple[Matrix, Matrix]:
    norm = np.linalg.norm(B @ A, 2)
    return (B * size / norm if norm else B), A


class Updates:
    """Draws updates of one W0 = U diag(S) Vh, each as (B, A), or as (W_tuned, None) where it is dense."""

    def __init__(self, W0: Matrix, draw: np.random.Generator) -> None:
        self.W0, self.draw = W0, draw
        self.U, self.S, self.Vh = np.linalg.svd(W0, full_matrices=False)
        self.rank = int(draw.choice([1, 4, 8]))
        self.size = float(10 ** draw.uniform(-2, 1)) * max(float(self.S[0]), 1e-3)

    def random(self) -> tuple[Matrix, Matrix | None]:
        """Two Gaussian factors."""
        d_out, d_in = self.W0.shape
        return _scaled(
            self.draw.standard_normal((d_out, self.rank)), self.draw.standard_normal((self.rank, d_in)), self.size
        )

    def decaying(self) -> tuple[Matrix, Matrix | None]:
        """Orthonormal factors with falling singular values."""
        d_out, d_in = self.W0.shape
        B = orthonormal(self.draw, d_out, self.rank) * 0.6 ** np.arange(self.rank)
        return B * self.size, orthonormal(self.draw, d_in, self.rank).T

    def aligned(self) -> tuple[Matrix, Matrix | None]:
        """Mixtures of a few singular vectors of W0."""
        few = self.draw.choice(len(self.S), min(len(self.S), 3 * self.rank), replace=False)
        B = self.U[:, few] @ self.draw.standard_normal((len(few), self.rank))
        return _scaled(B, self.draw.standard_normal((self.rank, len(few))) @ self.Vh[few], self.size)

    def beside_the_head(self) -> tuple[Matrix, Matrix | None]:
        """Orthogonal to the leading subspaces of W0 on both sides, as OPLoRA makes it."""
        d_out, d_in = self.W0.shape
        kept = min(32, len(self.S) // 3)
        B, A = self.draw.standard_normal((d_out, self.rank)), self.draw.standard_normal((self.rank, d_in))
        B -= self.U[:, :kept] @ (self.U[:, :kept].T @ B)
        A -= (A @ self.Vh[:kept].T) @ self.Vh[:kept]
        return _scaled(B, A, float(self.draw.uniform(0.5, 4)) * max(float(self.S[min(9, len(self.S) - 1)]), 1e-3))

    def beside_the_head_merged(self) -> tuple[Matrix, Matrix | None]:
        """The same as a dense matrix: a full checkpoint after merging."""
        B, A = self.beside_the_head()
        return self.W0 + B @ A, None

    def outside_the_range(self) -> tuple[Matrix, Matrix | None]:
        """In the left null space of W0 where it has one, else beside its first half."""
        d_out, d_in = self.W0.shape
        kept = len(self.S) if d_out > len(self.S) else len(self.S) // 2
        B = self.draw.standard_normal((d_out, self.rank))
        B -= self.U[:, :kept] @ (self.U[:, :kept].T @ B)
        return _scaled(B, self.draw.standard_normal((self.rank, d_in)), self.size)

    def removed_head(self) -> tuple[Matrix, Matrix | None]:
        """The leading triplets are taken away."""
        return -self.U[:, : self.rank] * self.S[: self.rank], self.Vh[: self.rank]

    def permuted_head(self) -> tuple[Matrix, Matrix | None]:
        """The leading left vectors change places."""
        head = self.U[:, : self.rank]
        return (head[:, self.draw.permutation(self.rank)] - head) * self.S[: self.rank], self.Vh[: self.rank]

    def rotated_head(self) -> tuple[Matrix, Matrix | None]:
        """The leading left vectors are mixed."""
        head = self.U[:, : self.rank]
        return (head @ orthonormal(self.draw, self.rank, self.rank) - head) * self.S[: self.rank], self.Vh[: self.rank]

    def planted(self) -> tuple[Matrix, Matrix | None]:
        """One leading triplet whose left vector has a cosine of .5 -+ .001 to one u_i, and is spread over the rest."""
        n = len(self.S)
        at, cosine = int(self.draw.integers(n)), 0.5 + float(self.draw.choice([-1, 1])) * 1e-3
        weights = self.draw.choice([-1.0, 1.0], n) * (1 + 0.2 * self.draw.random(n))
        weights[at] = 0
        weights *= np.sqrt(1 - cosine**2) / max(np.linalg.norm(weights), 1e-300)
        weights[at] = cosine
        y = self.U @ weights
        image = self.W0.T @ y
        size = np.linalg.norm(image)
        v = image / size if size else orthonormal(self.draw, self.W0.shape[1], 1)[:, 0]
        return (y * max(1.4 * float(self.S[0]), 1e-3) - self.W0 @ v)[:, None], v[None, :]

    def negated(self) -> tuple[Matrix, Matrix | None]:
        """-W0."""
        return -self.W0, None

    def rescaled(self) -> tuple[Matrix, Matrix | None]:
        """A multiple of W0."""
        return float(10 ** self.draw.uniform(-2, 2)) * self.W0, None

    def noise(self) -> tuple[Matrix, Matrix | None]:
        """W0 and dense Gaussian noise."""
        E = self.draw.standard_normal(self.W0.shape)
        return self.W0 + E * self.size / np.linalg.norm(E, 2), None

    def nothing(self) -> tuple[Matrix, Matrix | None]:
        """A LoRA with B = 0."""
        d_out, d_in = self.W0.shape
        return np.zeros((d_out, self.rank)), self.draw.standard_normal((self.rank, d_in))


UPDATES = tuple(name for name, value in vars(Updates).items() if callable(value) and not name.startswith("_"))
