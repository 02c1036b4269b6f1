"""What is in a checkpoint: settings, matrices, bytes, and the memory that training it took."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from spectra.records.inspection import Inspection
from spectra.records.provenance import versions
from spectra.weights.pair import CheckpointPair, MatrixPair

# AdamW keeps two float32 numbers for every trained one.
OPTIMISER_BYTES = 8


def inventory(pair: CheckpointPair) -> Inspection:
    """What is in an opened checkpoint."""
    return Inspection(
        checkpoint=pair.checkpoint,
        base=pair.base,
        kind=pair.kind,
        method=pair.method,
        coverage=pair.coverage,
        bytes=pair.nbytes,
        trained_parameters=pair.trained_parameters,
        optimiser_bytes=OPTIMISER_BYTES * pair.trained_parameters,
        largest_matrix_bytes=max((4 * rows * columns for rows, columns in shapes(pair)), default=0),
        matrices=[matrix_entry(matrix) for matrix in pair.matrices],
        skipped=[asdict(skipped) for skipped in pair.skipped],
        warnings=pair.warnings,
        versions=dict(versions()),
    )


def shapes(pair: CheckpointPair) -> list[tuple[int, int]]:
    """The shapes of all compared matrices."""
    return [matrix.shape for matrix in pair.matrices]


def matrix_entry(matrix: MatrixPair) -> dict[str, Any]:
    """One matrix and its settings; rank, alpha and scaling are null where the method has none."""
    settings = matrix.lora
    return {
        "name": matrix.name.canonical,
        "layer": matrix.name.layer,
        "role": matrix.name.role,
        "block": matrix.name.block,
        "shape": list(matrix.shape),
        "dtype": str(matrix.W0.stored_dtype).removeprefix("torch."),
        "rank": settings.rank if settings else None,
        "alpha": settings.alpha if settings else None,
        "scaling": settings.scaling if settings else None,
        "parameters": matrix.change.parameters,
    }


def grouped(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries that differ in layer only, counted: one row per role, shape and setting, in order of appearance."""
    keys = ("role", "block", "shape", "dtype", "rank", "alpha", "scaling")
    counts: Counter[tuple[Any, ...]] = Counter()
    parameters: Counter[tuple[Any, ...]] = Counter()
    for entry in entries:
        key = tuple(tuple(entry[name]) if name == "shape" else entry[name] for name in keys)
        counts[key] += 1
        parameters[key] += entry["parameters"]
    return [
        {**dict(zip(keys, key, strict=True)), "matrices": count, "parameters": parameters[key]}
        for key, count in counts.items()
    ]
