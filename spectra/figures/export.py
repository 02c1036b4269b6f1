"""All figures of a run, one file each."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from matplotlib.figure import Figure

from spectra.errors import RunError
from spectra.figures.curves import count_against_epsilon
from spectra.figures.interventions import TABLE, intervention_figures
from spectra.figures.maps import layer_map, similarity_matrix
from spectra.figures.scatter import forgetting_scatter
from spectra.figures.style import print_style
from spectra.runs import Run
from spectra.storage.atomic import replacing
from spectra.storage.destinations import FIGURE, require_file

if TYPE_CHECKING:
    import pandas as pd


# Where each format keeps what made the file; by this a figure is known again.
Kind = Literal["pdf", "svg", "png"]
MADE_BY = {"pdf": "Creator", "svg": "Creator", "png": "Software"}


def write_figures(run: Path | str, folder: Path | str, *, kind: Kind = "pdf", force: bool = False) -> list[Path]:
    """Draw every figure that a run, or the folder of an intervention, has the data for.

    Args:
        run: The run folder, or one that `spectra intervene` wrote.
        folder: Where to write; made if absent.
        kind: "pdf", "svg" or "png".
        force: Replace files that exist.

    Returns:
        The paths written to.

    Raises:
        RunError: If the folder is no run.
        DestinationError: If a file exists that is no such figure, or `force` is not set.

    Example:
        >>> paths = spectra.write_figures(run, folder / "figures", kind="svg")
        >>> paths[0].name
        'count-epsilon.svg'
    """
    is_intervention = (Path(run) / TABLE).is_file()
    figures = dict(intervention_figures(Path(run)) if is_intervention else run_figures(Run.open(run)))
    paths = {name: Path(folder) / f"{name}.{kind}" for name in figures}
    for path in paths.values():
        require_file(path, FIGURE, force=force, inputs=[Path(run)])
    with print_style():
        for name, figure in figures.items():
            with replacing(paths[name]) as partial:
                figure.savefig(partial, format=kind, metadata={MADE_BY[kind]: "spectra figures"})
    return list(paths.values())


def run_figures(run: Run) -> Iterator[tuple[str, Figure]]:
    """The figures of a run with their file names; those without data are left out."""
    trials = run.table("trials")
    done = trials[trials["count"].notna()]
    chosen = done[done["chosen"].fillna(True).astype(bool)]
    if done.empty:
        raise RunError(f"'{run.path}' has no finished trial. Let `spectra sweep` finish one.")
    matrices, vectors = run.table("matrices"), run.table("vectors")
    shapes = [(int(d_out), int(d_in)) for d_out, d_in in matrices[["d_out", "d_in"]].drop_duplicates().to_numpy()]
    named = vectors.merge(chosen[["trial", "label", "method"]], on="trial")
    yield "count-epsilon", count_against_epsilon(named, epsilon=float(done["epsilon"].iloc[0]), shapes=shapes)
    similarity = run.table("similarity")
    labels = dict(zip(chosen["trial"], chosen["label"], strict=True))
    for name, trial in file_names(chosen).items():
        yield f"layer-map-{name}", layer_map(matrices[matrices["trial"] == trial], title=labels[trial])
        cosines = similarity[similarity["trial"] == trial]
        if len(cosines):
            grid = cosines.pivot_table(index="i", columns="j", values="cosine").to_numpy()
            yield f"similarity-{name}", similarity_matrix(grid, title=str(cosines["name"].iloc[0]))
    yield from _forgetting_figures(run.table("forgetting"), done, chosen)


def _forgetting_figures(
    forgetting: "pd.DataFrame", done: "pd.DataFrame", chosen: "pd.DataFrame"
) -> Iterator[tuple[str, Figure]]:
    """Forgetting of every held-out task against the count and the norm (all trials) and the task score (chosen)."""
    for number, heldout in enumerate(dict.fromkeys(forgetting["heldout"]), start=1):
        rows = forgetting[forgetting["heldout"] == heldout]
        for x, trials in (("count", done), ("update_relative", done), ("task_score", chosen)):
            table = trials.merge(rows, on="trial").dropna(subset=[x])
            if len(table):
                figure = forgetting_scatter(table, x=x, unit=str(table["unit"].iloc[0]), title=str(heldout))
                yield f"forgetting-{number}-{x.replace('_', '-')}", figure


def file_names(trials: "pd.DataFrame") -> dict[str, str]:
    """A file name for every trial, made of what is plain in its label, with a number where two would be alike."""
    names: dict[str, str] = {}
    for label, trial in zip(trials["label"], trials["trial"], strict=True):
        plain = "".join(character if character.isascii() and character.isalnum() else "-" for character in str(label))
        stem = "-".join(part for part in plain.split("-") if part)[:60] or "trial"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names[name] = str(trial)
    return names
