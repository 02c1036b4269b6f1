"""The process of one intervention: `python -m spectra.study.worker RUN TRIAL`; its news are JSON lines on stdout."""

import json
import os
import sys
from pathlib import Path

from spectra.runs import Run
from spectra.study.intervention_job import Interventions
from spectra.study.registration import registered
from spectra.study.specification import StudySpecification


def main(folder: str, trial: str) -> None:
    """Do one intervention; what libraries print goes to stderr."""
    news = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    specification = StudySpecification.model_validate(registered(Path(folder))["specification"])
    work = Interventions(Run.open(folder), specification)
    outcome = work.do(trial, lambda point, points: print(json.dumps({"point": point, "points": points}), file=news))
    print(json.dumps({"outcome": outcome}), file=news)


if __name__ == "__main__":
    main(*sys.argv[1:])
