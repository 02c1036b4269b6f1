"""Sentences on intruder dimensions: of a sweep, of one scan, and of a direction drawn at random."""

from typing import TYPE_CHECKING

from spectra.records.counts import primary_side, random_direction_cosine
from spectra.report.inputs.sources import Material
from spectra.report.tables import numbers
from spectra.report.text.phrases import groups, highest, intruders_text, lowest, matrices_text, over_seeds

if TYPE_CHECKING:
    import pandas as pd


def intruder_findings(material: Material) -> list[str]:
    """Who has intruder dimensions, and whether that is the paper's contrast between LoRA and full fine-tuning."""
    done, chosen = material.done, material.chosen
    slots = _slots(material, chosen)
    frame = _frame(chosen)
    if done["count"].max() == 0:
        lead = (
            f"No trial has an intruder dimension: 0 of {slots} leading vectors in each of {len(done)} trials{frame}."
            if len(done) > 1
            else f"The one finished trial has no intruder dimension: 0 of {slots} leading vectors{frame}."
        )
        return [lead, *_contrast_absent(material)]
    if chosen["count"].max() == 0:
        worst = highest(done, "count")
        return [
            f"None of the {len(chosen)} chosen trials has an intruder dimension{frame}. They appear only at learning "
            f"rates that the validation score did not choose: {worst['label']} at "
            f"{numbers.exact(worst['learning_rate'])} has {int(worst['count'])}.",
            *_contrast_absent(material),
        ]
    return [_leading(chosen), _everybody(chosen, slots, frame), *_contrast(material)]


def _leading(chosen: "pd.DataFrame") -> str:
    """The headline: the configuration with the most intruders, beside full fine-tuning or the one with the fewest."""
    configurations = sorted(groups(chosen), key=lambda group: -group[1]["count"].astype(float).mean())
    label, most = configurations[0]
    counts = most["count"].astype(int)
    has = intruders_text(counts.iloc[0]) if counts.nunique() == 1 else f"{_mean_count(most)} intruder dimensions"
    sentence = f"{label} has {has}{_in_matrices(most)}"
    full = [group for group in configurations[1:] if (group[1]["method"] == "full").all()]
    others = full or configurations[1:]
    if not others:
        return f"{sentence}{over_seeds(chosen)}."
    other, least = others[-1]
    where = _in_matrices(least) if _in_matrices(least) != _in_matrices(most) else ""
    name = "full fine-tuning" if other == "full" else other
    return f"{sentence}; {name} has {_mean_count(least)}{where}{over_seeds(chosen)}."


def _in_matrices(group: "pd.DataFrame") -> str:
    """In how many matrices a configuration was looked at."""
    return f" in {matrices_text(group['matrices'].iloc[0])}"


def _everybody(chosen: "pd.DataFrame", slots: str, frame: str) -> str:
    """The counts of all configurations."""
    parts = "; ".join(f"{label}: {_mean_count(group)}" for label, group in groups(chosen))
    return f"Of {slots} leading vectors{frame}{over_seeds(chosen)}: {parts}."


def _contrast(material: Material) -> list[str]:
    """The verdict on the paper's contrast, where both kinds of training were done."""
    chosen = material.chosen
    full = chosen[chosen["method"] == "full"]
    low_rank = chosen[(chosen["method"] != "full") & (chosen["method"] != "")]
    if full.empty or low_rank.empty:
        return []
    full_mean = full["count"].astype(float).mean()
    more = [label for label, group in groups(low_rank) if group["count"].astype(float).mean() > full_mean]
    configurations = low_rank["label"].nunique()
    reference = f"full fine-tuning ({_mean_count(full)})"
    if not more:
        return [f"No low-rank configuration has more than {reference}: the paper's contrast does not show here."]
    if len(more) == configurations:
        every = "The one low-rank configuration has" if configurations == 1 else "Every low-rank configuration has"
        return [f"{every} more than {reference}: the paper's contrast shows here."]
    verb = "has" if len(more) == 1 else "have"
    return [
        f"{len(more)} of {configurations} low-rank configurations {verb} more than {reference}: {', '.join(more)}. The "
        "paper's contrast shows there only."
    ]


def _contrast_absent(material: Material) -> list[str]:
    """The plain statement that is owed when there is nothing to contrast, if the sweep could have shown it."""
    methods = set(material.done["method"])
    if "full" not in methods or len(methods - {"full", ""}) == 0:
        return []
    return ["The contrast that the paper reports between LoRA and full fine-tuning does not show at this scale."]


def _slots(material: Material, trials: "pd.DataFrame") -> str:
    """How many vectors could have counted, per trial."""
    vectors = primary_side(material.tables["vectors"])
    sizes = vectors[vectors["trial"].isin(trials["trial"])].groupby("trial").size()
    if sizes.empty:
        sizes = (trials["k"] * trials["matrices"]).astype(int)
    low, high = int(sizes.min()), int(sizes.max())
    return numbers.count(high) if low == high else f"{numbers.count(low)} to {numbers.count(high)}"


def _frame(trials: "pd.DataFrame") -> str:
    """k, matrices and epsilon in brackets, where all trials share them."""
    k, matrices, epsilon = (trials[name].dropna().unique() for name in ("k", "matrices", "epsilon"))
    if len(k) != 1 or len(matrices) != 1 or len(epsilon) != 1:
        return ""
    return f" (k = {int(k[0])} in each of {matrices_text(matrices[0])}, ε = {numbers.exact(epsilon[0])})"


def _mean_count(group: "pd.DataFrame") -> str:
    """The intruder count of one configuration: the number, or mean and range over seeds."""
    counts = group["count"].astype(int)
    low, high = int(counts.min()), int(counts.max())
    if low == high:
        return numbers.count(low)
    return f"{numbers.exact(round(counts.mean(), 1))} ({low} to {high})"


def scan_findings(material: Material) -> list[str]:
    """What one checkpoint's scan shows."""
    trial = material.tables["trials"].iloc[0]
    vectors = primary_side(material.tables["vectors"])
    matrices = material.tables["matrices"]
    if matrices.empty:
        return [f"No matrix of {trial['label']} was compared, so nothing can be said about it."]
    frame = f"k = {int(trial['k'])} in each matrix, ε = {numbers.exact(trial['epsilon'])}"
    total = int(trial["count"])
    if total == 0:
        closest = lowest(vectors, "upper")
        return [
            f"No intruder dimension: each of the {numbers.count(len(vectors))} leading vectors in "
            f"{matrices_text(len(matrices))} resembles some pre-trained vector ({frame}).",
            f"The least similar is vector {int(closest['index'])} of {closest['name']}, whose largest |cosine| is "
            f"{_bracket(closest)}.",
            *_update_findings(material),
        ]
    affected = matrices[matrices["count"] > 0]
    sentences = [
        f"{intruders_text(total)} in {matrices_text(len(matrices))}: {numbers.count(total)} of "
        f"{numbers.count(len(vectors))} leading vectors ({numbers.percent(total / len(vectors))}; {frame}).",
        f"They sit in {len(affected)} of {matrices_text(len(matrices))} and hold "
        f"{numbers.percent(trial['energy_share'])} of the leading vectors' energy, averaged over all matrices.",
    ]
    if total > 1:
        by_role = affected.groupby("role", sort=False)["count"].sum().sort_values(ascending=False, kind="stable")
        sentences.append(
            f"The role with the most is {by_role.index[0]}: {numbers.count(by_role.iloc[0])} of {numbers.count(total)}."
        )
    return [*sentences, *_update_findings(material)]


def _bracket(vector: "pd.Series") -> str:
    """max|cos| as far as the scan knows it."""
    low, high = float(vector["lower"]), float(vector["upper"])
    if high - low < 5e-4:
        return numbers.decimal(vector["max_cosine"])
    return f"between {numbers.decimal(low)} and {numbers.decimal(high)}"


def _update_findings(material: Material) -> list[str]:
    """The size of the update beside the counts, where it was measured."""
    trial = material.tables["trials"].iloc[0]
    matrices = material.tables["matrices"]
    if numbers.absent(trial["effective_rank"]) or matrices["update_relative"].isna().any():
        return []
    relative = matrices["update_relative"].astype(float)
    return [
        f"The update is between {numbers.percent(relative.min())} and {numbers.percent(relative.max())} of the "
        f"pre-trained matrix's Frobenius norm, and its effective rank is {numbers.compact(trial['effective_rank'])} "
        "on average."
    ]


def random_direction_note(material: Material) -> str:
    """What a direction drawn at random would score, so that a count can be judged; empty without matrices."""
    shapes = material.tables["matrices"][["d_out", "d_in"]].dropna().drop_duplicates().astype(int)
    if shapes.empty or material.done.empty:
        return ""
    cosines = {random_direction_cosine(d_out, min(d_out, d_in)) for d_out, d_in in shapes.itertuples(index=False)}
    epsilon = float(material.done["epsilon"].iloc[0])
    low, high = numbers.decimal(min(cosines), 2), numbers.decimal(max(cosines), 2)
    span = low if low == high else f"{low} to {high}"
    verdict = "so every random direction would count" if max(cosines) < epsilon else "so a random direction may pass"
    return f"A random direction is expected to reach a largest |cosine| of {span} here ({verdict} at ε = {epsilon:g})."
