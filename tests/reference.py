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
