"""Probes on frozen features: what an encoder's body still knows, whatever head it was tuned with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from spectra.errors import DataError
from spectra.forgetting.batches import encode, length_ordered, pad
from spectra.forgetting.held_out import HeldOut
from spectra.models import Model, body_of
from spectra.statistics.scores import Scores, fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_STEPS = 5000  # of the logistic regression; it needs some hundred


def probe(
    model: Model,
    tokenizer: "PreTrainedTokenizerBase",
    held_out: HeldOut,
    *,
    batch_size: int,
    features: dict[str, Float[np.ndarray, "n d"]] | None = None,
) -> Scores:
    """Error of a classifier on frozen features: fitted on the task's training split, scored on its test split.

    feature(text) = mean over tokens of the last hidden state
    "linear-probe":       multinomial logistic regression (L2, C = 1) on standardised features
    "nearest-neighbour":  majority label among the k training texts of largest cosine

    Every model, the base included, gets a probe of its own, fitted the same way on the same texts.

    Args:
        model: Any model with a body; its head is not used.
        tokenizer: The base's.
        held_out: Task and kind of probe.
        batch_size: Sequences per forward pass.
        features: Filled with the features of these texts, or used in their place: two probes of one model on one
            task share the forward passes. Never pass it on to another model.

    Raises:
        DataError: If the task is no classification or the regression does not converge.

    Source: Shuttleworth et al., arXiv:2410.21228, continual learning (heads are retrained before a task is measured).
        Difference: the body stays frozen and the head is a convex or parameter-free one, so that the figure depends
        on no training run. Nearest neighbour asks for the geometry itself and reacts to changes that a linear
        probe absorbs.
    """
    data = held_out.require_kind("classification")
    fit, test = held_out.fit_rows(), held_out.test_rows()
    ids, cut = encode(tokenizer, [*fit["text"], *test["text"]], held_out.max_length, _pairs(fit, test))
    shared = {} if features is None else features
    key = fingerprint({"max_length": held_out.max_length}, ids)
    if key not in shared:
        shared[key] = mean_pooled(model, tokenizer, ids, batch_size=batch_size)
    truth = np.array(test["label"])
    predicted = _predict(held_out, shared[key][: len(fit)], np.array(fit["label"]), shared[key][len(fit) :])
    errors = (predicted != truth).astype(np.float64)
    settings = {
        "measure": held_out.measure,
        "max_length": held_out.max_length,
        "neighbours": held_out.neighbours if held_out.measure == "nearest-neighbour" else None,
        "labels": data.label_names,
    }
    return Scores(
        task=held_out.name,
        metric=held_out.measure,
        unit="error rate",
        values=errors,
        weights=np.ones_like(errors),
        score_name="accuracy",
        score=float(1 - errors.mean()),
        fingerprint=fingerprint(settings, [*ids, fit["label"][:], test["label"][:]]),
        details={
            "fitted_on": float(len(fit)),
            "most_frequent_label": float(np.bincount(truth).max() / len(truth)),
            "texts_cut": float(cut.cut),
        },
        warnings=held_out.warnings(cut),
    )


def _pairs(fit: Any, test: Any) -> list[str] | None:
    """The second texts of a task about pairs."""
    if "text_pair" not in test.column_names:
        return None
    return [*fit["text_pair"], *test["text_pair"]]


def mean_pooled(
    model: Model, tokenizer: "PreTrainedTokenizerBase", ids: Sequence[list[int]], *, batch_size: int
) -> Float[np.ndarray, "n d"]:
    """Mean of the last hidden state over the real tokens of each sequence; of the encoder, if there is a decoder."""
    body = body_of(model)
    if body.config.is_encoder_decoder:
        body = body.get_encoder()
    device = model.device
    features = np.zeros((len(ids), body.config.hidden_size))
    for positions in length_ordered(ids, batch_size):
        batch, mask = pad([ids[position] for position in positions], tokenizer.pad_token_id, device=device)
        hidden = body(input_ids=batch, attention_mask=mask)[0].float()
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        features[positions] = ((hidden * weights).sum(1) / weights.sum(1)).double().cpu().numpy()
    return features


def _predict(
    held_out: HeldOut,
    fit_features: Float[np.ndarray, "n_fit d"],
    fit_labels: Int[np.ndarray, " n_fit"],
    test_features: Float[np.ndarray, "n_test d"],
) -> Int[np.ndarray, " n_test"]:
    if held_out.measure == "nearest-neighbour":
        neighbours = KNeighborsClassifier(held_out.neighbours, algorithm="brute")
        neighbours.fit(normalize(fit_features), fit_labels)  # on the unit sphere, distance orders as cosine does
        return cast(np.ndarray, neighbours.predict(normalize(test_features)))
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_STEPS))
    regression.fit(fit_features, fit_labels)
    if regression[-1].n_iter_.max() >= MOST_STEPS:
        raise DataError(
            f"The linear probe of '{held_out.name}' did not converge in {MOST_STEPS} steps. "
            "Use the nearest-neighbour measure."
        )
    return cast(np.ndarray, regression.predict(test_features))
