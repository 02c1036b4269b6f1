"""The tiles of the first screen: a handful of figures, each beside what it has to be held against.

Any page may make tiles of its own: a `Tile` is a heading with a few `Entry`s, and `page.Page.tiles` shows them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from spectra.report.figures.intervention import DECIDING, INTRUDERS
from spectra.report.inputs.evidence import score_interval
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.text.intruder_findings import Counted, focus

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Entry:
    """One figure of a tile.

    Attributes:
        value: The figure as text.
        name: Whose it is; "" where the page is about one thing only.
        note: Its interval, its control or its unit.
    """

    value: str
    name: str = ""
    note: str = ""


@dataclass(frozen=True)
class Tile:
    """A heading, and one figure or those of a few things side by side."""

    heading: str
    entries: tuple[Entry, ...]


def tiles(material: Material) -> tuple[Tile, ...]:
    """The tiles of a page, without those for which there is no figure."""
    make = {"scan": _scan_tiles, "intervention": _intervention_tiles}.get(material.kind, _trial_tiles)
    return tuple(tile for tile in make(material) if tile.entries)


def _trial_tiles(material: Material) -> Iterator[Tile]:
    """The configuration in focus and its reference: score, forgetting, intruders, norm, cost."""
    pair = focus(material) if not material.done.empty else None
    if pair is None:
        return
    subjects = [one for one in pair if one is not None]
    trials = material.telling
    rows = {one.label: trials[trials["label"] == one.label] for one in subjects}

    def each(entry: "Callable[[pd.DataFrame], tuple[str, str] | None]") -> tuple[Entry, ...]:
        found = [(one, entry(rows[one.label])) for one in subjects]
        return tuple(Entry(said[0], one.label if len(subjects) > 1 else "", said[1]) for one, said in found if said)

    metric = str(trials["task_metric"].iloc[0]) if len(trials) else ""
    yield Tile(f"Task score ({metric})" if metric else "Task score", each(_score))
    for heldout in list(dict.fromkeys(material.tables["forgetting"]["heldout"]))[:1]:
        table = material.tables["forgetting"]
        table = table[table["heldout"] == heldout]
        unit = str(table["unit"].iloc[0])
        yield Tile(f"Forgetting: {heldout} ({unit})", each(partial(_forgetting, table=table)))
    yield Tile("Intruder dimensions", tuple(_count(one, several=len(subjects) > 1) for one in subjects))
    yield Tile("Relative norm of the update", each(lambda group: _mean(group["update_relative"], numbers.compact)))
    yield Tile("Cost", each(_cost))


def _score(group: "pd.DataFrame") -> tuple[str, str] | None:
    """Mean test score with its interval, or with its range over seeds."""
    scores = group["task_score"].dropna()
    if scores.empty:
        return None
    base = group["base_task_score"].dropna()
    beside = f", base {numbers.decimal(base.iloc[0])}" if len(base) else ""
    if len(scores) > 1:
        return numbers.decimal(scores.mean()), _range(scores, numbers.decimal) + beside
    low, high = score_interval(group.loc[scores.index[0]].to_dict())
    interval = "" if low is None or high is None else f"{numbers.decimal(low)} to {numbers.decimal(high)}"
    return numbers.decimal(scores.iloc[0]), (interval + beside).removeprefix(", ")


def _forgetting(group: "pd.DataFrame", table: "pd.DataFrame") -> tuple[str, str] | None:
    """Mean forgetting with its interval, or with its range over seeds."""
    rows = table[table["trial"].isin(group["trial"])]
    amounts = rows["forgetting"].dropna()
    if amounts.empty:
        return None
    if len(amounts) > 1:
        return numbers.signed(amounts.mean()), _range(amounts, numbers.signed)
    row = rows.iloc[0]
    return numbers.signed(row["forgetting"]), numbers.interval(row["low"], row["high"])


def _count(one: Counted, *, several: bool) -> Entry:
    """The count of a configuration beside its null control."""
    value = numbers.count(one.counts[0]) if len(set(one.counts)) == 1 else numbers.mean_count(one.mean)
    note = "no null control" if one.null is None else f"null control {numbers.mean_count(one.null)}"
    if len(set(one.counts)) > 1:
        note = f"{min(one.counts)} to {max(one.counts)}, {note}"
    return Entry(value, one.label if several else "", note)


def _cost(group: "pd.DataFrame") -> tuple[str, str] | None:
    """Trained parameters and the time of a training."""
    sizes, seconds = group["trainable_parameters"].dropna(), group["train_seconds"].dropna()
    if sizes.empty:
        return None
    time = f"{numbers.duration(seconds.mean())} of training" if len(seconds) else ""
    return numbers.parameters(sizes.iloc[0]), f"parameters trained{f', {time}' if time else ''}"


def _mean(values: "pd.Series[Any]", write: Callable[[float], str]) -> tuple[str, str] | None:
    """A mean, with its range where there are several."""
    known = values.dropna()
    if known.empty:
        return None
    return write(float(known.mean())), _range(known, write) if len(known) > 1 else ""


def _range(values: "pd.Series[Any]", write: Callable[[float], str]) -> str:
    """The ends of some values."""
    return numbers.ends(write(float(values.min())), write(float(values.max())))


def _scan_tiles(material: Material) -> Iterator[Tile]:
    """Count beside its control, place, norm, effective rank."""
    trial = material.tables["trials"].iloc[0]
    matrices = material.tables["matrices"]
    if matrices.empty:
        return
    null = material.nulls.get(str(trial["trial"]))
    beside = (
        "no null control; spectra scan counts one" if null is None else f"null control {numbers.mean_count(null.count)}"
    )
    yield Tile("Intruder dimensions", (Entry(numbers.count(trial["count"]), note=beside),))
    affected = int((matrices["count"] > 0).sum())
    yield Tile("Matrices with intruders", (Entry(numbers.count(affected), note=f"of {numbers.count(len(matrices))}"),))
    share = Entry(numbers.percent(trial["energy_share"]), note="of the leading vectors’ energy")
    yield Tile("Energy of intruders", (share,))
    norm, rank = trial["update_relative"], trial["effective_rank"]
    if not numbers.absent(norm):
        yield Tile("Relative norm of the update", (Entry(numbers.compact(norm), note="‖ΔW‖ / ‖W0‖"),))
    if not numbers.absent(rank):
        yield Tile("Effective rank of the update", (Entry(numbers.compact(rank), note="mean over matrices"),))


def _intervention_tiles(material: Material) -> Iterator[Tile]:
    """Forgetting as tuned, without the intruders, and shrunk to the same norm."""
    table = material.tables["interventions"]
    for heldout, group in list(table.groupby("heldout", sort=False))[:2]:
        tuned = group[group["factor"] == 1].head(1)
        lowest = group[group["factor"] == group["factor"].min()]
        rows = {
            "as tuned": tuned,
            "intruders scaled": lowest[lowest["arm"] == INTRUDERS],
            "shrunk alike": lowest[lowest["arm"] == DECIDING],
        }
        factor = numbers.exact(float(group["factor"].min()))
        yield Tile(
            f"Forgetting: {heldout}, at λ = {factor}",
            tuple(
                Entry(
                    numbers.signed(row["forgetting"]),
                    name,
                    f"{numbers.interval(row['low'], row['high'])} {row['unit']}",
                )
                for name, one in rows.items()
                for _, row in one.head(1).iterrows()
            ),
        )
