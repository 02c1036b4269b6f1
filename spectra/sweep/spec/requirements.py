"""What a specification needs beside this package, said before anything runs: trackers, bitsandbytes, FlashAttention."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from spectra.errors import SpecificationError, needs
from spectra.training.settings import Recipe

# What transformers calls a tracker, and the packages of which one must be installed.
TRACKERS: Mapping[str, Sequence[str]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "comet_ml": ("comet_ml",),
    "trackio": ("trackio",),
    "swanlab": ("swanlab",),
    "clearml": ("clearml",),
    "neptune": ("neptune",),
    "dvclive": ("dvclive",),
    "codecarbon": ("codecarbon",),
}


def require_packages(report_to: Sequence[str], recipe: Recipe) -> None:
    """Refuse trackers, a quantisation, an optimiser and an attention whose packages are not installed.

    Args:
        report_to: Trackers asked for.
        recipe: How is trained.

    Raises:
        SpecificationError: If a package is missing.
    """
    for tracker in report_to:
        packages = TRACKERS[tracker]
        if not any(find_spec(package) for package in packages):
            raise SpecificationError(
                f"report_to is '{tracker}', and the package {packages[0]} is not installed. "
                f"Install it with `pip install {packages[0]}`, or remove it from report_to."
            )
    eight_bits = recipe.optimiser if recipe.optimiser and recipe.optimiser.endswith("8bit") else None
    for what, name in (("quantisation", recipe.quantisation), ("optimiser", eight_bits)):
        if name and not find_spec("bitsandbytes"):
            raise SpecificationError(needs(f"The {what} '{name}'", "bitsandbytes", "quant"))
    if recipe.attention == "flash_attention_2" and not find_spec("flash_attn"):
        raise SpecificationError(
            "The attention 'flash_attention_2' needs the package flash_attn, which is not installed. "
            "Install it with `pip install flash-attn`, or use sdpa."
        )
