"""Tables as the page shows them: each cell carries the exact value beside the rounded text."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spectra.report.figures.intervention import arm_in_words, subjects
from spectra.report.figures.pair import MATCHED
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.tables.statistics import MEASURES, SCORE, Association, associations

if TYPE_CHECKING:
    import pandas as pd

ABSENT = "–"
RHO = "Spearman's ρ"


@dataclass(frozen=True)
class Cell:
    """One cell: the text shown, the value behind it ("" for text), whether it is a number, and what it links to."""

    text: str
    value: str = ""
    is_number: bool = False
    link: str = ""


@dataclass(frozen=True)
class Column:
    """One column: its heading with unit, and how its values are written."""

    heading: str
    write: Callable[[Any], str]
    is_number: bool = True


@dataclass(frozen=True)
class HtmlTable:
    """A table with its caption; `rows` follow `columns`, the first cell of a row is its header."""

    identity: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def text(heading: str) -> Column:
    """A column of words."""
    return Column(heading, str, is_number=False)


def html_table(identity: str, caption: str, table: "pd.DataFrame", columns: Mapping[str, Column]) -> HtmlTable:
    """The named columns of a table; columns without a single value are left out."""
    kept = {name: column for name, column in columns.items() if not _all_absent(table[name])}
    rows = tuple(
        tuple(_cell(value, column) for value, column in zip(row, kept.values(), strict=True))
        for row in zip(*(table[name] for name in kept), strict=True)
    )
    return HtmlTable(identity, caption, tuple(kept.values()), rows)


def _all_absent(values: Iterable[Any]) -> bool:
    return all(numbers.absent(value) or value == "" for value in values)


def _cell(value: Any, column: Column) -> Cell:
    if numbers.absent(value) or value == "":
        return Cell(ABSENT, "", column.is_number)
    if not column.is_number:
        return Cell(column.write(value))
    plain = value.item() if hasattr(value, "item") else value
    return Cell(column.write(plain), repr(plain), True)


TRIAL_COLUMNS = {
    "label": text("Configuration"),
    "learning_rate": Column("Learning rate", numbers.exact),
    "seed": Column("Seed", str),
    "steps": Column("Steps", numbers.count),
    "chosen_text": text("Chosen"),
    "validation_score": Column("Validation score", numbers.decimal),
    "task_score": Column("Test score", numbers.decimal),
    "count": Column("Intruder dimensions", numbers.count),
    "matrices": Column("Matrices", numbers.count),
    "energy_share": Column("Energy share", numbers.percent),
    "update_relative": Column("‖ΔW‖ / ‖W0‖", numbers.compact),
    "update_frobenius": Column("‖ΔW‖", numbers.compact),
    "effective_rank": Column("Effective rank", numbers.compact),
    "status": text("Status"),
    "error": text("Error"),
}
COST_COLUMNS = {
    "label": text("Configuration"),
    "learning_rate": Column("Learning rate", numbers.exact),
    "seed": Column("Seed", str),
    "trainable_parameters": Column("Trained parameters", numbers.count),
    "optimiser_bytes": Column("Optimiser state", numbers.data_size),
    "peak_memory_bytes": Column("Peak memory", numbers.data_size),
    "train_seconds": Column("Training time", numbers.duration),
    "tokens_per_second": Column("Tokens per second", numbers.compact),
}
FORGETTING_COLUMNS = {
    "label": text("Configuration"),
    "learning_rate": Column("Learning rate", numbers.exact),
    "seed": Column("Seed", str),
    "heldout": text("Held-out task"),
    "forgetting": Column("Forgetting", numbers.signed),
    "low": Column("95 % low", numbers.signed),
    "high": Column("95 % high", numbers.signed),
    "unit": text("Unit"),
    "n": Column("Examples", numbers.count),
    "base": Column("Base", numbers.decimal),
    "tuned": Column("Tuned", numbers.decimal),
    "metric": text("Metric"),
    "base_score": Column("Base score", numbers.decimal),
    "tuned_score": Column("Tuned score", numbers.decimal),
    "finding": text("Reading"),
    "cannot_tell": text("Why not told"),
}
MATRIX_COLUMNS = {
    "name": text("Matrix"),
    "layer": Column("Layer", str),
    "role": text("Role"),
    "d_out": Column("Rows", numbers.count),
    "d_in": Column("Columns", numbers.count),
    "count": Column("Intruder dimensions", numbers.count),
    "energy_share": Column("Energy share", numbers.percent),
    "ill_conditioned": Column("Ill-conditioned", numbers.count),
    "update_relative": Column("‖ΔW‖ / ‖W0‖", numbers.compact),
    "update_frobenius": Column("‖ΔW‖", numbers.compact),
    "update_effective_rank": Column("Effective rank", numbers.compact),
    "method": text("Method"),
}
STATISTICS_COLUMNS = {
    "target_text": text("Goes with"),
    "measure_text": text("Measure"),
    "trials": Column("Trials", str),
    "settings": Column("Settings", str),
    "rho": Column(RHO, lambda rho: numbers.signed(rho, 2)),
    "low": Column("95 % low", lambda rho: numbers.signed(rho, 2)),
    "high": Column("95 % high", lambda rho: numbers.signed(rho, 2)),
    "verdict": text("Reading"),
}


PAIR_COLUMNS = {
    "label": text("Adapter"),
    "seed": Column("Seed", str),
    "matched_text": text("Paired with full at"),
    "gap": Column("Left over", numbers.compact),
    "full_learning_rate": Column("Full: learning rate", numbers.exact),
    "score": Column("Score", numbers.decimal),
    "full_score": Column("Full: score", numbers.decimal),
    "norm": Column("‖ΔW‖", numbers.compact),
    "full_norm": Column("Full: ‖ΔW‖", numbers.compact),
    "count": Column("Intruders", numbers.count),
    "full_count": Column("Full: intruders", numbers.count),
    "heldout": text("Held-out task"),
    "forgetting": Column("Forgetting", numbers.signed),
    "full_forgetting": Column("Full: forgetting", numbers.signed),
}
CONTRAST_COLUMNS = {
    "subject": text("Checkpoint"),
    "heldout": text("Held-out task"),
    "control_text": text("Intruders against"),
    "forgetting_area": Column("Equal λ", numbers.signed),
    "forgetting_low": Column("low", numbers.signed),
    "forgetting_high": Column("high", numbers.signed),
    "equal_score": Column("Equal score", numbers.signed),
    "equal_score_low": Column("low", numbers.signed),
    "equal_score_high": Column("high", numbers.signed),
    "task_area": Column("Task score", numbers.signed),
    "task_low": Column("low", numbers.signed),
    "task_high": Column("high", numbers.signed),
    "unit": text("Unit of forgetting"),
    "n": Column("Examples", numbers.count),
    "verdict": text("Reading"),
}


def pairs_table(material: Material) -> HtmlTable:
    """Each adapter beside a full fine-tuning."""
    table = material.tables["pairs"]
    table = table.assign(matched_text=[MATCHED.get(str(one), str(one)) for one in table["matched_on"]])
    return html_table("pairs", "Each adapter beside full fine-tuning of the same seed", table, PAIR_COLUMNS)


ROW_COLUMNS = {
    "task": Column("Task", str, is_number=False),
    "split": Column("Split", str, is_number=False),
    "read": Column("Rows read", numbers.count),
    "used": Column("Used", numbers.count),
    "set_aside": Column("Set aside", numbers.count),
    "dropped": Column("Dropped", numbers.count),
    "reasons": Column("Why", str, is_number=False),
    "classes": Column("Labels", numbers.count),
    "unseen": Column("Labels not in training", str, is_number=False),
    "texts": Column("Texts", numbers.count),
    "texts_cut": Column("Texts cut", numbers.count),
    "max_length": Column("Cut to tokens", numbers.count),
    "tokens_lost": Column("Tokens lost", numbers.count),
    "overlap": Column("Also trained on", numbers.count),
}


def rows_table(material: Material) -> HtmlTable:
    """What became of the rows of every task, once where all trials read the same."""
    table = material.tables["row_account"].drop(columns="trial").drop_duplicates(ignore_index=True)
    return html_table("rows", "Rows of every task and split: read, used, dropped, cut", table, ROW_COLUMNS)


def contrasts_table(material: Material) -> HtmlTable:
    """The area between the intruders' curve and that of each control."""
    table = material.tables["intervention_contrasts"]
    table = table.assign(subject=subjects(material, table), control_text=list(map(arm_in_words, table["control"])))
    caption = (
        "What scaling the intruders spares beside each control: forgetting at equal λ and at equal task score, and the "
        "task score that it keeps (means over λ up to 1, 95 % intervals; positive favours scaling the intruders)"
    )
    return html_table("contrasts", caption, table, CONTRAST_COLUMNS)


def trials_table(material: Material) -> HtmlTable:
    """All trials, chosen ones first as they stand."""
    trials = material.tables["trials"]
    chosen = ["" if numbers.absent(flag) else ("yes" if flag else "no") for flag in trials["chosen"]]
    return html_table("trials", "All trials", trials.assign(chosen_text=chosen), TRIAL_COLUMNS)


def forgetting_table(material: Material) -> HtmlTable:
    """Forgetting of every trial on every held-out task."""
    named = material.tables["trials"][["trial", "label", "learning_rate", "seed"]]
    table = named.merge(material.tables["forgetting"], on="trial")
    return html_table("forgetting", "Forgetting: tuned minus base", table, FORGETTING_COLUMNS)


def cost_table(material: Material) -> HtmlTable:
    """What each trial cost."""
    return html_table("cost", "Cost of each trial", material.tables["trials"], COST_COLUMNS)


def matrices_table(material: Material) -> HtmlTable:
    """All compared matrices of a scan."""
    return html_table("matrices", "All compared matrices", material.tables["matrices"], MATRIX_COLUMNS)


def statistics_table(material: Material) -> HtmlTable:
    """Rank correlations of spectral measures with forgetting and with the task score."""
    import pandas as pd

    done = material.done
    rows = [
        {
            "target_text": "Score on the task (validation)" if row.target == SCORE else f"Forgetting: {row.target}",
            "measure_text": _measure_text(row),
            **{name: getattr(row, name) for name in ("trials", "settings", "rho", "low", "high", "verdict")},
        }
        for row in associations(done[material.beaten(done)], material.tables["forgetting"])
    ]
    table = pd.DataFrame(rows, columns=list(STATISTICS_COLUMNS))
    return html_table("statistics", "Rank correlations over trials", table, STATISTICS_COLUMNS)


def _measure_text(row: Association) -> str:
    given = MEASURES.get(row.controlling_for, "")
    return MEASURES[row.measure] + (f", given the {given[0].lower()}{given[1:]}" if given else "")
