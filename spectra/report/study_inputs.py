"""What the page of a study is made of: its verdicts and its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import RunError
from spectra.runs import Run
from spectra.runs.study_schema import STUDY_TABLES
from spectra.storage.atomic import read_json
from spectra.storage.tables import read_parquet

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class StudyMaterial:
    """A study as its folder holds it.

    Attributes:
        record: The content of verdicts.json.
        registration: The content of study.json: what was fixed before anything ran.
        tables: The tables of `spectra.runs.study_schema`, and the run's "forgetting".
        hardware: The machine.
    """

    record: Mapping[str, Any]
    registration: Mapping[str, Any]
    tables: "Mapping[str, pd.DataFrame]"
    hardware: Mapping[str, Any]

    @property
    def answers(self) -> Sequence[Mapping[str, Any]]:
        """The answers, by question."""
        return list(self.record["answers"])

    @property
    def used(self) -> "pd.DataFrame":
        """The trials that take part, and have a count."""
        trials = self.tables["study_trials"]
        return trials[trials["used"].astype(bool) & trials["count"].notna()]


def study_material(folder: Path | str) -> StudyMaterial:
    """Read a study.

    Raises:
        RunError: If the folder is no study, or its tables are not written yet.
    """
    run = Run.open(folder)
    place = run.path / "study"
    if not (place / "verdicts.json").is_file():
        raise RunError(f"'{folder}' has no verdicts yet. Let `spectra study --out {folder}` finish.")
    tables = {
        name: read_parquet(place / "tables" / f"{name}.parquet", error=RunError)
        for name in STUDY_TABLES
        if name != "front" or (place / "tables" / "front.parquet").is_file()  # of question f alone
    }
    return StudyMaterial(
        record=read_json(place / "verdicts.json"),
        registration=read_json(place / "study.json"),
        tables={**tables, "forgetting": run.table("forgetting")},
        hardware=run.sweep.get("hardware") or {},
    )
