"""What a full fine-tuning changed beside the matrices that get factors: heads, norms, biases, embeddings."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spectra.errors import CheckpointError, SpectrumError, first_five
from spectra.records.verdicts import Skipped
from spectra.weights import MatrixPair
from spectra.weights.formats.checkpoint import Checkpoint
from spectra.weights.formats.stored import CHUNK_BYTES, StoredTensor
from spectra.weights.matching.names import EMBEDDING, without_wrappers
from spectra.weights.methods.adapter import PREFIX

HEADS, NORMS, BIASES, EMBEDDINGS, OTHERS = "heads", "norms", "biases", "embeddings", "others"
# Kinds that are saved on request; a head that the base lacks is always saved.
KINDS = (NORMS, BIASES, EMBEDDINGS, OTHERS)


@dataclass(frozen=True, eq=False)
class Outside:
    """What an adapter holds beside factors.

    Attributes:
        modules: For `modules_to_save`.
        tensors: What is saved of them, by name.
        bias_changes: b_tuned - b_base by module, for `lora_bias`.
        left_behind: What changed and is not saved, and why.
    """

    modules: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    bias_changes: Mapping[str, Tensor]
    left_behind: tuple[Skipped, ...]


def chosen_kinds(words: Sequence[str]) -> frozenset[str]:
    """Kinds of modules to save, by name; "all" is all of them.

    Raises:
        SpectrumError: If a word is no kind.
    """
    if unknown := [word for word in words if word not in (*KINDS, "all")]:
        raise SpectrumError(f"'{unknown[0]}' is no kind of module to save. Choose among all, {', '.join(KINDS)}.")
    return frozenset(KINDS if "all" in words else words)


def outside(
    tuned: Checkpoint,
    base: Checkpoint,
    matrices: Sequence[MatrixPair],
    adapted: Mapping[str, str],
    kinds: frozenset[str],
) -> Outside:
    """Sort what else changed into what is saved whole and what is left behind.

    Args:
        tuned: The tuned checkpoint.
        base: Its base.
        matrices: Matched matrices, whose names tell how names of the two correspond.
        adapted: Modules with factors, by the names of their weights in the tuned checkpoint.
        kinds: What to save beside heads.
    """
    counterpart = _counterparts(tuned, base, matrices)
    known = {name for name in tuned.tensors if counterpart.get(name) is not None}
    saved: dict[str, list[str]] = {}
    bias_changes: dict[str, Tensor] = {}
    left: list[Skipped] = []
    for name, tensor in tuned.tensors.items():
        if name in adapted or not tensor.dtype.is_floating_point:
            continue
        other = counterpart.get(name)
        if other is None:
            saved.setdefault(_head_of(name, known), [])
            continue
        if other.shape != tensor.shape:
            left.append(Skipped(name, f"its shape is {tuple(tensor.shape)}, and {tuple(other.shape)} in the base"))
            continue
        change = _relative_change(tensor, other)
        if not change:
            continue
        module, _, leaf = name.rpartition(".")
        kind = _kind(name, tensor, tuned)
        if kind not in kinds:
            left.append(Skipped(name, f"changed by {change:.2g} of its norm; save it with modules_to_save: {kind}"))
        elif kind == BIASES and module in adapted.values():
            bias_changes[module] = tensor.read().float() - other.read().float()
        else:
            saved.setdefault(module, []).append(leaf)
    return _collected(tuned, saved, bias_changes, left, tuple(adapted.values()))


def _collected(
    tuned: Checkpoint,
    saved: Mapping[str, Sequence[str]],
    bias_changes: Mapping[str, Tensor],
    left: list[Skipped],
    adapted: Sequence[str],
) -> Outside:
    """The tensors of the modules to save; a module that holds factors, or lies in another one, is not saved itself."""
    modules, tensors = [], {}
    for module in saved:
        if any(module.startswith(f"{other}.") for other in saved):
            continue
        if inner := [name for name in adapted if name == module or name.startswith(f"{module}.")]:
            left.append(Skipped(module, f"holds '{inner[0]}', which has factors, and peft cannot save it beside them"))
            continue
        modules.append(_plain(module))
        for name, tensor in tuned.tensors.items():
            if name.startswith(f"{module}."):
                data = tensor.read()
                if not bool(data.isfinite().all()):
                    raise CheckpointError(f"'{name}' in '{tensor.path}' holds NaN or infinity. Check the training run.")
                tensors[_plain(name)] = data
    return Outside(tuple(modules), tensors, bias_changes, tuple(left))


def _counterparts(
    tuned: Checkpoint, base: Checkpoint, matrices: Sequence[MatrixPair]
) -> Mapping[str, StoredTensor | None]:
    """The base's tensor for each tensor of the tuned checkpoint, whatever prefixes either has."""
    leads = Counter(_leads(matrix.home.blocks[0].tensor.name, matrix.W0.blocks[0].tensor.name) for matrix in matrices)
    ordered = [lead for lead, _ in leads.most_common()]
    found: dict[str, StoredTensor | None] = {}
    for name in tuned.tensors:
        names = (f"{theirs}{name.removeprefix(ours)}" for ours, theirs in ordered if name.startswith(ours))
        found[name] = next((base.tensors[other] for other in names if other in base.tensors), base.tensors.get(name))
    return found


def _leads(ours: str, theirs: str) -> tuple[str, str]:
    """What stands before the part that two names have in common at their ends."""
    mine, other = ours.split("."), theirs.split(".")
    while mine and other and mine[-1] == other[-1]:
        mine.pop()
        other.pop()
    return "".join(f"{part}." for part in mine), "".join(f"{part}." for part in other)


def _head_of(name: str, known: set[str]) -> str:
    """The outermost module of a tensor that the base lacks as a whole."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        module = ".".join(parts[:length])
        if not any(other.startswith(f"{module}.") for other in known):
            return module
    return ".".join(parts[:-1])


def _kind(name: str, tensor: StoredTensor, tuned: Checkpoint) -> str:
    module = name.rpartition(".")[0]
    if EMBEDDING.search(module):
        return NORMS if len(tensor.shape) < 2 else EMBEDDINGS
    weight = tuned.tensors.get(f"{module}.weight")
    if len(tensor.shape) == 1 and (weight is None or len(weight.shape) == 1):
        return NORMS
    return BIASES if name.endswith(".bias") else OTHERS


def _relative_change(tensor: StoredTensor, other: StoredTensor) -> float:
    """||tuned - base|| / ||base||, some rows at a time; 0 where nothing changed.

    Raises:
        CheckpointError: If a number is not finite.
    """
    changed = total = 0.0
    for mine, theirs in _rows(tensor, other):
        if not bool(mine.isfinite().all()):
            raise CheckpointError(f"'{tensor.name}' in '{tensor.path}' holds NaN or infinity. Check the training run.")
        changed += float((mine.double() - theirs.double()).square().sum())
        total += float(theirs.double().square().sum())
    return (changed / max(total, 1e-300)) ** 0.5


def _rows(tensor: StoredTensor, other: StoredTensor) -> Iterator[tuple[Tensor, Tensor]]:
    if len(tensor.shape) < 2:
        yield tensor.read(), other.read()
        return
    step = max(1, CHUNK_BYTES * tensor.shape[0] // max(1, tensor.nbytes))
    for start in range(0, tensor.shape[0], step):
        stop = min(start + step, tensor.shape[0])
        yield tensor.read_rows(start, stop), other.read_rows(start, stop)


def _plain(name: str) -> str:
    """A name as peft's models have it: without trainers' wrappers."""
    return without_wrappers(name).removeprefix(PREFIX)


def bias_tensors(
    outer: Outside, modules: Mapping[str, int], biased: set[str]
) -> tuple[dict[str, Tensor], list[Skipped]]:
    """The changes of biases as biases of lora_B, one for every module with factors, as peft wants them.

    Args:
        outer: With the changes.
        modules: d_out of every module with factors.
        biased: Those of them that have a bias.

    Returns:
        Tensors by name; and what is left behind where a module has no bias, to which peft could not merge one.
    """
    if not outer.bias_changes:
        return {}, []
    if bare := sorted(set(modules) - biased):
        reason = (
            f"peft keeps changes of biases for all modules with factors or for none, and {first_five(bare)} has none"
        )
        return {}, [Skipped(f"{module}.bias", reason) for module in outer.bias_changes]
    return {
        f"{module}.lora_B.bias": outer.bias_changes.get(module, torch.zeros(d_out)) for module, d_out in modules.items()
    }, []
