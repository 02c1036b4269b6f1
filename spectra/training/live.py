"""A model in training as a checkpoint pair: W0 and what training has made of it so far, matched as files are.

What W0 is read from:

- an adapter on a frozen base: the base's weights in the model, nothing is copied;
- `base`, if it is given: the published checkpoint's file, matrix by matrix, nothing is copied;
- full fine-tuning, or an adapter whose initialisation changed the base (PiSSA, OLoRA, ...), without `base`: a copy of
  the compared matrices in a temporary file, made before the first step.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from spectra.errors import ModelError
from spectra.records.selection import Selection
from spectra.weights import CheckpointPair
from spectra.weights.adapter_pair import aligned_with, subtracting
from spectra.weights.formats.checkpoint import Checkpoint, open_checkpoint
from spectra.weights.formats.hub import locate
from spectra.weights.formats.memory import MEMORY, TensorInMemory
from spectra.weights.formats.stored import StoredTensor
from spectra.weights.full_pair import open_full_pair
from spectra.weights.matching.catalogue import Catalogue, catalogue
from spectra.weights.matching.matching import Match, assemble
from spectra.weights.matching.names import canonical_names
from spectra.weights.matching.selection import reason_to_skip
from spectra.weights.methods.adapter import Adapter
from spectra.weights.methods.changes import LoraChange
from spectra.weights.methods.lora import is_plain, lora_matches
from spectra.weights.methods.mutated import mutating_init
from spectra.weights.methods.others import peft_matches, saved_whole

PREFIX = "base_model.model."


class LiveWeights:
    """The compared matrices of a model in training.

    Make it before the first step: it then knows what the model started from.
    """

    def __init__(self, model: nn.Module, base: str | Path | None, chosen: Selection) -> None:
        """Learn what W0 is.

        Args:
            model: The model as it is about to be trained, adapters attached, not wrapped for several devices.
            base: The published checkpoint W0 is read from; None takes it from the model itself.
            chosen: Which matrices.

        Raises:
            ModelError: If the weights are divided among processes.
            CheckpointError: If `base` cannot be read.
        """
        _require_whole(model)
        self.base = str(base or getattr(model.config, "_name_or_path", "") or "the model as it was before training")
        self._chosen = chosen
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._initial: dict[str, Tensor] = {}
        is_adapter = hasattr(model, "peft_config")
        changed = is_adapter and mutating_init(_adapter(model).config) is not None
        if changed:
            self._initial = {name: tensor.read().clone() for name, tensor in _adapter(model).tensors.items()}
        if base is not None:
            self._book = catalogue(open_checkpoint(locate(base, role="base")))
        elif is_adapter and not changed:
            self._book = _book(model)
        else:
            self._book = self._copied(model)

    @property
    def copied_bytes(self) -> int:
        """Size of the temporary copy of W0; 0 where none was needed."""
        return sum(file.stat().st_size for file in Path(self._copy.name).iterdir()) if self._copy else 0

    def pair(self, model: nn.Module) -> CheckpointPair:
        """W0 beside the weights as they stand; only names are matched here."""
        if not hasattr(model, "peft_config"):
            return open_full_pair(self.base, str(MEMORY), self._book, _book(model), self._chosen)
        adapter = _adapter(model)
        aligned = aligned_with(adapter, self._book)
        matches = lora_matches(adapter, aligned) if is_plain(adapter) else peft_matches(adapter, aligned)
        if self._initial:
            before = {m.module: m.change for m in lora_matches(_with(adapter, self._initial), aligned)}
            matches = [subtracting(match, before.get(match.module), adapter) for match in matches]
        whole, unmatched = saved_whole(adapter, self._book, aligned, {})
        assembly = assemble(self._book, [*matches, *whole], self._chosen, untouched="not changed by this adapter")
        return CheckpointPair(
            self.base,
            str(MEMORY),
            "adapter",
            adapter.peft_type.lower(),
            assembly.matrices,
            (*assembly.skipped, *unmatched),
            coverage=assembly.coverage,
        )

    def _copied(self, model: nn.Module) -> Catalogue:
        """W0 of the compared matrices in a temporary file; an adapter's initialisation is undone."""
        live = _book(model)
        names = canonical_names(list(live.matrices))
        kept = {
            module: matrix
            for module, matrix in live.matrices.items()
            if reason_to_skip(self._chosen, names[module], has_blocks=live.has_blocks) is None
        }
        tensors = {block.tensor.name: block.tensor.read() for matrix in kept.values() for block in matrix.blocks}
        if hasattr(model, "peft_config"):
            adapter = _adapter(model)
            for match in lora_matches(adapter, aligned_with(adapter, live)):
                tensors[match.W0.blocks[0].tensor.name] = _before_initialisation(match)
        self._copy = tempfile.TemporaryDirectory(prefix="spectra-W0-")
        file = Path(self._copy.name) / "model.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
        opened = open_checkpoint(file)
        return catalogue(Checkpoint(self.base, opened.tensors, live.checkpoint.config))


def _before_initialisation(match: Match) -> Tensor:
    """W0 + scaling * B_init @ A_init, as stored: what PiSSA and its kin took out is put back."""
    if not isinstance(match.change, LoraChange):
        raise ModelError(
            f"The initialisation of '{match.module}' changed its base under a change that is no plain LoRA. "
            "Name the published checkpoint with base=."
        )
    W0 = match.change.tuned(match.W0, torch.float32, "cpu").to(match.W0.dtype)
    return W0.mH if match.W0.blocks[0].transposed else W0


def _adapter(model: Any) -> Adapter:
    """The active adapter of a peft model, as if it had been saved just now."""
    from peft import get_peft_model_state_dict

    name = model.active_adapters[0]
    config = {key: value for key, value in model.peft_config[name].to_dict().items() if key != "runtime_config"}
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    tensors = {key.removeprefix(PREFIX): TensorInMemory.of(key, value) for key, value in state.items()}
    return Adapter(MEMORY, json.loads(json.dumps(config, default=list)), tensors, MEMORY)


def _with(adapter: Adapter, tensors: Mapping[str, Tensor]) -> Adapter:
    """The same adapter with other tensors."""
    held = {name: TensorInMemory.of(name, tensor) for name, tensor in tensors.items()}
    return Adapter(adapter.path, adapter.config, held, adapter.file)


def _book(model: Any) -> Catalogue:
    """The weights of a model's own layers under the names of its checkpoint, adapters left out."""
    wrapped = hasattr(model, "peft_config")
    base = model.get_base_model() if wrapped else model
    skipped = (model.base_model.prefix, "modules_to_save") if wrapped else ()
    tensors = {tensor.name: tensor for tensor in _tensors(base, skipped)}
    return catalogue(Checkpoint(str(MEMORY), tensors, base.config.to_dict()))


def _tensors(base: nn.Module, skipped: tuple[str, ...]) -> Iterator[StoredTensor]:
    modules = dict(base.named_modules())
    for name, parameter in base.named_parameters():
        if skipped and any(part.startswith(skipped) for part in name.split(".")):
            continue
        plain = name.replace(".base_layer.", ".").replace(".original_module.", ".")
        if hasattr(parameter, "quant_state") or hasattr(parameter, "SCB"):
            yield _dequantised(plain, modules[name.rpartition(".")[0]])
        else:
            yield TensorInMemory.of(plain, parameter)


def _dequantised(name: str, layer: Any) -> TensorInMemory:
    """A weight that bitsandbytes holds in 4 or 8 bits; W0 is what the layer computes with."""
    from peft.utils.integrations import dequantize_module_weight

    shape = (layer.out_features, layer.in_features)
    return TensorInMemory(
        name, shape, torch.float32, lambda: dequantize_module_weight(layer).detach().float().reshape(shape)
    )


def _require_whole(model: nn.Module) -> None:
    """Refuse weights that FSDP or ZeRO-3 have divided among processes."""
    for name, parameter in model.named_parameters():
        divided = hasattr(parameter, "ds_id") or type(parameter.data).__name__ == "DTensor"
        if divided or "_flat_param" in name or "_fsdp_wrapped_module" in name:
            raise ModelError(
                f"'{name}' is divided among processes in a way that cannot be gathered here, so no process holds "
                "W_tuned. Use FSDP2 by `accelerate launch`, or remove SpectraCallback and scan saved checkpoints with "
                "`spectra intruders`."
            )
