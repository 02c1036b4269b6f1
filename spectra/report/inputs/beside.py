"""What stands beside a run: folders of `spectra intervene`, inside the run's own folder or anywhere else."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import RunError
from spectra.runs import BESIDE_RUNS, completed, tidy
from spectra.storage.atomic import read_json
from spectra.storage.tables import read_parquet

if TYPE_CHECKING:
    import pandas as pd

MARKER = "interventions.json"
SETTINGS = ("checkpoint", "base", "select", "k", "epsilon", "lambdas", "seed", "level", "resamples", "directions",
            "matrices", "count")  # fmt: skip


def is_intervention(path: Path) -> bool:
    """Whether `spectra intervene` wrote into this folder."""
    return (path / MARKER).is_file()


def interventions_inside(run: Path) -> list[Path]:
    """The folders of interventions in a run folder: at its top, under interventions/, or in the folder of a trial."""
    places = (MARKER, f"interventions/**/{MARKER}", f"trials/*/*/{MARKER}", f"trials/*/interventions/**/{MARKER}")
    return sorted({path.parent for place in places for path in run.glob(place)})


def intervention_warnings(folders: Sequence[Path]) -> tuple[str, ...]:
    """What a reader of the interventions has to know, each once."""
    told = [warning for folder in folders for warning in read_json(folder / MARKER).get("warnings", ())]
    return tuple(f"Intervention: {warning}" for warning in dict.fromkeys(told))


def intervention_tables(folders: Sequence[Path]) -> "dict[str, pd.DataFrame]":
    """The tables of all folders, one below the other; empty ones without a folder."""
    import pandas as pd

    tables = {}
    for name in BESIDE_RUNS:
        parts = [completed(name, read_parquet(folder / f"{name}.parquet", error=RunError)) for folder in folders]
        kept = [part for part in parts if len(part)]
        tables[name] = pd.concat(kept, ignore_index=True) if kept else tidy(name, [])
    return tables


def intervention_settings(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What each intervention was asked for, by the checkpoint that it edits."""
    found = (read_json(folder / MARKER) for folder in folders)
    return {str(content.get("checkpoint")): {n: content[n] for n in SETTINGS if n in content} for content in found}
