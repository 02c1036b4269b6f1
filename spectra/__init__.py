"""Spectral analysis of LoRA against full fine-tuning.

One function per command (`spectra.facade.COMMANDS` says which), the records that they return, and the errors that they
raise. All are loaded on first use, so that `import spectra` and `spectra --help` import no torch.
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

# The module of every public name.
_HOMES = {
    "AdapterError": "spectra.errors",
    "Advice": "spectra.advice",
    "AssetError": "spectra.errors",
    "AssetList": "spectra.facade.assets",
    "CheckpointError": "spectra.errors",
    "ClusterError": "spectra.errors",
    "Comparison": "spectra.records.comparison",
    "DataError": "spectra.errors",
    "DestinationError": "spectra.errors",
    "Environment": "spectra.environment",
    "FactorCache": "spectra.engine.cache",
    "ForgettingRun": "spectra.forgetting",
    "Inspection": "spectra.records.inspection",
    "Interrupted": "spectra.records.interrupted",
    "InterventionRun": "spectra.interventions",
    "IntruderScan": "spectra.records",
    "IntruderScans": "spectra.records",
    "L2Init": "spectra.training.prevention.l2_init",
    "MaxNorm": "spectra.training.prevention.max_norm",
    "Mitigation": "spectra.interventions",
    "ModelError": "spectra.errors",
    "OPLoRA": "spectra.training.prevention.oplora",
    "PluginError": "spectra.errors",
    "PluginList": "spectra.facade.plugins",
    "Replay": "spectra.training.prevention.replay",
    "Run": "spectra.runs",
    "RunError": "spectra.errors",
    "RunStatus": "spectra.runs.status",
    "Scan": "spectra.records",
    "Selection": "spectra.records.selection",
    "SpecificationError": "spectra.errors",
    "SpectraCallback": "spectra.training.callback",
    "SpectraError": "spectra.errors",
    "SpectralBudget": "spectra.training.prevention.spectral_budget",
    "SpectrumError": "spectra.errors",
    "Study": "spectra.study",
    "SweepPlan": "spectra.facade.sweep",
    "TrainingPlan": "spectra.advice",
    "advise": "spectra.advice",
    "compare": "spectra.scanning.compare",
    "convert": "spectra.surgery.convert",
    "doctor": "spectra.environment",
    "extract": "spectra.surgery.extract",
    "fetch_assets": "spectra.facade.assets",
    "forget": "spectra.facade.forget",
    "inspect": "spectra.facade.inspect",
    "intervene": "spectra.facade.intervene",
    "intruders": "spectra.facade.intruders",
    "list_assets": "spectra.facade.assets",
    "merge": "spectra.surgery.merge",
    "mitigate": "spectra.facade.mitigate",
    "open_pair": "spectra.weights",
    "plan": "spectra.advice",
    "plan_sweep": "spectra.facade.sweep",
    "plugins": "spectra.facade.plugins",
    "resize": "spectra.surgery.resize",
    "run_study": "spectra.study",
    "run_sweep": "spectra.facade.sweep",
    "scan": "spectra.facade.scan",
    "status": "spectra.runs.status",
    "verify_advice": "spectra.advice",
    "write_figures": "spectra.figures",
    "write_report": "spectra.facade.report",
}

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from spectra.advice import Advice as Advice
    from spectra.advice import TrainingPlan as TrainingPlan
    from spectra.advice import advise as advise
    from spectra.advice import plan as plan
    from spectra.advice import verify_advice as verify_advice
    from spectra.engine.cache import FactorCache as FactorCache
    from spectra.environment import Environment as Environment
    from spectra.environment import doctor as doctor
    from spectra.errors import AdapterError as AdapterError
    from spectra.errors import AssetError as AssetError
    from spectra.errors import CheckpointError as CheckpointError
    from spectra.errors import ClusterError as ClusterError
    from spectra.errors import DataError as DataError
    from spectra.errors import DestinationError as DestinationError
    from spectra.errors import ModelError as ModelError
    from spectra.errors import PluginError as PluginError
    from spectra.errors import RunError as RunError
    from spectra.errors import SpecificationError as SpecificationError
    from spectra.errors import SpectraError as SpectraError
    from spectra.errors import SpectrumError as SpectrumError
    from spectra.facade.assets import AssetList as AssetList
    from spectra.facade.assets import fetch_assets as fetch_assets
    from spectra.facade.assets import list_assets as list_assets
    from spectra.facade.forget import forget as forget
    from spectra.facade.inspect import inspect as inspect
    from spectra.facade.intervene import intervene as intervene
    from spectra.facade.intruders import intruders as intruders
    from spectra.facade.mitigate import mitigate as mitigate
    from spectra.facade.plugins import PluginList as PluginList
    from spectra.facade.plugins import plugins as plugins
    from spectra.facade.report import write_report as write_report
    from spectra.facade.scan import scan as scan
    from spectra.facade.sweep import SweepPlan as SweepPlan
    from spectra.facade.sweep import plan_sweep as plan_sweep
    from spectra.facade.sweep import run_sweep as run_sweep
    from spectra.figures import write_figures as write_figures
    from spectra.forgetting import ForgettingRun as ForgettingRun
    from spectra.interventions import InterventionRun as InterventionRun
    from spectra.interventions import Mitigation as Mitigation
    from spectra.records import IntruderScan as IntruderScan
    from spectra.records import IntruderScans as IntruderScans
    from spectra.records import Scan as Scan
    from spectra.records.comparison import Comparison as Comparison
    from spectra.records.inspection import Inspection as Inspection
    from spectra.records.interrupted import Interrupted as Interrupted
    from spectra.records.selection import Selection as Selection
    from spectra.runs import Run as Run
    from spectra.runs.status import RunStatus as RunStatus
    from spectra.runs.status import status as status
    from spectra.scanning.compare import compare as compare
    from spectra.study import Study as Study
    from spectra.study import run_study as run_study
    from spectra.surgery import convert as convert
    from spectra.surgery import extract as extract
    from spectra.surgery import merge as merge
    from spectra.surgery import resize as resize
    from spectra.training.callback import SpectraCallback as SpectraCallback
    from spectra.training.prevention.l2_init import L2Init as L2Init
    from spectra.training.prevention.max_norm import MaxNorm as MaxNorm
    from spectra.training.prevention.oplora import OPLoRA as OPLoRA
    from spectra.training.prevention.replay import Replay as Replay
    from spectra.training.prevention.spectral_budget import SpectralBudget as SpectralBudget
    from spectra.weights import open_pair as open_pair


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'spectra' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
