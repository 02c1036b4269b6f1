"""Expressions are bounded by the time of the processor."""

from pathlib import Path

import pytest

from spectra.errors import AdapterError
from spectra.weights.methods import bounded_patterns
from spectra.weights.methods.bounded_patterns import require_bounded


def test_waiting_for_the_processor_is_not_held_against_an_expression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_patterns, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(bounded_patterns, "MATCHING", "import time; time.sleep(0.3)")
    require_bounded({"target_modules": "waits|.*"}, ["q_proj"], Path("adapter_config.json"))


def test_an_expression_that_does_not_return_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_patterns, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(AdapterError, match=r"which takes more than 0\.1 s to match"):
        require_bounded({"target_modules": "(a+)+$"}, ["a" * 60 + "b"], Path("adapter_config.json"))
