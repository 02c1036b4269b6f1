"""How much of a layer's output an update changes on the inputs that really occur."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class OutputDrift:
    """sum ||delta_W h||^2 / sum ||W0 h||^2 over inputs h that arrive block by block; none is kept.

    Attributes:
        changed: sum ||delta_W h||^2 so far.
        base: sum ||W0 h||^2 so far.
        tokens: Inputs seen so far.
    """

    changed: float = 0.0
    base: float = 0.0
    tokens: int = 0

    def add(self, changed: Float[Tensor, "tokens d_out"], base: Float[Tensor, "tokens d_out"]) -> None:
        """Take delta_W h and W0 h of a block of inputs."""
        self.changed += float(torch.linalg.vector_norm(changed, dtype=torch.float64) ** 2)
        self.base += float(torch.linalg.vector_norm(base, dtype=torch.float64) ** 2)
        self.tokens += base.shape[0]

    @property
    def value(self) -> float | None:
        """E ||delta_W h||^2 / E ||W0 h||^2: 0 for no change; None while W0 h was zero for every input.

        Source: for inputs with covariance proportional to the identity it equals ||delta_W||_F^2 / ||W0||_F^2; the
            activations of real texts take the place of that assumption.
            Difference: the inputs are those of the *base* model: what the updates of earlier layers do to h is not
            counted.
        """
        return self.changed / self.base if self.base > 0 else None
