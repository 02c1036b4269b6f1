"""Data-aware drift: what an update changes in the outputs of its layer, on the activations of chosen texts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from spectra.errors import DataError, ModelError
from spectra.forgetting.batches import encode, length_ordered, pad
from spectra.linalg.operators import Dense, LinearOperator, LowRankUpdate
from spectra.metrics.drift import OutputDrift
from spectra.models import Model, body_of
from spectra.records import Measure, Scan
from spectra.weights import CheckpointPair, MatrixPair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

METRIC = "texts.drift"
Progress = Callable[[int, int, str], None]


def output_drift(
    pair: CheckpointPair,
    model: Model,
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    *,
    max_length: int = 128,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> dict[str, OutputDrift]:
    """E ||delta_W h||^2 / E ||W0 h||^2 of every matrix that is the weight of a module of its own.

    Args:
        pair: The checkpoint beside its base.
        model: The base model, on the device of the computation.
        tokenizer: Its tokenizer.
        texts: Padding aside, every token of every text counts the same.
        max_length: Tokens that a text is cut to.
        batch_size: Texts per forward pass.
        progress: Called with (texts done, all, "") after each batch.

    Returns:
        By canonical name. Matrices inside fused or stacked parameters have no inputs of their own and are left out.

    Raises:
        DataError: If there are no texts.
        ModelError: If no module of the model has a changed matrix for its weight, or the model is an encoder-decoder.

    Source: `metrics.drift`.
        Difference: activations are never stored: hooks add two numbers per batch and module. Factors of a LoRA
        update stay factors; a dense delta_W is held in memory, so that a full checkpoint takes as much again as its
        base.
    """
    if not texts:
        raise DataError("No text was given to measure drift on. Name a task or a file that has some.")
    body = body_of(model)
    if getattr(body.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(body).__name__} reads a source and a target, and a text is only one of them. Use an encoder or a "
            "causal model."
        )
    modules = _modules(body, pair.matrices)
    if not modules:
        raise ModelError(
            f"No module of {type(body).__name__} has one of the {len(pair.matrices)} compared matrices for its weight. "
            "Check that the base is the model that was tuned."
        )
    ids, _ = encode(tokenizer, texts, max_length)
    device = next(body.parameters()).device
    done = 0
    found = {str(matrix.name): OutputDrift() for matrix in modules.values()}
    with torch.no_grad(), _listening(body, modules, found) as passing:
        for batch in length_ordered(ids, batch_size):
            tokens, mask = pad([ids[i] for i in batch], cast(int, tokenizer.pad_token_id), device=device)
            passing.append(mask.bool())
            body(input_ids=tokens, attention_mask=mask)
            passing.clear()
            done += len(batch)
            if progress is not None:
                progress(done, len(ids), "")
    return found


def with_drift(scan: Scan, drift: Mapping[str, OutputDrift], texts: str) -> Scan:
    """The scan with one more measure per matrix that a text has passed through."""
    matrices = tuple(
        replace(
            matrix,
            measures=(
                *matrix.measures,
                Measure(METRIC, drift[matrix.name].value, note=f"{drift[matrix.name].tokens} tokens of {texts}"),
            ),
        )
        if matrix.name in drift
        else matrix
        for matrix in scan.matrices
    )
    return replace(scan, matrices=matrices)


def _modules(body: nn.Module, matrices: Sequence[MatrixPair]) -> dict[str, MatrixPair]:
    """The matrix of each module: the names end alike, and the module's weight has the matrix's shape."""
    by_name = {str(matrix.name): matrix for matrix in matrices}
    found: dict[str, MatrixPair] = {}
    for name, module in body.named_modules():
        matrix = by_name.get(name) or next((m for n, m in by_name.items() if name and n.endswith(f".{name}")), None)
        weight = getattr(module, "weight", None)
        if matrix is None or not isinstance(weight, Tensor) or isinstance(module, nn.Embedding):
            continue
        if tuple(weight.shape) in (matrix.shape, matrix.shape[::-1]):  # Conv1D stores (d_in, d_out)
            found[name] = matrix
    return found


@contextmanager
def _listening(
    body: nn.Module, modules: Mapping[str, MatrixPair], found: Mapping[str, OutputDrift]
) -> Iterator[list[Bool[Tensor, "batch seq"]]]:
    """Hooks on the modules for as long as the block lasts; the list holds the mask of the batch that is passing."""
    passing: list[Bool[Tensor, "batch seq"]] = []

    def listen(delta: LowRankUpdate | LinearOperator, drift: OutputDrift) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            bias = getattr(module, "bias", None)
            h, image = inputs[0], output if bias is None else output - bias
            if h.shape[:-1] == passing[0].shape:  # padding is no input
                h, image = h[passing[0]], image[passing[0]]
            h, image = h.reshape(-1, h.shape[-1]), image.reshape(-1, image.shape[-1])
            drift.add(delta.matmat(h.mH).mH, image)

        return hook

    hooks = []
    try:
        for name, matrix in modules.items():
            module = body.get_submodule(name)
            weight = cast(Tensor, module.weight)
            delta = matrix.update(weight.dtype, weight.device)
            operator = Dense(matrix.delta_W(weight.dtype, weight.device)) if delta is None else delta
            hooks.append(module.register_forward_hook(listen(operator, found[str(matrix.name)])))
        yield passing
    finally:
        for hook in hooks:
            hook.remove()
