"""Spectral analysis of LoRA against full fine-tuning.

The public names are loaded on first use, so that `import spectra` and `spectra --help` import no torch.
"""

import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
DISTRIBUTION = "lora-spectra"

if Path(__file__).with_name("grapefruit.py").exists():  # a file of the colour library of the same import name
    warnings.warn(
        "The distribution spectra, a colour library, is installed in the same folder as lora-spectra, and removing it "
        "would break both. Run `pip uninstall spectra`, then `pip install --force-reinstall --no-deps lora-spectra`.",
        stacklevel=2,
    )

_HOMES = {
    "SpectraCallback": "spectra.training.callback",
    "advise": "spectra.advice",
    "compare": "spectra.scanning.compare",
    "convert": "spectra.surgery.convert",
    "extract": "spectra.surgery.extract",
    "intruders": "spectra.scanning.scan",
    "merge": "spectra.surgery.merge",
    "open_pair": "spectra.weights",
    "resize": "spectra.surgery.resize",
    "run_study": "spectra.study",
    "run_sweep": "spectra.sweep",
    "scan": "spectra.scanning.scan",
}

__all__ = [
    "SpectraCallback",
    "__version__",
    "advise",
    "compare",
    "convert",
    "extract",
    "intruders",
    "merge",
    "open_pair",
    "resize",
    "run_study",
    "run_sweep",
    "scan",
]

if TYPE_CHECKING:
    from spectra.advice import advise as advise
    from spectra.scanning.compare import compare as compare
    from spectra.scanning.scan import intruders as intruders
    from spectra.scanning.scan import scan as scan
    from spectra.study import run_study as run_study
    from spectra.surgery import convert as convert
    from spectra.surgery import extract as extract
    from spectra.surgery import merge as merge
    from spectra.surgery import resize as resize
    from spectra.sweep import run_sweep as run_sweep
    from spectra.training import SpectraCallback as SpectraCallback
    from spectra.weights import open_pair as open_pair


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'spectra' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
