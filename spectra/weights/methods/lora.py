"""LoRA and DoRA, natively: the factors of an adapter matched with the base's matrices."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from spectra.errors import AdapterError, first_five
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.alignment import Alignment
from spectra.weights.matching.matching import Match
from spectra.weights.matching.names import layer_of
from spectra.weights.methods.adapter import CONFIG, Adapter, Factors, lora_factors
from spectra.weights.methods.bounded_patterns import require_bounded
from spectra.weights.methods.changes import Change, DoraChange, LoraChange
from spectra.weights.methods.parameters import assigned, container_of, targeted_parameters
from spectra.weights.methods.problems import Findings, MisfitError, Problem, resized
from spectra.weights.methods.scaling import LoraPatterns, LoraSettings

# LoRA variants whose update is not scaling * B @ A; peft merges those that can be merged.
VARIANTS = ("kasa_config", "use_bdlora", "monteclora_config", "arrow_config", "use_qalora")


def is_plain(adapter: Adapter) -> bool:
    """True for LoRA and DoRA as `lora_matches` reads them; other variants go through peft."""
    return adapter.peft_type == "LORA" and not any(adapter.config.get(field) for field in VARIANTS)


def lora_matches(adapter: Adapter, aligned: Alignment, findings: Findings | None = None) -> list[Match]:
    """Match every pair of factors with the base's matrix.

    Args:
        adapter: The adapter.
        aligned: Finds the base's matrices.
        findings: Takes the modules that do not fit, so that the selection is heard before one of them is refused;
            without it the first is refused.

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
        if len(factors.A.shape) == 3 and len(factors.B.shape) == 3:
            matches += _heard(factors.module, findings, partial(_stacked, adapter, factors, aligned, patterns))
        elif depth or (targeted_parameters(adapter, container) and aligned.find(container) is None):
            wrapped.setdefault(container, {})[depth] = factors
        else:
            match = partial(_module_match, adapter, factors, aligned, patterns, findings)
            matches += _heard(factors.module, findings, match)
    for container, levels in wrapped.items():
        for parameter, factors in assigned(adapter, container, levels, aligned).items():
            name = f"{container}.{parameter}"
            match = partial(_expert_matches, adapter, name, factors, aligned, patterns.settings(name))
            matches += _heard(name, findings, match)
    return matches


def _heard(module: str, findings: Findings | None, match: Callable[[], Iterator[Match]]) -> list[Match]:
    """The matches of one module, or none and a problem noted, where that is asked for."""
    try:
        return list(match())
    except MisfitError as misfit:
        if findings is None:
            raise
        findings.problems.append(Problem(misfit.module or module, misfit.reason, misfit))
        return []


def _stacked(adapter: Adapter, factors: Factors, aligned: Alignment, patterns: LoraPatterns) -> Iterator[Match]:
    """Factors (experts, rank, d_in) and (experts, d_out, rank) of a module's experts; one of them may be shared."""
    container, _, leaf = factors.module.rpartition(".")
    counts = factors.A.shape[0], factors.B.shape[0]
    settings = patterns.settings(factors.module)
    for expert in range(max(counts)):
        module, W0 = base_matrix(adapter, f"{container}.{expert}.{leaf}", aligned)
        A, B = (
            StoredMatrix.of(tensor, expert=expert if count > 1 else 0)
            for tensor, count in zip((factors.A, factors.B), counts, strict=True)
        )
        _require_rank(adapter, factors.module, (A.shape[0], B.shape[1]), settings.rank)
        if (B.shape[0], A.shape[1]) != W0.shape:
            raise _shape_error(adapter, factors.module, (B.shape[0], A.shape[1]), W0)
        yield Match(module, W0, LoraChange(A, B, settings))


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
        raise MisfitError(
            f"'{adapter.file}' changes '{module}', and the base has no such matrix. Give the base that it was trained "
            "from with --base, or leave the module out with --exclude.",
            "not in the base",
        )
    return found


def _module_match(
    adapter: Adapter, factors: Factors, aligned: Alignment, patterns: LoraPatterns, findings: Findings | None
) -> Iterator[Match]:
    module, W0 = base_matrix(adapter, factors.module, aligned)
    targeted = any(f".{factors.module}.weight".endswith(f".{target}") for target in _targets(adapter))
    settings = patterns.settings(f"{factors.module}.weight" if targeted else factors.module)
    # An embedding's update is stored turned over: its A spans the vocabulary, which are the rows here.
    A = StoredMatrix.of(factors.B if factors.is_embedding else factors.A, transposed=factors.is_embedding)
    B = StoredMatrix.of(factors.A if factors.is_embedding else factors.B, transposed=factors.is_embedding)
    _require_rank(adapter, factors.module, (A.shape[0], B.shape[1]), settings.rank)
    shape = B.shape[0], A.shape[1]
    if findings is not None and aligned.is_tied(module):
        findings.known[module] = "tied to the input embedding, which is its W0; name it with --include to compare it"
    if findings is not None and shape != W0.shape and _is_resized(module, shape, W0, factors):
        rows = min(shape[0], W0.shape[0])
        findings.known[module] = resized(shape[0], W0.shape[0])
        W0, B = W0.take(((0, rows),)), B.take(((0, rows),))
    elif shape != W0.shape:
        raise _shape_error(adapter, factors.module, shape, W0, module)
    trained = LoraChange(A, B, settings)
    change: Change = trained
    if factors.magnitude is not None:
        change = _dora(adapter, factors, trained, W0)
    elif adapter.config.get("use_dora"):
        raise AdapterError(
            f"'{factors.module}' in '{adapter.file}' lacks DoRA's lora_magnitude_vector. Save the adapter again."
        )
    yield Match(module, W0, change)


def _is_resized(module: str, shape: tuple[int, int], W0: StoredMatrix, factors: Factors) -> bool:
    """True for an embedding or a head whose vocabulary was resized: the rows differ, and nothing else does."""
    return layer_of(module) is None and shape[1] == W0.shape[1] and factors.magnitude is None


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
        raise MisfitError(
            f"The factors of '{module}' in '{adapter.file}' have ranks {stored[0]} (A) and {stored[1]} (B), and its "
            f"configuration says {rank}, so that its scaling is not known (peft's add_weighted_adapter loses a "
            "rank_pattern, for instance). Add rank_pattern and alpha_pattern to the configuration.",
            "its factors and its configuration disagree about the rank",
        )


def _shape_error(
    adapter: Adapter, module: str, shape: tuple[int, int], W0: StoredMatrix, found: str | None = None
) -> MisfitError:
    return MisfitError(
        f"The factors of '{module}' in '{adapter.file}' update a {shape} matrix, and the base's is {W0.shape} "
        f"({W0.source}). Check that --base is the model it was trained from.",
        f"the adapter updates a {shape} matrix, and the base's is {W0.shape}",
        found,
    )


def unknown_modules(adapter: Adapter, aligned: Alignment) -> list[str]:
    """The modules with factors that the base knows under no prefix."""
    return [
        factors.module
        for factors in lora_factors(adapter)
        if aligned.matrix(factors.module) is None
        and (len(factors.A.shape) < 3 or aligned.matrix(_first_expert(factors.module)) is None)
        and aligned.matrix(f"{factors.module}.in_proj_weight") is None
        and not targeted_parameters(adapter, container_of(factors.module)[0])
    ]


def _first_expert(module: str) -> str:
    container, _, leaf = module.rpartition(".")
    return f"{container}.0.{leaf}"
