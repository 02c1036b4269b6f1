"""LoRA and DoRA, natively: the factors of an adapter matched with the base's matrices."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spectra.errors import AdapterError, CheckpointError, first_five
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.alignment import Alignment
from spectra.weights.matching.matching import Match
from spectra.weights.methods.adapter import CONFIG, Adapter, Factors, lora_factors
from spectra.weights.methods.bounded_patterns import require_bounded
from spectra.weights.methods.changes import Change, DoraChange, LoraChange
from spectra.weights.methods.parameters import assigned, container_of, targeted_parameters
from spectra.weights.methods.scaling import LoraPatterns, LoraSettings

# LoRA variants whose update is not scaling * B @ A; peft merges those that can be merged.
VARIANTS = ("kasa_config", "use_bdlora", "monteclora_config", "arrow_config", "use_qalora")


def is_plain(adapter: Adapter) -> bool:
    """True for LoRA and DoRA as this room reads them; other variants go through peft."""
    return adapter.peft_type == "LORA" and not any(adapter.config.get(field) for field in VARIANTS)


def lora_matches(adapter: Adapter, aligned: Alignment) -> list[Match]:
    """Match every pair of factors with the base's matrix.

    Raises:
        AdapterError: If factors are incomplete, have no matrix in the base, or disagree with it or with the
            configuration.
    """
    _refuse_replication(adapter)
    patterns = lora_patterns(adapter)
    matches: list[Match] = []
    wrapped: dict[str, dict[int, Factors]] = {}
    for factors in lora_factors(adapter):
        container, depth = container_of(factors.module)
        if depth or (targeted_parameters(adapter, container) and aligned.find(container) is None):
            wrapped.setdefault(container, {})[depth] = factors
        else:
            matches.append(_module_match(adapter, factors, aligned, patterns))
    for container, levels in wrapped.items():
        for parameter, factors in assigned(adapter, container, levels, aligned).items():
            settings = patterns.settings(f"{container}.{parameter}")
            matches.extend(_expert_matches(adapter, f"{container}.{parameter}", factors, aligned, settings))
    return matches


def lora_patterns(adapter: Adapter) -> LoraPatterns:
    """The ranks and alphas of a configuration.

    Raises:
        AdapterError: If it lacks them, or they are no positive numbers.
    """
    config = adapter.config
    path = adapter.path / CONFIG
    require_bounded(config, {factors.module for factors in lora_factors(adapter)}, path)
    ranks = {"r": config.get("r"), **_pattern(adapter, "rank_pattern")}
    alphas = {"lora_alpha": config.get("lora_alpha"), **_pattern(adapter, "alpha_pattern")}
    wrong = [f"{key} = {rank!r}" for key, rank in ranks.items() if type(rank) is not int or rank < 1]
    wrong += [f"{key} = {alpha!r}" for key, alpha in alphas.items() if type(alpha) not in (int, float)]
    if wrong:
        raise AdapterError(f"'{path}' has {first_five(wrong)}. Restore the configuration saved with the adapter.")
    return LoraPatterns.of(config)


def _pattern(adapter: Adapter, key: str) -> Mapping[str, Any]:
    pattern = adapter.config.get(key) or {}
    broken = [regex for regex in pattern if not _is_regex(regex)] if isinstance(pattern, dict) else [str(pattern)]
    if broken:
        raise AdapterError(
            f"'{adapter.path / CONFIG}' has a {key} that cannot be read ({broken[0]!r}). "
            "Restore the configuration saved with the adapter."
        )
    return pattern


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _refuse_replication(adapter: Adapter) -> None:
    if adapter.config.get("layer_replication"):
        raise AdapterError(
            f"'{adapter.path}' was trained on a base with replicated layers (layer_replication), which have no "
            "matrix of their own in the base. Merge it with peft into a full checkpoint."
        )


def base_matrix(adapter: Adapter, module: str, aligned: Alignment) -> tuple[str, StoredMatrix]:
    """The base's matrix for a module of the adapter.

    Raises:
        AdapterError: If the base has none.
    """
    # torch's own attention layer keeps q, k and v in a parameter, and peft names the factors after the layer.
    found = aligned.matrix(module) or aligned.matrix(f"{module}.in_proj_weight")
    if found is None:
        raise AdapterError(
            f"'{adapter.file}' changes '{module}', and the base has no such matrix. "
            "Check that --base is the model it was trained from."
        )
    return found


def _module_match(adapter: Adapter, factors: Factors, aligned: Alignment, patterns: LoraPatterns) -> Match:
    module, W0 = base_matrix(adapter, factors.module, aligned)
    targeted = any(f".{factors.module}.weight".endswith(f".{target}") for target in _targets(adapter))
    settings = patterns.settings(f"{factors.module}.weight" if targeted else factors.module)
    # An embedding's update is stored turned over: its A spans the vocabulary, which are the rows here.
    A = StoredMatrix.of(factors.B if factors.is_embedding else factors.A, transposed=factors.is_embedding)
    B = StoredMatrix.of(factors.A if factors.is_embedding else factors.B, transposed=factors.is_embedding)
    _require_rank(adapter, factors.module, (A.shape[0], B.shape[1]), settings.rank)
    if (B.shape[0], A.shape[1]) != W0.shape:
        raise _shape_error(adapter, factors.module, (B.shape[0], A.shape[1]), W0)
    trained = LoraChange(A, B, settings)
    change: Change = trained
    if factors.magnitude is not None:
        change = _dora(adapter, factors, trained, W0)
    elif adapter.config.get("use_dora"):
        raise AdapterError(
            f"'{factors.module}' in '{adapter.file}' lacks DoRA's lora_magnitude_vector. Save the adapter again."
        )
    return Match(module, W0, change)


def _targets(adapter: Adapter) -> Sequence[Any]:
    return adapter.config.get("target_parameters") or []


def _dora(adapter: Adapter, factors: Factors, change: LoraChange, W0: StoredMatrix) -> DoraChange:
    magnitude = StoredMatrix.of(factors.magnitude) if factors.magnitude else None
    expected = W0.shape[1 if factors.is_embedding else 0]
    if magnitude is None or magnitude.shape[0] * magnitude.shape[1] != expected:
        held = magnitude.shape[0] * magnitude.shape[1] if magnitude else 0
        raise AdapterError(
            f"'{factors.module}' in '{adapter.file}' has {held} DoRA magnitudes and needs {expected}. "
            "Save the adapter again."
        )
    return DoraChange(change, magnitude, by_column=factors.is_embedding)


def _expert_matches(
    adapter: Adapter, parameter: str, factors: Factors, aligned: Alignment, settings: LoraSettings
) -> Iterator[Match]:
    """One match per expert of a 3-D parameter, or of the per-expert matrices that the base stores instead."""
    A, B = StoredMatrix.of(factors.A), StoredMatrix.of(factors.B)
    container, _, leaf = parameter.rpartition(".")
    found: list[tuple[str, StoredMatrix]] = []
    while (matrix := aligned.matrix(f"{container}.{len(found)}.{leaf}")) is not None:
        found.append(matrix)
    _require_rank(adapter, parameter, (A.shape[0], B.shape[1]), settings.rank * len(found))
    for index, (module, W0) in enumerate(found):
        shape = B.shape[0], A.shape[1]
        if shape not in (W0.shape, W0.shape[::-1]):
            raise _shape_error(adapter, parameter, shape, W0)
        change = LoraChange(A, B, settings, (index, len(found)), swapped=shape != W0.shape)
        yield Match(module, W0, change)


def _require_rank(adapter: Adapter, module: str, stored: tuple[int, int], rank: int) -> None:
    if stored != (rank, rank):
        raise AdapterError(
            f"The factors of '{module}' in '{adapter.file}' have ranks {stored[0]} (A) and {stored[1]} (B), and its "
            f"configuration says {rank}. Restore the configuration that was saved with the adapter."
        )


def _shape_error(adapter: Adapter, module: str, shape: tuple[int, int], W0: StoredMatrix) -> CheckpointError:
    return AdapterError(
        f"The factors of '{module}' in '{adapter.file}' update a {shape} matrix, and the base's is {W0.shape} "
        f"({W0.source}). Check that --base is the model it was trained from."
    )


def unknown_modules(adapter: Adapter, aligned: Alignment) -> list[str]:
    """The modules with factors that the base knows under no prefix."""
    return [
        factors.module
        for factors in lora_factors(adapter)
        if aligned.matrix(factors.module) is None
        and aligned.matrix(f"{factors.module}.in_proj_weight") is None
        and not targeted_parameters(adapter, container_of(factors.module)[0])
    ]
