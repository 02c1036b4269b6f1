"""Slow, obvious float64 NumPy references. They share no code with the package and follow the definitions alone."""

import numpy as np


def largest_cosines(W0: np.ndarray, W_tuned: np.ndarray, k: int, side: str = "left") -> np.ndarray:
    """For each of the k leading tuned singular vectors: the largest |cos| to any pre-trained one."""
    if side == "right":
        W0, W_tuned = W0.T, W_tuned.T
    U0 = np.linalg.svd(np.asarray(W0, dtype=np.float64), full_matrices=False)[0]
    U = np.linalg.svd(np.asarray(W_tuned, dtype=np.float64), full_matrices=False)[0]
    largest = []
    for j in range(min(k, U.shape[1])):
        cosines = [abs(float(U0[:, i] @ U[:, j])) for i in range(U0.shape[1])]
        largest.append(max(cosines))
    return np.array(largest)


def count_intruders(W0: np.ndarray, W_tuned: np.ndarray, k: int, epsilon: float) -> int:
    """Definition 3.1 of Shuttleworth et al., with the absolute cosine."""
    return sum(1 for cosine in largest_cosines(W0, W_tuned, k) if cosine < epsilon)


def entropy_rank(S: np.ndarray) -> float:
    """exp(-sum p log p), p = S / sum S."""
    total = 0.0
    for s in S:
        p = s / S.sum()
        if p > 0:
            total -= p * np.log(p)
    return float(np.exp(total))


def overlap(U1: np.ndarray, U2: np.ndarray, i: int, j: int) -> float:
    """phi(i, j) of Hu et al., entry by entry."""
    total = 0.0
    for a in range(i):
        for b in range(j):
            total += float(U1[:, a] @ U2[:, b]) ** 2
    return total / min(i, j)


def best_window(cosines: np.ndarray, width: int) -> list[float]:
    """For each column: the largest norm of `width` neighbouring entries."""
    n = cosines.shape[0]
    starts = range(max(n - width, 0) + 1)
    return [max(float(np.linalg.norm(column[start : start + width])) for start in starts) for column in cosines.T]


def share_rank(S: np.ndarray, share: float) -> int:
    """The fewest leading values whose squares reach a share of the total."""
    for j in range(1, len(S) + 1):
        if sum(s**2 for s in S[:j]) >= share * sum(s**2 for s in S) * (1 - 1e-12):
            return j
    return 0


def energy_inside(U0: np.ndarray, delta: np.ndarray, k: int) -> float:
    """rho_k: how much of delta's squared norm the projector on the first k columns of U0 keeps."""
    projector = U0[:, :k] @ U0[:, :k].T
    return float(np.linalg.norm(projector @ delta) ** 2 / np.linalg.norm(delta) ** 2)


def amplification(W0: np.ndarray, delta: np.ndarray, r: int) -> float:
    """||delta||_F / ||U^T W0 V||_F with the r leading singular vectors of delta."""
    U, _, Vh = np.linalg.svd(delta, full_matrices=False)
    return float(np.linalg.norm(delta) / np.linalg.norm(U[:, :r].T @ W0 @ Vh[:r].T))


def retained(W0: np.ndarray, W_tuned: np.ndarray, k: int) -> list[float]:
    """u_i^T W_tuned v_i / s_i for the leading triplets of W0."""
    U, S, Vh = np.linalg.svd(W0, full_matrices=False)
    return [float(U[:, i] @ W_tuned @ Vh[i] / S[i]) for i in range(k)]
