"""Spectral analysis of LoRA against full fine-tuning.

The public names are loaded on first use, so that `import spectra` and `spectra --help` import no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "SpectraCallback": "spectra.training.callback",
    "advise": "spectra.advice",
    "compare": "spectra.scanning.compare",
    "intruders": "spectra.scanning.scan",
    "open_pair": "spectra.weights",
    "run_study": "spectra.study",
    "run_sweep": "spectra.sweep",
    "scan": "spectra.scanning.scan",
}

__all__ = [
    "SpectraCallback",
    "__version__",
    "advise",
    "compare",
    "intruders",
    "open_pair",
    "run_study",
    "run_sweep",
    "scan",
]

if TYPE_CHECKING:
    from spectra.advice import advise
    from spectra.scanning.compare import compare
    from spectra.scanning.scan import intruders, scan
    from spectra.study import run_study
    from spectra.sweep import run_sweep
    from spectra.training import SpectraCallback
    from spectra.weights import open_pair


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'spectra' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
