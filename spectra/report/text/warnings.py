"""What a reader must know before believing the figures: pure functions from tables to sentences."""

import math
from typing import TYPE_CHECKING

from spectra.errors import first_and_more, first_five
from spectra.records.counts import primary_side
from spectra.report.inputs.material import Material
from spectra.report.inputs.subject import plain_name
from spectra.report.tables import numbers
from spectra.report.text.intruder_findings import unbeaten_finding
from spectra.statistics.information import FEW_SCORES, few_examples_warning

if TYPE_CHECKING:
    import pandas as pd

SATURATED = 0.9


def warnings(material: Material) -> list[str]:
    """Every warning that the material deserves, gravest first."""
    return [
        *failed_trials(material),
        *unbeaten_finding(material),
        *stopped_trials(material),
        *lost_rows(material),
        *different_questions(material),
        *skipped_matrices(material),
        *saturated_counts(material),
        *ill_conditioned_vectors(material),
        *few_examples(material),
        *single_seeds(material),
        *edge_learning_rates(material),
        *material.warnings,
    ]


def failed_trials(material: Material) -> list[str]:
    """Trials that ended in an error, with the first of them in full."""
    trials = material.tables["trials"]
    failed = trials[trials["status"] == "failed"]
    if failed.empty:
        return []
    names = first_five(
        [
            f"{row['label']} (learning rate {numbers.exact(row['learning_rate'])}, seed {row['seed']})"
            for _, row in failed.iterrows()
        ]
    )
    return [f"{len(failed)} of {len(trials)} trials failed: {names}. First reason: {failed['error'].iloc[0]}"]


def stopped_trials(material: Material) -> list[str]:
    """Trials whose learning rate was hopeless by the validation score, with the first of them in full."""
    trials = material.tables["trials"]
    stopped = trials[trials["status"] == "stopped early"]
    if stopped.empty:
        return []
    return [
        f"{len(stopped)} of {len(trials)} trials were stopped early and stand in no figure: the better half of the "
        f"learning rates of each configuration went on. First reason: {stopped['error'].iloc[0]}"
    ]


def lost_rows(material: Material) -> list[str]:
    """Rows that were left out, texts that were cut and labels that were never seen, where they are many."""
    said = material.tables["row_account"]["warning"]
    return [str(sentence) for sentence in dict.fromkeys(said) if sentence]


def different_questions(material: Material) -> list[str]:
    """Counts that were taken at different k or epsilon, or over different numbers of matrices."""
    done = material.done
    differing = [
        f"{what} ({', '.join(numbers.exact(float(value)) for value in values)})"
        for what, values in (
            ("k", sorted(done["k"].dropna().unique())),
            ("ε", sorted(done["epsilon"].dropna().unique())),
            ("the number of matrices", sorted(done["matrices"].dropna().unique())),
        )
        if len(values) > 1
    ]
    if not differing:
        return []
    return [f"Counts are not directly comparable: the scans differ in {' and '.join(differing)}."]


def skipped_matrices(material: Material) -> list[str]:
    """Matrices that were not compared."""
    if not material.skipped:
        return []
    by_reason: dict[str, list[str]] = {}
    for _, skipped in material.skipped:
        names = by_reason.setdefault(skipped.reason, [])
        names += [] if skipped.name in names else [skipped.name]  # one base, several checkpoints
    total = sum(map(len, by_reason.values()))
    parts = [f"{first_and_more(names)} ({reason})" for reason, names in by_reason.items()]
    return [f"{total} {'matrix was' if total == 1 else 'matrices were'} not compared: {first_five(parts)}."]


def saturated_counts(material: Material) -> list[str]:
    """Counts so close to their ceiling that they no longer tell trials apart."""
    done = material.done
    vectors = primary_side(material.tables["vectors"])
    slots = done["trial"].map(vectors.groupby("trial").size()).astype("Float64")
    full = done[(done["count"] / slots >= SATURATED).fillna(False).to_numpy(dtype=bool)]
    if full.empty:
        return []
    labels = first_five([f"{row['label']} ({row['count']})" for _, row in full.iterrows()])
    return [
        f"The count is saturated (at least {numbers.percent(SATURATED)} of all leading vectors) in {len(full)} of "
        f"{len(done)} trials: {labels}. Compare energy shares or a smaller ε instead."
    ]


def ill_conditioned_vectors(material: Material) -> list[str]:
    """Vectors whose neighbour in the spectrum is too close."""
    vectors = primary_side(material.tables["vectors"])
    ill = vectors[vectors["ill_conditioned"].fillna(False).astype(bool)]
    if ill.empty:
        return []
    counted = int(ill["is_intruder"].fillna(False).astype(bool).sum())
    return [
        f"{numbers.count(len(ill))} of {numbers.count(len(vectors))} leading vectors are ill-conditioned: a "
        f"neighbouring singular value is so close that the single vector means little; {counted} of them count as "
        "intruders."
    ]


def few_examples(material: Material) -> list[str]:
    """Scores that rest on too few examples."""
    sentences: list[str] = []
    forgetting = material.tables["forgetting"]
    for _, row in forgetting.drop_duplicates(["heldout", "n"]).iterrows():
        sentences += few_examples_warning(int(row["n"]), row["heldout"])
    scored = material.tables["trials"].dropna(subset=["task_score", "task_examples"])
    few = scored[(scored["task_examples"] < FEW_SCORES) & (scored["task_metric"] == "accuracy")]
    if len(few):
        row = few.iloc[0]
        error = math.sqrt(row["task_score"] * (1 - row["task_score"]) / row["task_examples"])
        sentences.append(
            f"The test split of {plain_name(row['task'])} has {int(row['task_examples'])} examples only: a standard "
            f"error of about {100 * error:.1f} points of accuracy."
        )
    return sentences


def single_seeds(material: Material) -> list[str]:
    """Configurations that were trained once."""
    if material.kind != "sweep" or material.chosen.empty:
        return []
    seeds = material.chosen.groupby("label")["seed"].nunique()
    once = int((seeds == 1).sum())
    if not once:
        return []
    who = "Every configuration was" if once == len(seeds) else f"{once} of {len(seeds)} configurations were"
    return [
        f"{who} trained with a single seed: the intervals cover the choice of test examples, not the luck of training."
    ]


def edge_learning_rates(material: Material) -> list[str]:
    """Chosen learning rates at the end of their grid."""
    if material.kind != "sweep":
        return []
    edges = [edge for _, group in material.done.groupby("label", sort=False) for edge in _edge(group)]
    if not edges:
        return []
    return [
        f"The chosen learning rate is at the end of its grid for {first_five(edges)}: a better one may lie outside."
    ]


def _edge(group: "pd.DataFrame") -> list[str]:
    """The configuration's label with its learning rate, if it was chosen at the end of two or more."""
    rates = group["learning_rate"].dropna().unique()
    chosen = group[group["chosen"].fillna(False).astype(bool)]["learning_rate"].dropna().unique()
    if len(rates) < 2 or len(chosen) == 0 or chosen[0] not in (rates.min(), rates.max()):
        return []
    which = "lowest" if chosen[0] == rates.min() else "highest"
    return [f"{group['label'].iloc[0]} ({which}, {numbers.exact(chosen[0])})"]
