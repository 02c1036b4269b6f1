"""Fair pairs of a sweep: each adapter beside full fine-tuning at equal budget, at equal task score, at equal norm.

Works on the tables of a run, so that reports and notebooks need no torch.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spectra.records.naming import trains_all_weights

if TYPE_CHECKING:
    import pandas as pd

COMPARED = {"score": "validation_score", "norm": "update_frobenius", "count": "count"}


def adapter_rows(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of a table with a column "method" that do not belong to full fine-tuning, plain or with additions."""
    return table[~table["method"].map(trains_all_weights).astype(bool)]


def matched_pairs(trials: "pd.DataFrame", forgetting: "pd.DataFrame") -> "pd.DataFrame":
    """Each adapter at its chosen learning rate, beside a full fine-tuning of the same seed, matched in three ways.

        budget   the full trial at its chosen learning rate: same data, steps and choice
        score    the full trial, at any learning rate, with the nearest validation score:  min |s - s_full|
        norm     the full trial, at any learning rate, with the nearest norm of the update:  min |log(d / d_full)|

    The gap that is left is in the table: a pair whose gap is wide is matched in name only. A finer grid of learning
    rates for full fine-tuning makes it narrower. A full trial of another number of steps is no partner.

    Args:
        trials: The trials table of a run.
        forgetting: Its forgetting table.

    Returns:
        One row per adapter, kind of match and held-out task (one row with an empty task where there is none); columns
        in `spectra/runs/schema.py`, "pairs". No rows where nothing was fine-tuned in full.
    """
    import pandas as pd

    done = trials[(trials["status"] == "done") & trials["validation_score"].notna()]
    full = done[done["method"] == "full"]
    adapters = adapter_rows(done[done["chosen"].fillna(False).astype(bool)])
    lost = {key: rows.set_index("heldout")["forgetting"] for key, rows in forgetting.groupby("trial")}
    rows = [
        {**_pair(adapter, partner), "matched_on": kind, "gap": gap, **measured}
        for _, adapter in adapters.iterrows()
        for kind, partner, gap in _partners(adapter, _comparable(full, adapter))
        for measured in _forgotten(lost.get(adapter["trial"]), lost.get(partner["trial"]))
    ]
    return pd.DataFrame(rows)


def _comparable(full: "pd.DataFrame", adapter: "pd.Series[Any]") -> "pd.DataFrame":
    """The full trials of the same seed and, where it is known, of the same number of steps."""
    shared = [column for column in ("seed", "steps") if column in full]
    return full[(full[shared] == adapter[shared]).all(axis=1)]


def _partners(adapter: "pd.Series[Any]", full: "pd.DataFrame") -> Iterator[tuple[str, "pd.Series[Any]", float]]:
    """Kind of match, the full trial, and the gap that is left."""
    if full.empty:
        return
    chosen = full[full["chosen"].fillna(False).astype(bool)]
    if len(chosen):
        yield "budget", chosen.iloc[0], 0.0
    by_score = (full["validation_score"] - adapter["validation_score"]).abs()
    yield "score", full.loc[by_score.idxmin()], float(by_score.min())
    sized = full[full["update_frobenius"] > 0]
    if len(sized) and adapter["update_frobenius"] > 0:
        by_norm = (sized["update_frobenius"] / adapter["update_frobenius"]).map(math.log).abs()
        yield "norm", sized.loc[by_norm.idxmin()], float(by_norm.min())


def _pair(adapter: "pd.Series[Any]", full: "pd.Series[Any]") -> dict[str, Any]:
    compared = {name: adapter[column] for name, column in COMPARED.items()}
    beside = {f"full_{name}": full[column] for name, column in COMPARED.items()}
    return {
        "trial": adapter["trial"],
        "full_trial": full["trial"],
        "label": adapter["label"],
        "seed": adapter["seed"],
        "full_learning_rate": full["learning_rate"],
        **compared,
        **beside,
    }


def _forgotten(adapter: "pd.Series[Any] | None", full: "pd.Series[Any] | None") -> list[dict[str, Any]]:
    """Forgetting of both on every held-out task that both were measured on."""
    if adapter is None or full is None:
        return [{"heldout": ""}]
    return [
        {"heldout": task, "forgetting": adapter[task], "full_forgetting": full[task]}
        for task in adapter.index
        if task in full.index
    ]
