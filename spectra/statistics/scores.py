"""What one model scored on one held-out task, example by example, so that two models can be paired."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from spectra.errors import DataError


@dataclass(frozen=True, eq=False)
class Scores:
    """Losses of one model on one held-out task.

    Attributes:
        task: Name of the held-out task.
        metric: Name of the measure.
        unit: Unit of the losses, such as "nats per token".
        values: Loss of each example; lower is better. For accuracies it is the error, 0 or 1.
        weights: Weight of each example in the mean: its tokens or bytes where the loss is per token or byte, else 1.
        score_name: What a person would quote: "accuracy", "loss", "ROUGE-L".
        score: Its value.
        fingerprint: SHA-256 of the examples as the model saw them and of every setting that shapes the loss. Scores
            with different fingerprints are not comparable.
        adapters: Adapters that were switched on while measuring; a base has none.
        details: Further figures of the same examples.
        warnings: Sentences that a reader of the score has to know.

    Raises:
        DataError: If there is no example, or a loss is not finite.
    """

    task: str
    metric: str
    unit: str
    values: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]
    score_name: str
    score: float
    fingerprint: str
    adapters: tuple[str, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) == 0:
            raise DataError(f"'{self.task}' has no examples to score. Raise the limit or give the task more rows.")
        if bad := int((~np.isfinite(self.values)).sum()):
            raise DataError(
                f"The model has a loss of NaN or infinity on {bad} of {len(self.values)} examples of '{self.task}'. "
                "Check the checkpoint for a diverged training run, or measure in float32."
            )

    @property
    def loss(self) -> float:
        """Weighted mean loss:  sum w_i v_i / sum w_i."""
        return float(np.average(self.values, weights=self.weights))

    def to_dict(self) -> dict[str, Any]:
        """JSON form; floats survive the round trip exactly."""
        return {**asdict(self), "values": self.values.tolist(), "weights": self.weights.tolist()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Scores":
        """The inverse of `to_dict`."""
        arrays = {name: np.array(stored[name], dtype=np.float64) for name in ("values", "weights")}
        tuples = {name: tuple(stored[name]) for name in ("adapters", "warnings")}
        return cls(**{**stored, **arrays, **tuples})


def fingerprint(settings: Mapping[str, Any], examples: Iterable[Any]) -> str:
    """SHA-256 of settings and examples (texts or token numbers), in order."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for example in examples:
        digest.update(b"\x00" + json.dumps(example).encode())
    return digest.hexdigest()
