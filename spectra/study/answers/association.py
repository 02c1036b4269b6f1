"""Question c: whether forgetting goes with the count of intruders beyond the norm of the update."""

import numpy as np
import pandas as pd

from spectra.statistics.adjusted_slope import adjusted_slope
from spectra.study.comparison import Comparison, Verdict, comparison
from spectra.study.tables import StudyTables, unit_of

ACROSS = "forgetting with the share of intruders at equal norm, across methods"
WITHIN = "forgetting with the share of intruders at equal norm, within configurations"


def settings_of(tables: StudyTables, heldout: str) -> pd.DataFrame:
    """Every configuration at every learning rate, its figures averaged over seeds.

    Columns: label, learning_rate, share (per cent of the vectors looked at), forgetting, log_norm, seeds.
    """
    lost = tables.forgetting[tables.forgetting["heldout"] == heldout][["trial", "forgetting"]]
    trials = tables.used.merge(lost, on="trial")
    trials = trials[trials["count"].notna() & (trials["update_relative"].astype(float) > 0)]
    if trials.empty:
        return pd.DataFrame(columns=["label", "learning_rate", "share", "forgetting", "log_norm", "seeds"])
    trials = trials.assign(
        share=100 * trials["count"].astype(float) / trials["slots"].astype(float),
        log_norm=np.log(trials["update_relative"].astype(float)),
    )
    grouped = trials.groupby(["label", "learning_rate"], sort=False)
    means = grouped[["share", "forgetting", "log_norm"]].mean()
    return means.assign(seeds=grouped["seed"].nunique()).reset_index()


def association_comparisons(tables: StudyTables, *, level: float, reliability: float) -> list[Comparison]:
    """The slope across methods, which decides for the primary held-out task, and within configurations."""
    found = []
    for heldout in tables.heldouts:
        settings = settings_of(tables, heldout)
        share, lost, norm = (settings[name].to_numpy(dtype=float) for name in ("share", "forgetting", "log_norm"))
        labels = settings["label"].to_numpy(dtype=str)
        for name, within in ((ACROSS, False), (WITHIN, True)):
            slope = adjusted_slope(
                share,
                lost,
                norm,
                labels,
                level=level,
                reliability=1.0 if within else reliability,
                within=within,
            )
            found.append(
                comparison(
                    "c",
                    name,
                    slope,
                    level=level,
                    unit=f"{unit_of(tables.forgetting, heldout)} per percentage point of intruders",
                    seeds=int(settings["seeds"].min()) if len(settings) else 0,
                    settings=len(settings),
                    heldout=heldout,
                    decides=heldout == tables.primary and not within,
                    expected=1,
                )
            )
    return found


def association_verdict(comparisons: list[Comparison], primary: str) -> Verdict:
    """That of the slope across methods, unless the slope within configurations lies on the other side."""
    said = {one.name: one.verdict for one in comparisons if one.heldout == primary}
    across = said.get(ACROSS, "not enough settings")
    opposite = {"supported": "contradicted", "contradicted": "supported"}.get(across)
    return "not distinguishable" if opposite is not None and said.get(WITHIN) == opposite else across
