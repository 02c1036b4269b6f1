"""An adapter with some of its factors exchanged: tensors and configuration as peft reads them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import AdapterError
from spectra.linalg.operators import LowRankUpdate
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.methods.adapter import LORA_KEY, SAVED, Adapter, lora_factors, without_adapter
from spectra.weights.methods.changes import LoraChange
from spectra.weights.methods.lora import is_plain
from spectra.weights.methods.mutated import mutating_init
from spectra.weights.methods.scaling import LoraSettings, exact_patterns


@dataclass(frozen=True, eq=False)
class ExchangedFactors:
    """The factors of one module, to be written in place of those that the adapter holds.

    Attributes:
        change: Where the present ones lie.
        update: The new ones; its scaling is the module's present one.
    """

    change: LoraChange
    update: LowRankUpdate

    @property
    def module(self) -> str:
        """The module under the adapter's own name, as peft matches patterns against it."""
        return module_of(self.change)


def require_editable(adapter: Adapter) -> None:
    """Refuse an adapter whose tuned matrix is not W0 + scaling * B @ A with factors of its own.

    Raises:
        AdapterError: With the reason.
    """
    config, reason = adapter.config, None
    if config.get("use_dora"):
        reason = "a DoRA adapter, which rescales every row of W0 + B A, so that adding to B A edits no singular value"
    elif not is_plain(adapter):
        reason = f"a {adapter.peft_type} adapter of a kind whose update is not scaling * B A"
    elif init := mutating_init(config):
        reason = f"initialised with '{init}', which peft repeats on the base at every load, at the rank it then finds"
    elif config.get("target_parameters"):
        reason = "a LoRA on bare parameters (target_parameters), whose experts share the rank"
    if reason is not None:
        raise AdapterError(f"'{adapter.path}' is {reason}. Give a plain LoRA, or convert it to one with peft.")


def module_of(change: LoraChange) -> str:
    """The adapter's own name of the module whose factors these are."""
    name = change.A.blocks[0].tensor.name.removeprefix("base_model.model.")
    key = LORA_KEY.match(name)
    if key is None:
        raise ValueError(f"'{name}' is no factor")
    return key["module"]


def edited_tensors(adapter: Adapter, exchanged: Sequence[ExchangedFactors]) -> dict[str, Tensor]:
    """All tensors of the adapter, the exchanged factors in their places and everything else as it is.

    Factors of a dtype coarser than float32 are exchanged for float32 ones: peft trains and loads them so, and the
    edit would otherwise be rounded to two or three digits.
    """
    new: dict[str, Tensor] = {}
    for each in exchanged:
        for stored, factor in ((each.change.A, each.update.A), (each.change.B, each.update.B)):
            new[stored.blocks[0].tensor.name] = _as_stored(stored, factor)
    tensors = {}
    saved = {without_adapter(name) for name in adapter.tensors if SAVED.search(name)}
    for name, tensor in adapter.tensors.items():
        key = LORA_KEY.match(name)
        if saved and SAVED.search(name):
            tensors[without_adapter(name)] = tensor.read()
        elif without_adapter(name) in saved:
            continue  # the module as it was before training
        elif key is None or key["adapter"] in (None, adapter.name):
            plain = name if key is None else ".".join(filter(None, (key["module"], key["kind"], key["part"])))
            tensors[plain] = new[tensor.name] if tensor.name in new else tensor.read()
    return tensors


def edited_config(adapter: Adapter, exchanged: Sequence[ExchangedFactors]) -> dict[str, Any]:
    """The configuration with rank and alpha of every module whose rank changed, so that its scaling stays.

    New entries come first, because the first pattern that matches wins, and match no other module.
    """
    keys = exact_patterns([factors.module for factors in lora_factors(adapter)])
    changed = [each for each in exchanged if each.update.rank != each.change.settings.rank]
    ranks = {keys[each.module]: each.update.rank for each in changed}
    alphas = {keys[each.module]: alpha_of(each.change.settings, each.update.rank) for each in changed}
    return {
        **adapter.config,
        "rank_pattern": _first(ranks, adapter.config.get("rank_pattern")),
        "alpha_pattern": _first(alphas, adapter.config.get("alpha_pattern")),
        # Loading overwrites every factor; an initialisation such as "orthogonal" would refuse an odd rank before.
        "init_lora_weights": True,
    }


def _first(new: Mapping[str, Any], present: Mapping[str, Any] | None) -> dict[str, Any]:
    """Both patterns, the new one in front and in force where they share an entry (an adapter treated twice)."""
    return {**new, **{key: value for key, value in (present or {}).items() if key not in new}}


def alpha_of(settings: LoraSettings, rank: int) -> float | int:
    """The alpha that keeps the scaling at another rank: scaling * rank, or scaling * sqrt(rank) for rsLoRA."""
    alpha = settings.scaling * (math.sqrt(rank) if settings.rank_stabilised else rank)
    return int(alpha) if float(alpha).is_integer() else alpha


def factor_dtype(change: LoraChange) -> torch.dtype:
    """float32, or the factors' own dtype where it is finer."""
    return torch.promote_types(torch.float32, torch.promote_types(change.A.dtype, change.B.dtype))


def _as_stored(stored: StoredMatrix, factor: Float[Tensor, "rows columns"]) -> Tensor:
    """A factor in the layout of the one it replaces: turned for an embedding, with a convolution's trailing axes."""
    block = stored.blocks[0]
    if block.transposed:
        return factor.mT.contiguous()
    return factor.reshape(factor.shape[0], -1, *block.tensor.shape[2:]).contiguous()
