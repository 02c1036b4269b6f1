"""An oracle beside the reader: load base and tuned model as their users do, and hold every matrix against it.

transformers and peft load both models; each matrix of the blocks is taken from the loaded modules, turned by the
module's own type, and nothing of this package's reading is used for it. A matrix that spectra reads must have, bit for
bit, the values of one of these, in the same layer, and its tuned matrix must be what the same module holds after
tuning. Both models pass through memory, one after
the other, and beside them one matrix at a time.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spectra.errors import CheckpointError
from spectra.records.selection import DEFAULT, Selection
from spectra.storage.json_file import read_object
from spectra.weights.formats.hub import locate
from spectra.weights.kernels import require_no_kernels
from spectra.weights.matching.architecture import build_errors, quietly
from spectra.weights.matching.names import EMBEDDING, layer_of
from spectra.weights.matching.proportion import require_countable, require_proportionate
from spectra.weights.methods.adapter import find_adapter
from spectra.weights.pair import CheckpointPair, MatrixPair

# Relative to ||W_tuned||_F: sums in float32 in another order; a wrong layout or scaling is far above.
TOLERANCE = 1e-5
EXPERT_NUMBER = re.compile(
    r"\.experts\.(\d+)\.|\.(\d+)\.(?:gate_up_proj|down_proj|up_proj|input_linear|output_linear|w1|v1|w2|weight)\b"
)


@dataclass(frozen=True)
class Checked:
    """One matrix beside the module that holds it.

    Attributes:
        name: spectra's name of the matrix, or "" for a module that spectra does not read.
        module: The module's name in the loaded model, or "" where none holds these values.
        error: ||W_tuned - that of the module||_F relative to the latter; None where it cannot be told.
        problem: What differs; "" when nothing does.
    """

    name: str
    module: str
    error: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Verification:
    """All matrices of the blocks, checked."""

    checked: tuple[Checked, ...]

    @property
    def differences(self) -> tuple[Checked, ...]:
        """Those with a problem."""
        return tuple(each for each in self.checked if each.problem)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object under "verification"."""
        return {
            "matrices": len(self.checked),
            "differences": len(self.differences),
            "checked": [asdict(each) for each in self.checked],
        }


def verify_checkpoint(pair: CheckpointPair, *, selection: Selection = DEFAULT) -> Verification:
    """Hold every matrix of an opened checkpoint against the models that transformers and peft load.

    Args:
        pair: The checkpoint beside its base, opened without `split_fused`.
        selection: How its files are found: `revision`, `base_revision`, `adapter_name` and `take`.

    Raises:
        CheckpointError: If the base is not known, or transformers or peft cannot load one of the two.
    """
    if pair.base is None:
        raise CheckpointError(f"'{pair.checkpoint}' cannot be verified without its base. Name it with --base.")
    if "inside" in pair.method:
        raise CheckpointError(
            f"'{pair.checkpoint}' holds LoRA factors inside a full checkpoint, which transformers cannot load. "
            "It cannot be verified."
        )
    path = locate(pair.checkpoint, selection.revision)
    adapter = find_adapter(path, selection.adapter_name, selection.take).adapter
    return verify(pair, locate(pair.base, selection.base_revision, role="base"), path, adapter)


def verify(pair: CheckpointPair, base: Path, tuned: Path, adapter: Path | None) -> Verification:
    """Hold every matrix of a pair against the models that transformers and peft load.

    Args:
        pair: The pair, opened without `split_fused`.
        base: Folder of the base.
        tuned: Folder of a full tuned checkpoint.
        adapter: Folder of the adapter; None for a full checkpoint.

    Raises:
        CheckpointError: If transformers or peft cannot load one of the two.
    """
    grids = {matrix.W0.rounded for matrix in pair.matrices} or {None}
    model = _loaded(base)
    before = {name: _digest(W()) for name, W in matrices_of(model)}
    index: dict[str, list[str]] = {}
    for name, W in matrices_of(model):
        for grid in grids:
            index.setdefault(_digest(_on(W(), grid)), []).append(name)
            index.setdefault(f"turned {_digest(_on(W().mT, grid))}", []).append(name)
    model = _merged(model, adapter) if adapter is not None else _loaded(tuned)
    after = dict(matrices_of(model))
    checked = [_check(matrix, index, after) for matrix in pair.matrices]
    reached = {re.sub(r"\.(gate|up)_half$", "", each.module) for each in checked}
    whole = pair.coverage is None or not pair.coverage.unselected
    for name, digest in before.items():
        if not whole or name in reached or name.endswith("_half"):
            continue
        if name not in after or _digest(after[name]()) != digest:
            checked.append(Checked("", name, problem="changed by tuning, and not compared"))
        elif pair.kind == "full":
            checked.append(Checked("", name, problem="not read"))
    return Verification(tuple(checked))


def _check(matrix: MatrixPair, index: Mapping[str, list[str]], after: Mapping[str, Callable[[], Tensor]]) -> Checked:
    """One matrix: where its W0 is found, and whether the same module holds its W_tuned."""
    name = str(matrix.name)
    digest = _digest(matrix.W0.load())
    candidates = index.get(digest, [])
    if not candidates:
        turned = index.get(f"turned {digest}", [])
        told = "W0 is read the other way round" if turned else "no module of the loaded base holds this W0"
        return Checked(name, turned[0] if turned else "", problem=told)
    placed = [module for module in candidates if _place(module) == _place(name)]
    if not placed:
        return Checked(name, candidates[0], problem="W0 is that of another layer or expert")
    best = Checked(name, placed[0], problem="the loaded tuned model lacks the module")
    for module in placed:
        if module not in after:
            continue
        expected, found = after[module](), matrix.W_tuned()
        if found.shape != expected.shape:
            told = f"W_tuned is {tuple(found.shape)}, the module's {tuple(expected.shape)}"
            best = Checked(name, module, problem=told)
            continue
        error = float((found - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float32).tiny))
        this = Checked(name, module, error, "" if error <= TOLERANCE else "W_tuned differs")
        if best.error is None or error < best.error:
            best = this
    return best


def matrices_of(model: nn.Module) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Every matrix of the numbered blocks of a loaded model, (d_out, d_in), by its name in memory."""
    for path, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            name = f"{path}.{leaf}".removesuffix(".weight")
            if parameter.ndim < 2 or layer_of(name) is None or EMBEDDING.search(name):
                continue
            yield from _of_parameter(module, leaf, name, parameter.detach())


def _of_parameter(module: Any, leaf: str, name: str, W: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    kind = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvNd):
        if module.groups == 1:
            yield name, partial(_plain, W.flatten(1))
    elif isinstance(module, nn.Embedding):
        return
    elif kind == "Conv1D":
        yield name, partial(_plain, W.T)
    elif kind == "DbrxExpertGLU":
        experts = W.view(module.moe_num_experts, module.ffn_hidden_size, module.hidden_size)
        yield from _per_expert(name.replace(".mlp.", "."), experts, turned=leaf == "w2")
    elif kind == "XLNetRelativeAttention":
        if leaf in ("q", "k", "v", "r", "o"):
            flat = W.flatten(1)
            yield name, partial(_plain, flat if leaf == "o" else flat.T)
    elif W.ndim == 3 and re.search(r"expert|moe", f"{name} {kind}", re.IGNORECASE) and "bias" not in leaf:
        turned = _is_turned(module, leaf, W)
        yield from _per_expert(name, W, turned=turned)
        if leaf == "gate_up_proj":
            yield from _halves(module, name, W.mT if turned else W)
    elif W.ndim == 2 and (leaf == "weight" or isinstance(module, nn.MultiheadAttention)):
        yield name, partial(_plain, W)


def _is_turned(module: nn.Module, leaf: str, W: Tensor) -> bool:
    """By the module's own word; else by the width of the model, which gate and up read and down writes."""
    said = getattr(module, "is_transposed", None)
    if said is not None:
        return bool(said)
    width = getattr(module, "hidden_size", None) or getattr(module, "hidden_dim", None)
    reads_model = leaf != "down_proj"
    return (
        leaf != "weight"
        and width is not None
        and W.shape[1 if reads_model else 2] == width != W.shape[2 if reads_model else 1]
    )


def _per_expert(name: str, W: Tensor, *, turned: bool) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    container, _, leaf = name.rpartition(".")
    for expert in range(W.shape[0]):
        one = W[expert]
        yield f"{container}.{expert}.{leaf}", partial(_plain, one.T if turned else one)


def _halves(module: nn.Module, name: str, W: Tensor) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """gate and up alone, for a checkpoint that keeps them apart."""
    container = name.rpartition(".")[0]
    rows = W.shape[1] // 2
    alternate = getattr(module, "is_concatenated", True) is False
    for expert in range(W.shape[0]):
        both = W[expert]
        for half, part in (("gate", 0), ("up", 1)):
            one = both[part::2] if alternate else both[part * rows : (part + 1) * rows]
            yield f"{container}.{expert}.gate_up_proj.{half}_half", partial(_plain, one)


def _plain(W: Tensor) -> Tensor:
    return W.float().contiguous()


def _place(name: str) -> tuple[int | None, str | None]:
    """Layer and expert."""
    expert = EXPERT_NUMBER.search(name)
    return layer_of(name), next((number for number in expert.groups() if number), None) if expert else None


def _on(W: Tensor, grid: torch.dtype | None) -> Tensor:
    return W if grid is None else W.to(grid).float()


def _digest(W: Tensor) -> str:
    """Of shape and values; zeros have one sign."""
    values = (W.float().contiguous() + 0.0).cpu().numpy()
    return hashlib.sha256(f"{tuple(W.shape)}".encode() + values.tobytes()).hexdigest()


def _loaded(folder: Path) -> nn.Module:
    """The model that the folder's config.json names, in float32."""
    import transformers

    folder = folder if folder.is_dir() else folder.parent
    config = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    require_no_kernels(config, str(folder))
    require_countable(config, str(folder))
    named = config.get("architectures")
    model_class = getattr(transformers, str(named[0]), None) if named and isinstance(named, list) else None
    try:
        with quietly():
            chosen: Any = model_class or transformers.AutoModel
            known = transformers.AutoConfig.from_pretrained(folder)
            require_proportionate(lambda: model_class(known) if model_class else chosen.from_config(known), folder)
            model: nn.Module = chosen.from_pretrained(folder, dtype=torch.float32)
            return model.eval()
    except build_errors(OSError) as error:
        raise CheckpointError(
            f"transformers cannot load '{folder}' ({str(error).splitlines()[0][:200]}). It cannot be verified."
        ) from error


def _merged(model: nn.Module, adapter: Path) -> nn.Module:
    """The model with the adapter merged by peft."""
    from peft import PeftModel

    try:
        with quietly():
            wrapped: Any = PeftModel.from_pretrained(model, adapter)
            merged: nn.Module = wrapped.merge_and_unload()
            return merged
    except build_errors(OSError) as error:
        raise CheckpointError(
            f"peft cannot merge '{adapter}' ({str(error).splitlines()[0][:200]}). It cannot be verified."
        ) from error
