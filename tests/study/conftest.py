"""One small study on a tiny random model, run once in this process."""

from functools import partial
from typing import Any

import pytest

from spectra.advice import advise
from spectra.study import Study, advised, run_study
from tests import tiny


@pytest.fixture(scope="session")
def specification(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny.study(tmp_path_factory.mktemp("study-inputs"))


@pytest.fixture(scope="session")
def study(specification: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Study:
    with pytest.MonkeyPatch.context() as patch:
        # Thresholds are not what is tested here, and fifteen draws of them take longer than all the rest.
        patch.setattr(advised, "advise", partial(advise, draws=1, measure=False))
        return run_study(specification, tmp_path_factory.mktemp("studies") / "whole", executor="inline")
