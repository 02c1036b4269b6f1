"""Full fine-tuning and the adapters: this table is the only difference between the methods of a sweep."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from spectra.errors import SpecificationError
from spectra.registry import Registry
from spectra.training.method import Arguments, Method, TaskType, lora_config
from spectra.training.modules import head_modules, is_transposed, target_pattern
from spectra.training.prevention import l2_init, max_norm, milora, oplora, replay, spectral_budget
from spectra.training.settings import TrainingSettings
from spectra.weights.methods.scaling import LoraSettings

if TYPE_CHECKING:
    from peft import PeftConfig

# Learning rate of B over that of A: Hayou et al. 2024 (LoRA+), section 4, recommend about 16.
LORA_PLUS_RATIO = 16.0


def _adalora(settings: TrainingSettings, shared: Arguments) -> "PeftConfig":
    """AdaLoRA: starts at 1.5 times the rank, prunes to it between a tenth and the last third of the steps."""
    from peft import AdaLoraConfig

    if settings.steps is None or settings.rank is None:
        raise SpecificationError("Method adalora plans its pruning by the step. Give steps instead of epochs.")
    given = {
        "init_r": max(settings.rank + 1, round(1.5 * settings.rank)),
        "tinit": settings.steps // 10,
        "tfinal": settings.steps // 3,
        "deltaT": max(1, settings.steps // 100),
        **settings.arguments,
    }
    return AdaLoraConfig(
        **{**shared, "target_r": settings.rank, "lora_alpha": settings.alpha, "total_step": settings.steps, **given}
    )


def _vera(settings: TrainingSettings, shared: Arguments) -> "PeftConfig":
    from peft import VeraConfig

    return VeraConfig(**{**shared, "r": settings.rank, "projection_prng_key": settings.seed, **settings.arguments})


def _passed_through(settings: TrainingSettings, shared: Arguments) -> "PeftConfig":
    """Any peft method: `peft_type` and its arguments as peft names them."""
    from peft import get_peft_config

    given = dict(settings.arguments)
    if settings.rank is not None:
        given.setdefault("r", settings.rank)
    if settings.alpha is not None:
        given.setdefault("lora_alpha" if given.get("peft_type") == "LORA" else "alpha", settings.alpha)
    shared = {
        key: value for key, value in shared.items() if key != "fan_in_fan_out" or given.get("peft_type") == "LORA"
    }
    try:
        return get_peft_config({**shared, **given})
    except (KeyError, TypeError, ValueError) as error:
        raise SpecificationError(
            f"peft refuses the arguments {dict(settings.arguments)} of method 'peft': {str(error).rstrip('.')}. "
            "Give peft_type and the fields of its configuration."
        ) from error


def _freeze_a(model: nn.Module) -> None:
    """Give A orthonormal rows (unit singular values) and freeze it, so that only B is trained."""
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            nn.init.orthogonal_(parameter)
            parameter.requires_grad_(False)


def _faster_b(name: str, settings: TrainingSettings) -> float:
    return float(settings.arguments.get("ratio", LORA_PLUS_RATIO)) if ".lora_B." in name else 1.0


METHODS: Registry[Method] = Registry(
    "spectra.training_methods",
    "training method",
    Method,
    (
        Method("full", "All weights are trained.", None, has_rank=False, has_alpha=False, has_arguments=False),
        Method("lora", "delta_W = alpha/r B A (Hu et al. 2021).", lora_config(), title="LoRA"),
        Method(
            "rslora",
            "delta_W = alpha/sqrt(r) B A (Kalajdzievski 2023).",
            lora_config(use_rslora=True),
            rank_stabilised=True,
            title="rsLoRA",
        ),
        Method("dora", "Magnitude and direction apart (Liu et al. 2024).", lora_config(use_dora=True), title="DoRA"),
        Method(
            "pissa",
            "Starts from the leading singular vectors of W0 (Meng et al. 2024).",
            lora_config(init_lora_weights="pissa"),
            title="PiSSA",
            changes_base=True,
        ),
        milora.METHOD,
        Method(
            "lora+",
            "B learns faster than A (Hayou et al. 2024).",
            lora_config(),
            rate_factor=_faster_b,
            title="LoRA+",
            own_arguments=("ratio",),
        ),
        Method(
            "frozen-a",
            "A has orthonormal rows and is frozen; B is trained.",
            lora_config(),
            prepare=_freeze_a,
            title="frozen-A",
        ),
        Method(
            "adalora",
            "Ranks move to the matrices that use them (Zhang et al. 2023).",
            _adalora,
            fixed_scaling=False,
            title="AdaLoRA",
        ),
        Method(
            "vera",
            "Shared random factors, trained scales (Kopiczko et al. 2024).",
            _vera,
            has_alpha=False,
            title="VeRA",
        ),
        oplora.METHOD,
        spectral_budget.METHOD,
        max_norm.METHOD,
        max_norm.FULL,
        l2_init.METHOD,
        l2_init.FULL,
        replay.METHOD,
        replay.FULL,
        Method(
            "peft",
            "Any peft method, with peft_type and its arguments passed through.",
            _passed_through,
            fixed_scaling=False,
            needs_rank=False,
        ),
    ),
)


def attach(model: nn.Module, settings: TrainingSettings, task_type: TaskType) -> nn.Module:
    """Make a freshly loaded base model trainable by the method of the settings.

    Args:
        model: The base model with its task head; adapters are put into it in place.
        settings: Method, rank, alpha, target modules.
        task_type: What peft calls the kind of model.

    Returns:
        The model to train; `requires_grad` tells what will be.
    """
    method = METHODS[settings.method]
    if method.config is None:
        return model.requires_grad_(True)
    from peft import get_peft_model

    shared: dict[str, Any] = {
        "target_modules": target_pattern(model, settings.target_modules),
        "modules_to_save": head_modules(model) or None,
        "task_type": task_type,
    }
    if is_transposed(model):
        shared["fan_in_fan_out"] = True
    own = list(model.parameters())
    wrapped = get_peft_model(model, method.config(replace(settings, arguments=method.others(settings)), shared))
    method.prepare(wrapped)
    if settings.base_dtype is not None:
        _round_frozen(own, getattr(torch, settings.base_dtype))
    return wrapped


def _round_frozen(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> None:
    """Hold the base's own frozen weights in a coarser dtype; what is trained and the adapter stay as they are."""
    for parameter in parameters:
        if not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def weights_kind(settings: TrainingSettings) -> Literal["adapter", "checkpoint"]:
    """What `store.save_trained` writes for these settings."""
    return "checkpoint" if METHODS[settings.method].config is None else "adapter"


def scaling(settings: TrainingSettings) -> float | None:
    """The factor on B @ A, where the method has a fixed one."""
    method = METHODS[settings.method]
    if settings.rank is None or settings.alpha is None or not method.fixed_scaling:
        return None
    return LoraSettings(settings.rank, settings.alpha, rank_stabilised=method.rank_stabilised).scaling


def parameter_groups(
    model: nn.Module, settings: TrainingSettings, decayed: set[str], trained: set[str]
) -> list[dict[str, Any]]:
    """The optimiser's groups: one per learning rate and weight decay, the body's own rate first.

    Args:
        model: The model to train, wrapped or not.
        settings: Learning rates and weight decay.
        decayed: Names of the parameters that weight decay applies to.
        trained: Names of the parameters to train.
    """
    method = METHODS[settings.method]
    head = re.compile(rf"(?:^|\.)(?:{'|'.join(map(re.escape, head_modules(model))) or '(?!)'})\.")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name not in trained:
            continue
        if settings.head_learning_rate is not None and head.search(name):
            rate = settings.head_learning_rate
        else:
            rate = settings.learning_rate * method.rate_factor(name, settings)
        groups.setdefault((rate, settings.weight_decay if name in decayed else 0.0), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda group: group[0][0] != settings.learning_rate)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in ordered]
