"""Methods that only peft knows how to merge.

peft is imported inside the functions: plain LoRA, DoRA and full checkpoints never come here. peft's own layers are
built around one matrix at a time, in a tree of bare modules that carries the names of the real model, so that no
model is loaded and memory stays at one matrix.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spectra.errors import AdapterError
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.architecture import quietly
from spectra.weights.methods.adapter import CONFIG, Adapter
from spectra.weights.methods.bounded_patterns import require_bounded

# peft has no common error for "this cannot be merged"; these are the ones it raises.
PEFT_ERRORS = (NotImplementedError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError)

# Methods whose state is shared between matrices: by their configuration, where the file may lack the shared part.
SHARED_FIELDS = ("projection_prng_key", "projection_seed", "proj_seed")

# Methods that decompose all matrices together, so that no single one can be merged without the others' weights.
JOINT = {"FROD"}


@dataclass(eq=False)
class PeftMerger:
    """Merges one matrix at a time with peft's own code.

    Attributes:
        adapter: The adapter.
        matrices: The base's matrices that it changes, by the adapter's own module names.
    """

    adapter: Adapter
    matrices: Mapping[str, StoredMatrix]
    _shared: nn.Module | None = field(default=None, init=False)

    def merged(self, module: str, W0: Tensor) -> Tensor:
        """W_tuned of one module, from W0 in float32.

        Raises:
            AdapterError: If the installed peft cannot merge this adapter into a weight.
        """
        try:
            with quietly(), torch.no_grad():
                layer = self._layer(module, W0)
                layer.merge(safe_merge=True)
                return self._oriented(module, layer.get_base_layer().weight.data, W0)
        except PEFT_ERRORS as error:
            reason = str(error).split("\n")[0].rstrip(". ") or type(error).__name__
            raise AdapterError(
                f"peft cannot merge '{module}' of the {self.adapter.peft_type} adapter in '{self.adapter.path}' "
                f"({reason}). Merge it with peft into a full checkpoint and compare that."
            ) from error

    def _layer(self, module: str, W0: Tensor) -> Any:
        """peft's layer of one module, holding W0 and the adapter's tensors."""
        path = f"base_model.model.{module}"
        if self.adapter.peft_type in JOINT:
            weights = {name: matrix.load(torch.float32, W0.device) for name, matrix in self.matrices.items()}
            return self._model({**weights, module: W0}).get_submodule(path)
        if not self._has_shared_state():
            # Built around W0 itself, because some methods change the base when they are initialised.
            return self._model({module: W0}).get_submodule(path)
        if self._shared is None:
            self._shared = self._model(
                {name: _unallocated(matrix.shape, W0.device) for name, matrix in self.matrices.items()}
            )
        layer: Any = self._shared.get_submodule(path)
        # Merging happens in place: the tree gets a fresh weight each time and forgets that it merged before.
        layer.get_base_layer().weight = nn.Parameter(self._as_stored(module, W0), requires_grad=False)
        layer.merged_adapters = []
        return layer

    def _has_shared_state(self) -> bool:
        """True when matrices share trained or random state: all of them must then stand in the tree."""
        loose = any(_owner(name, self.matrices) is None for name in self.adapter.tensors)
        return loose or any(self.adapter.config.get(key) is not None for key in SHARED_FIELDS)

    def _model(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A peft model around bare modules with these weights, with the adapter's tensors loaded."""
        from peft import PeftModel, set_peft_model_state_dict

        root = nn.Module()
        for module, W in weights.items():
            parent = root
            *path, leaf = module.split(".")
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = getattr(parent, part)
            parent.add_module(leaf, self._bare(module, W))
        config = peft_config(self.adapter)
        if self.adapter.peft_type == "ADALORA" and config.rank_pattern:
            # Its keys are tensors, each of which peft looks up in the model.
            config.rank_pattern = {
                name: kept for name, kept in config.rank_pattern.items() if _owner(name, self.matrices) in weights
            }
        model = PeftModel(root, config, autocast_adapter_dtype=False)
        tensors = {
            name if name.startswith("base_model.") else f"base_model.model.{name}": tensor.read().to(_device(weights))
            for name, tensor in self.adapter.tensors.items()
            if (owner := _owner(name, self.matrices)) is None or owner in weights
        }
        set_peft_model_state_dict(model, {name: _computable(tensor) for name, tensor in tensors.items()})
        return model.eval()

    def _bare(self, module: str, W0: Tensor) -> nn.Module:
        """A layer of the kind that the base has, with W0 in its storage layout."""
        W = self._as_stored(module, W0)
        matrix = self.matrices[module]
        if W.ndim == 4:
            d_out, channels, *kernel = W.shape
            bare: nn.Module = nn.Conv2d(channels, d_out, (kernel[0], kernel[1]), bias=False, device="meta")
        elif matrix.blocks[0].transposed:
            from transformers.pytorch_utils import Conv1D

            with torch.device("meta"):
                bare = Conv1D(W.shape[1], W.shape[0])
            bare.bias = nn.Parameter(torch.zeros(W.shape[1], device=W.device), requires_grad=False)
        else:
            bare = nn.Linear(W.shape[1], W.shape[0], bias=False, device="meta")
        bare.weight = nn.Parameter(W, requires_grad=False)
        return bare

    def _as_stored(self, module: str, W: Tensor) -> Tensor:
        """(d_out, d_in) back in the layout that the model's own layer has."""
        block = self.matrices[module].blocks[0]
        if block.transposed:
            return W.mT
        shape = block.tensor.shape
        return W.reshape(shape) if len(shape) == 4 else W

    def _oriented(self, module: str, W: Tensor, W0: Tensor) -> Tensor:
        """A layer's weight as (d_out, d_in)."""
        return (W.mT if self.matrices[module].blocks[0].transposed else W).reshape(W0.shape).contiguous()


def peft_config(adapter: Adapter) -> Any:
    """peft's own configuration object for an adapter, fit for a bare tree of modules.

    Raises:
        AdapterError: If the installed peft does not know the kind, or refuses the configuration.
    """
    from peft import PeftConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    known = {str(kind.value) for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    if adapter.peft_type not in known:
        raise AdapterError(
            f"'{adapter.path}' is of the unknown kind '{adapter.peft_type}'. "
            "Install a peft that knows it, or merge it into a full checkpoint."
        )
    try:
        with quietly():
            stored = adapter.path.is_dir()  # a model in training has no folder, and its configuration is of this peft
            config = copy.deepcopy(
                PeftConfig.from_pretrained(str(adapter.path))
                if stored
                else PeftConfig.from_peft_type(**dict(adapter.config))
            )
    except PEFT_ERRORS as error:
        raise AdapterError(
            f"peft refuses the configuration of '{adapter.path}' ({error}). Save the adapter again with this peft."
        ) from error
    config.task_type = None
    config.inference_mode = True
    if getattr(config, "modules_to_save", None):
        config.modules_to_save = None
    return config


def has_target_modules(adapter: Adapter) -> bool:
    """True for kinds that change modules; prompt methods only add tokens or prefixes.

    Raises:
        AdapterError: If the installed peft does not know the kind.
    """
    return hasattr(peft_config(adapter), "target_modules")


def targeted_modules(adapter: Adapter, modules: Sequence[str]) -> list[str]:
    """The modules that a configuration targets, by peft's own matching."""
    from peft.tuners.tuners_utils import check_target_module_exists

    config = peft_config(adapter)
    require_bounded(adapter.config, modules, adapter.path / CONFIG)
    return [module for module in modules if check_target_module_exists(config, module)]


def _owner(name: str, matrices: Mapping[str, StoredMatrix]) -> str | None:
    """The module that a tensor of the adapter belongs to: the longest module name that begins its name."""
    parts = name.split(".")
    return next((module for cut in range(len(parts) - 1, 0, -1) if (module := ".".join(parts[:cut])) in matrices), None)


def _unallocated(shape: tuple[int, int], device: torch.device) -> Tensor:
    """A matrix of zeros that takes four bytes: it has a shape, and nothing may be written to it."""
    return torch.zeros((), device=device).expand(*shape)


def _device(weights: Mapping[str, Tensor]) -> torch.device:
    return next(iter(weights.values())).device


def _computable(tensor: Tensor) -> Tensor:
    """float32 for half-precision factors, as the merge is computed in float32."""
    return tensor.float() if tensor.is_floating_point() else tensor
