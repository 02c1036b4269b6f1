"""Which modules of a model an adapter sits on, and which belong to the new task head.

Adapters sit on linear layers of the numbered blocks only, as in the paper: no embeddings, no heads.
"""

import re
from collections.abc import Sequence

from torch import nn

from spectra.errors import ModelError, first_five

# Modules of a task head, by the last part of their name. They are trained in full by every method. A pooler is one
# of them: it stands behind the blocks, and sequence classification feeds the head through it.
HEADS = ("classifier", "score", "pre_classifier", "pooler", "classification_head")

IN_A_BLOCK = re.compile(r"(?:^|\.)\d+\.")
ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
QUERY_OR_VALUE = {"q", "v", "query", "value", "q_proj", "v_proj", "q_lin", "v_lin"}
FUSED = {"c_attn", "query_key_value", "qkv_proj", "Wqkv", "qkv"}
GROUPS = ("all-linear", "attention", "qv")


def linear_modules(model: nn.Module) -> list[str]:
    """Names of the linear layers inside the numbered blocks, Conv1D included, in model order."""
    return [name for name, module in model.named_modules() if IN_A_BLOCK.search(name) and _is_linear(module)]


def target_pattern(model: nn.Module, target_modules: str | Sequence[str]) -> str:
    """A regular expression that matches exactly the modules asked for, whatever the number of the block.

    Args:
        model: The model before any adapter.
        target_modules: "all-linear", "attention", "qv", or last parts of module names.

    Raises:
        ModelError: If nothing matches, or one of the names given does not.
    """
    tails = sorted({IN_A_BLOCK.split(name)[-1] for name in targeted(model, target_modules)})
    return rf".*\.\d+\.(?:{'|'.join(re.escape(tail) for tail in tails)})"


def targeted(model: nn.Module, target_modules: str | Sequence[str]) -> list[str]:
    """Names of the modules that are asked for, as `target_pattern` takes them.

    Raises:
        ModelError: If nothing matches, or one of the names given does not.
    """
    linear = linear_modules(model)
    chosen = [name for name in linear if _belongs(name, target_modules)]
    missing = (
        []
        if isinstance(target_modules, str)
        else [wanted for wanted in target_modules if not any(_ends_with(name, wanted) for name in linear)]
    )
    if missing or not chosen:
        roles = sorted({name.rpartition(".")[2] for name in linear})
        raise ModelError(
            f"No linear layer inside the blocks of {type(model).__name__} matches target_modules "
            f"{first_five(missing or [target_modules])}. Choose among {', '.join((*GROUPS, *roles))}."
        )
    return chosen


def trainable_parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def is_transposed(model: nn.Module) -> bool:
    """True where the linear layers of the blocks are Conv1D (GPT-2), which stores (d_in, d_out)."""
    modules = dict(model.named_modules())
    return any(type(modules[name]).__name__ == "Conv1D" for name in linear_modules(model))


def head_modules(model: nn.Module) -> list[str]:
    """Names of the modules of the task head, outermost only; empty for a language model."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if not inside and not IN_A_BLOCK.search(name) and name.rpartition(".")[2] in HEADS and _has_parameters(module):
            found.append(name)
    return found


def _belongs(name: str, target_modules: str | Sequence[str]) -> bool:
    last = name.rpartition(".")[2]
    match target_modules:
        case "all-linear":
            return True
        case "attention":
            return bool(ATTENTION.search(IN_A_BLOCK.split(name)[-1])) or last in FUSED
        case "qv":
            return last in QUERY_OR_VALUE | FUSED
        case str():
            return _ends_with(name, target_modules)
        case _:
            return any(_ends_with(name, wanted) for wanted in target_modules)


def _ends_with(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
