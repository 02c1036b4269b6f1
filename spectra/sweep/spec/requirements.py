"""What a specification needs beside this package, said before anything runs: trackers, bitsandbytes."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from spectra.errors import SpecificationError, needs

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


def require_packages(report_to: Sequence[str], quantisation: str | None) -> None:
    """Refuse trackers and a quantisation whose packages are not installed.

    Args:
        report_to: Trackers asked for.
        quantisation: "nf4", "int8" or None.

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
    if quantisation and not find_spec("bitsandbytes"):
        raise SpecificationError(needs(f"The quantisation '{quantisation}'", "bitsandbytes", "quant"))
