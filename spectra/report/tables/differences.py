"""How every run or scan of a comparison differs from the baseline."""

from typing import TYPE_CHECKING

from spectra.report.inputs.evidence import records
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.tables.html_tables import Column, HtmlTable, html_table, text

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("count", "energy_share", "update_relative", "effective_rank", "task_score", "forgetting")
COLUMNS = {
    "label": text("Configuration"),
    "against": text("Minus"),
    "count": Column("Intruder dimensions", lambda value: numbers.signed(value, 0 if float(value).is_integer() else 1)),
    "energy_share": Column("Energy share (points)", lambda value: numbers.signed(100 * value, 1)),
    "update_relative": Column("‖ΔW‖ / ‖W0‖", lambda value: numbers.signed(value, 4)),
    "effective_rank": Column("Effective rank", lambda value: numbers.signed(value, 2)),
    "task_score": Column("Test score", numbers.signed),
    "forgetting": Column("Forgetting", numbers.signed),
}


def differences(material: Material) -> "pd.DataFrame":
    """Means over seeds of every configuration minus those of the baseline's configuration of the same name.

    A source that is one scan is held against a baseline that is one scan, whatever the two are called.

    Returns:
        Columns label, against, method, source, and `MEASURES`.
    """
    import pandas as pd

    trials = material.chosen
    columns = ["label", "against", "method", "source", *MEASURES]
    if not material.baseline or trials.empty:
        return pd.DataFrame(columns=columns)
    heldouts = list(dict.fromkeys(material.tables["forgetting"]["heldout"]))[:1]
    first = material.tables["forgetting"]
    first = first[first["heldout"].isin(heldouts)][["trial", "forgetting"]]
    table = trials.merge(first, on="trial", how="left")
    means = table.groupby(["source", "label", "method"], sort=False)[list(MEASURES)].mean().reset_index()
    own = means[means["source"] == material.baseline]
    names = {_name(str(label), material.baseline): place for place, label in enumerate(own["label"])}
    alone = {str(source): len(group) == 1 for source, group in means.groupby("source")}
    rows = []
    for row in records(means[means["source"] != material.baseline]):
        place = names.get(_name(str(row["label"]), str(row["source"])))
        if place is None and alone[str(row["source"])] and len(own) == 1:
            place = 0
        if place is not None:
            against = own.iloc[place]
            rows.append(
                {
                    **{name: row[name] for name in ("label", "method", "source")},
                    "against": against["label"],
                    **{name: row[name] - against[name] for name in MEASURES},
                }
            )
    return pd.DataFrame(rows, columns=columns)


def _name(label: str, source: str) -> str:
    """The label as it stands in its own run."""
    return label.removeprefix(f"{source}: ")


def differences_table(material: Material) -> HtmlTable:
    """Every configuration minus the baseline's."""
    caption = f"Differences from {material.baseline}: means over seeds, chosen learning rates"
    return html_table("differences", caption, differences(material), COLUMNS)
