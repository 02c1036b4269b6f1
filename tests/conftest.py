"""Markers that depend on the machine, and settings that keep the suite quiet and repeatable."""

import gc
import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The matrices of the tests are tiny: a second thread only waits, and on a shared machine it waits long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

# A key of the tests' own, not the user's; each process of a parallel run has its folder, which goes with it.
_settings = tempfile.TemporaryDirectory(prefix="spectra-tests-")
os.environ["SPECTRA_CONFIG"] = _settings.name

torch.set_num_threads(1)
threadpool_limits(1)  # numpy may have been loaded before this file was read

settings.register_profile(
    "spectra", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("spectra")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """GPU tests run where there is a GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_collection_finish() -> None:
    """What is imported by now stays: a training's own collections need not walk through it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order() -> None:
    """Tests draw the same random numbers whichever ran before them in the same process."""
    torch.manual_seed(0)
