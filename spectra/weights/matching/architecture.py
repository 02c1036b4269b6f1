"""What transformers knows of a family: the module that owns a stored tensor, and how loading turns or renames it.

transformers is imported only when something asks: where the file itself does not tell how a tensor is laid out, or
where the two sides use different names. The model is built without weights.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import nn

from spectra.errors import CheckpointError
from spectra.weights.kernels import without_kernels
from spectra.weights.matching.proportion import require_countable


def build_errors(*further: type[Exception]) -> tuple[type[Exception], ...]:
    """What transformers raises for a configuration that it cannot build; it has no common error. And `further` ones.

    A function, so that the hub's client is imported where something failed, and not by every reader of a checkpoint.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return (
        *further,
        *(NotImplementedError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, IndexError),
        *(ImportError, ZeroDivisionError, AssertionError, StrictDataclassError, SafetensorError),
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the advice of transformers and peft about configurations and trees of modules to themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Architecture:
    """The model of a config.json, built without weights when it is first asked about."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Keep the configuration; nothing is imported yet.

        Args:
            config: The content of config.json; empty when there is none.
        """
        self.config = config

    @cached_property
    def model(self) -> nn.Module | None:
        """The model without weights, or None where the installed transformers cannot build it."""
        return skeleton(self.config)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """All modules under their names in memory, as the model registers them."""
        return () if self.model is None else tuple(name for name, _ in self.model.named_modules())

    def memory_names(self, modules: Sequence[str]) -> Mapping[str, str]:
        """Names in memory of modules of the file, where the two differ one to one: from memory to file."""
        if self.model is None:
            return {}
        renamed: dict[str, list[str]] = {}
        for module in modules:
            renamed.setdefault(self._in_memory(f"{module}.weight").removesuffix(".weight"), []).append(module)
        return {new: old[0] for new, old in renamed.items() if len(old) == 1 and new != old[0]}

    def owner(self, tensor_name: str) -> nn.Module | None:
        """The module that owns a tensor of the file."""
        if self.model is None:
            return None
        path = self._in_memory(tensor_name).rpartition(".")[0]
        try:
            return self.model.get_submodule(path)
        except AttributeError:
            return None

    def is_conv1d(self, tensor_name: str) -> bool | None:
        """True where the owner keeps its weight (d_in, d_out), as transformers' Conv1D; None where nothing is known."""
        owner = self.owner(tensor_name)
        return None if owner is None else type(owner).__name__ == "Conv1D"

    def experts_transposed(self, tensor_name: str, shape: tuple[int, ...]) -> bool | None:
        """True where a tensor of experts is stored (experts, d_in, d_out); None where nothing is known.

        The module says how it holds its experts, and the conversions whether loading turns them.
        """
        owner = self.owner(tensor_name)
        held = None if owner is None else _held_transposed(owner)
        if owner is None or held is None:
            return None
        turned = False
        for operation in self._operations(tensor_name):
            if type(operation).__name__ == "Transpose" and {operation.dim0, operation.dim1} == {1, 2}:
                parameter = getattr(owner, self._in_memory(tensor_name).rpartition(".")[2], None)
                same = parameter is not None and tuple(parameter.shape) == shape
                turned ^= not (operation.check_dims and same)
        return held ^ turned

    def alternating(self, tensor_name: str) -> bool | None:
        """True where rows of gate and up alternate in a fused tensor of experts; None where nothing is known."""
        owner = self.owner(tensor_name)
        concatenated = getattr(owner, "is_concatenated", None) if owner is not None else None
        if concatenated is None:
            return None if owner is None else False
        interleaved = sum(type(operation).__name__ == "Interleave" for operation in self._operations(tensor_name))
        return (not concatenated) ^ bool(interleaved % 2)

    def is_grouped(self, tensor_name: str) -> bool:
        """True for a convolution whose groups of channels do not see each other."""
        return getattr(self.owner(tensor_name), "groups", 1) not in (1, None)

    @cached_property
    def _conversions(self) -> tuple[list[Any], list[Any]]:
        """Renamings and converters that transformers applies while it loads this model."""
        try:
            from transformers.conversion_mapping import get_model_conversion_mapping
            from transformers.core_model_loading import WeightConverter, WeightRenaming
        except ImportError:  # transformers 4 converts nothing
            return [], []
        entries: list[Any] = get_model_conversion_mapping(self.model)  # type: ignore[arg-type]
        return (
            [entry for entry in entries if isinstance(entry, WeightRenaming)],
            [entry for entry in entries if isinstance(entry, WeightConverter)],
        )

    @cached_property
    def _parameters(self) -> Mapping[str, Any]:
        return {} if self.model is None else self.model.state_dict()

    def _in_memory(self, tensor_name: str) -> str:
        """The name that a tensor of the file has in memory; of several that it goes into, the first."""
        renamings, converters = self._conversions
        if not renamings and not converters:
            return self._with_prefix(tensor_name)
        from transformers.core_model_loading import rename_source_key

        return self._with_prefix(rename_source_key(tensor_name, renamings, converters)[0])

    def _with_prefix(self, name: str) -> str:
        """The name with the model's own prefix added or taken off, where that makes it known."""
        prefix = getattr(self.model, "base_model_prefix", "")
        if not prefix or name in self._parameters:
            return name
        for other in (name.removeprefix(f"{prefix}."), f"{prefix}.{name}"):
            if other in self._parameters:
                return other
        return name

    def _operations(self, tensor_name: str) -> Sequence[Any]:
        """What loading does to a tensor of the file."""
        renamings, converters = self._conversions
        if not converters:
            return ()
        from transformers.core_model_loading import apply_renamings

        renamed = apply_renamings(tensor_name, renamings)
        return next((entry.operations for entry in converters if entry.rename_source_key(renamed)[1] is not None), ())


def _held_transposed(experts: nn.Module) -> bool | None:
    """How a module holds the matrices of its experts: by its own word, else by which of their axes fit together."""
    said = getattr(experts, "is_transposed", None)
    if said is not None:
        return bool(said)
    shapes = {name: tuple(parameter.shape) for name, parameter in experts.named_parameters(recurse=False)}
    fused, down = shapes.get("gate_up_proj", ()), shapes.get("down_proj", ())
    if (len(fused), len(down)) == (3, 3):
        return fits_transposed(fused, down)
    sizes = getattr(experts, "output_size", None), getattr(experts, "input_size", None)
    weight = shapes.get("weight", ())
    if len(weight) == 3 and None not in sizes and sizes[0] != sizes[1]:
        return weight[1:] != sizes
    return False if len(weight) == 3 else None


def fits_transposed(fused: tuple[int, ...], down: tuple[int, ...]) -> bool | None:
    """Whether (experts, a, b) of gate_up and down are stored (d_in, d_out): only one way round do they fit.

    Args:
        fused: Shape of gate over up, whose d_out is twice the d_in of down.
        down: Shape of down.
    """
    plain = (fused[1], fused[2]) == (2 * down[2], down[1])
    turned = (fused[2], fused[1]) == (2 * down[1], down[2])
    return None if plain == turned else turned


def skeleton(config: Mapping[str, Any]) -> nn.Module | None:
    """The model of a config.json without any weights, or None when the installed transformers cannot build it."""
    if not config.get("architectures") and not config.get("model_type"):
        return None
    import transformers

    config = without_kernels(config)
    try:
        require_countable(config, "the checkpoint")
        named = [getattr(transformers, str(name), None) for name in config.get("architectures") or ()]
        with quietly(), torch.device("meta"):
            for model_class in named:
                if model_class is not None:
                    return model_class(model_class.config_class.from_dict(dict(config)))
            known = transformers.CONFIG_MAPPING[str(config.get("model_type"))].from_dict(dict(config))
            return transformers.AutoModel.from_config(known)
    except build_errors(CheckpointError):
        return None
