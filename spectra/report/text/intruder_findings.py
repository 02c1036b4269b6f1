"""Sentences on the intruder dimensions of a sweep or a comparison, each count beside its null control."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectra.errors import first_five
from spectra.records.counts import primary_side, random_direction_cosine
from spectra.records.naming import trains_all_weights
from spectra.report.inputs.evidence import WORDS
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.text.phrases import groups, highest, intruders_text, matrices_text

if TYPE_CHECKING:
    import pandas as pd

SHOWS, ABSENT = "the paper's contrast shows", "the paper's contrast does not show here"


@dataclass(frozen=True)
class Counted:
    """The intruder dimensions of one configuration, one count per seed, and those of the null control of each.

    Attributes:
        label: The configuration.
        method: How it was trained.
        matrices: How many matrices were compared.
        counts: One per seed.
        nulls: The counts of the controls; empty where a seed has none.
        control: Which control it is, a key of `WORDS`; "" without one.
    """

    label: str
    method: str
    matrices: int
    counts: tuple[int, ...]
    nulls: tuple[float, ...]
    control: str

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return sum(self.counts) / len(self.counts)

    @property
    def null(self) -> float | None:
        """Mean of the control over seeds."""
        return sum(self.nulls) / len(self.nulls) if self.nulls else None

    @property
    def name(self) -> str:
        """The label, in a sentence."""
        return "full fine-tuning" if self.label == "full" else self.label

    @property
    def beyond_null(self) -> bool:
        """More than the control in every seed."""
        return bool(self.nulls) and all(count > null for count, null in zip(self.counts, self.nulls, strict=True))


def counted(material: Material) -> list[Counted]:
    """The configurations that beat chance and the base, in table order."""
    found = []
    for label, group in groups(material.telling):
        nulls = [material.nulls.get(str(trial)) for trial in group["trial"]]
        known = [null for null in nulls if null is not None]
        whole = known if len(known) == len(nulls) else []
        found.append(
            Counted(
                label,
                str(group["method"].iloc[0]),
                int(group["matrices"].iloc[0]),
                tuple(int(count) for count in group["count"]),
                tuple(null.count for null in whole),
                whole[0].control if whole else "",
            )
        )
    return found


def focus(material: Material) -> tuple[Counted, Counted | None] | None:
    """The configuration that headline, tiles and first figure speak of, and full fine-tuning or the baseline beside it.

    It is the adapter whose task score is closest to that of full fine-tuning; without scores, or without full
    fine-tuning, the one with the most intruders.
    """
    configurations = counted(material)
    if not configurations:
        return None
    reference = _reference(material, configurations)
    others = [one for one in configurations if one is not reference]
    if not others:
        return configurations[0], None
    scores = material.telling.groupby("label")["task_score"].mean().to_dict()
    aim = scores.get(reference.label, math.nan) if reference is not None else math.nan

    def distance(one: Counted) -> tuple[float, float]:
        score = scores.get(one.label, math.nan)
        # A configuration without a score comes last where the others have one.
        return (0.0 if math.isnan(aim) else round(abs(score - aim), 9) if score == score else math.inf, -one.mean)

    return min(others, key=distance), reference


def _reference(material: Material, configurations: list[Counted]) -> Counted | None:
    if material.kind == "comparison":
        sources = material.telling.drop_duplicates("label").set_index("label")["source"].to_dict()
        own = [one for one in configurations if sources.get(one.label) == material.baseline]
        return next((one for one in own if one.method == "full"), own[0] if own else None)
    return next((one for one in configurations if one.method == "full"), None)


def intruder_findings(material: Material) -> list[str]:
    """The headline, the verdict on the paper's contrast, and the counts of all configurations."""
    return [_headline(material), *_contrast(material), *_everybody(material)]


def _headline(material: Material) -> str:
    """The configuration in focus beside its null control and its reference."""
    done = material.done
    pair = focus(material)
    assert pair is not None  # callers have telling trials
    if done["count"].max() == 0:
        trials = f"each of {len(done)} trials" if len(done) > 1 else "the one finished trial"
        return f"No trial has an intruder dimension: 0 of {_slots(material, done)} leading vectors in {trials}."
    if material.telling["count"].max() == 0:
        worst = highest(done, "count")
        return (
            "No chosen trial has an intruder dimension; they appear only at learning rates that the validation score "
            f"did not choose ({worst['label']} at {numbers.exact(worst['learning_rate'])}: {int(worst['count'])})."
        )
    one, reference = pair
    has = intruders_text(one.counts[0]) if len(set(one.counts)) == 1 else f"{_span(one)} intruder dimensions"
    sentence = f"{one.name} has {has} in {matrices_text(one.matrices)}{_beside(one)}"
    if reference is not None:
        where = "" if reference.matrices == one.matrices else f" in {matrices_text(reference.matrices)}"
        sentence += f"; {reference.name} has {_span(reference)}{where}{_beside(reference, short=True)}"
    seeds = max(len(one.counts), len(reference.counts) if reference else 0)
    return f"{sentence}{f' (mean and range over {seeds} seeds)' if seeds > 1 else ''}."


def _beside(one: Counted, *, short: bool = False) -> str:
    """The null control of a count, or that there is none."""
    if one.null is None:
        return "" if short else ", without a null control to hold them against"
    if short:
        return f" (control: {numbers.mean_count(one.null)})"
    return f", where {WORDS[one.control]} has {numbers.mean_count(one.null)}"


def _everybody(material: Material) -> list[str]:
    """The counts of all configurations, each with its control in brackets."""
    configurations = counted(material)
    if len(configurations) < 3 or material.done["count"].max() == 0:
        return []
    parts = "; ".join(f"{one.label}: {_span(one)}{_beside(one, short=True)}" for one in configurations)
    chosen = material.telling
    return [f"Of {_slots(material, chosen)} leading vectors{_frame(chosen)}: {parts}."]


def _contrast(material: Material) -> list[str]:
    """The verdict on the paper's contrast, where both kinds of training were done.

    It shows for a configuration that has more intruders than its null control, and more than full fine-tuning whatever
    the seed, with two seeds of each at least.
    """
    configurations = counted(material)
    full = [one for one in configurations if one.method == "full"]
    adapters = [one for one in configurations if one.method and not trains_all_weights(one.method)]
    if not full or not adapters:
        return []
    most = max(count for one in full for count in one.counts)
    more = [one for one in adapters if one.mean > max(other.mean for other in full)]
    if not more:
        return [f"No low-rank configuration has more than full fine-tuning: {ABSENT}."]
    unknown = [one for one in more if not one.nulls]
    beyond = [one for one in more if one.beyond_null]
    if not beyond and not unknown:
        return [f"{_who(more, adapters)} more than full fine-tuning, but none beyond its null control: {ABSENT}."]
    if not beyond:
        return [
            f"{_who(more, adapters)} more than full fine-tuning; without null controls this is no verdict on the "
            "paper's contrast."
        ]
    who = _who(beyond, adapters)
    if min(len(one.counts) for one in (*full, *beyond)) < 2:
        return [
            f"{who} more than the null control and than full fine-tuning, but a single seed cannot tell that from the "
            "luck of training: no verdict on the paper's contrast."
        ]
    apart = [one for one in beyond if min(one.counts) > most]
    if not apart:
        return [f"{who} more than the null control, but not beyond the spread of seeds of full fine-tuning: {ABSENT}."]
    there = f"{SHOWS} here" if len(apart) == len(adapters) else f"{SHOWS} there only"
    return [
        f"{_who(apart, adapters)} more than the null control and, whatever the seed, than full fine-tuning: {there}."
    ]


def _who(some: list[Counted], adapters: list[Counted]) -> str:
    """Configurations as the subject of a sentence, with its verb."""
    if len(some) == len(adapters):
        return "The one low-rank configuration has" if len(some) == 1 else "Every low-rank configuration has"
    return f"{first_five([one.label for one in some])} {'has' if len(some) == 1 else 'have'}"


def unbeaten_finding(material: Material) -> list[str]:
    """The chosen trials that learnt nothing that can be told, of which nothing else is said."""
    chosen = material.chosen
    below = chosen[~material.beaten(chosen)]
    if below.empty:
        return []
    bars = [material.bars[str(trial)] for trial in below["trial"]]
    scores = below["task_score"].fillna(below["validation_score"])
    names = [
        f"{label} ({numbers.decimal(score)} against {numbers.decimal(bar.score)})"
        for label, score, bar in zip(below["label"], scores, bars, strict=True)
    ]
    what = " or ".join(dict.fromkeys(bar.words for bar in bars))
    who = "The one chosen trial" if len(chosen) == 1 else f"{len(below)} of {len(chosen)} chosen trials"
    return [f"{who} did not beat {what}, and nothing else is said of {_them(len(below))}: {first_five(names)}."]


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def _slots(material: Material, trials: "pd.DataFrame") -> str:
    """How many vectors could have counted, per trial."""
    vectors = primary_side(material.tables["vectors"])
    sizes = vectors[vectors["trial"].isin(trials["trial"])].groupby("trial").size()
    if sizes.empty:
        sizes = (trials["k"] * trials["matrices"]).astype(int)
    return numbers.ends(numbers.count(sizes.min()), numbers.count(sizes.max()))


def _frame(trials: "pd.DataFrame") -> str:
    """k, matrices and epsilon in brackets, where all trials share them."""
    k, matrices, epsilon = (trials[name].dropna().unique() for name in ("k", "matrices", "epsilon"))
    if len(k) != 1 or len(matrices) != 1 or len(epsilon) != 1:
        return ""
    return f" (k = {int(k[0])} in each of {matrices_text(matrices[0])}, ε = {numbers.exact(epsilon[0])})"


def _span(one: Counted) -> str:
    """The count of one configuration: the number, or mean and range over seeds."""
    low, high = min(one.counts), max(one.counts)
    return numbers.count(low) if low == high else f"{numbers.mean_count(one.mean)} ({low} to {high})"


def random_direction_note(material: Material) -> str:
    """What a direction drawn at random would score, so that a count can be judged; empty without matrices."""
    shapes = material.tables["matrices"][["d_out", "d_in"]].dropna().drop_duplicates().astype(int)
    if shapes.empty or material.done.empty:
        return ""
    cosines = {random_direction_cosine(d_out, min(d_out, d_in)) for d_out, d_in in shapes.itertuples(index=False)}
    epsilon = float(material.done["epsilon"].iloc[0])
    span = numbers.ends(numbers.decimal(min(cosines), 2), numbers.decimal(max(cosines), 2))
    verdict = "so every random direction would count" if max(cosines) < epsilon else "so a random direction may pass"
    return f"A random direction is expected to reach a largest |cosine| of {span} here ({verdict} at ε = {epsilon:g})."
