"""What the tables say, in plain sentences: pure functions from tables to text.

A sentence states the figure, what it is a figure of, and an interval where there is one. It never says "significant".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsFloat

from spectra.counts import primary_side, random_direction_cosine
from spectra.report import numbers
from spectra.report.sources import Material
from spectra.report.statistics import RankCorrelation, correlation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Topic:
    """Sentences on one subject, most important first."""

    heading: str
    sentences: tuple[str, ...]


def findings(material: Material) -> list[Topic]:
    """The first screen, most important topic first."""
    if material.kind == "scan":
        return [Topic("Intruder dimensions", tuple(scan_findings(material)))]
    if material.done.empty:
        return [Topic("Nothing yet", ("No trial has finished, so there is nothing to compare.",))]
    topics = [Topic("Intruder dimensions", tuple(intruder_findings(material)))]
    forgetting = material.tables["forgetting"]
    for heldout in dict.fromkeys(forgetting["heldout"]):
        rows = forgetting[forgetting["heldout"] == heldout]
        sentences = forgetting_findings(material, rows)
        if material.kind == "sweep":
            sentences += equal_score_findings(material, rows)
        sentences += correlation_findings(material, rows)
        topics.append(Topic(f"Forgetting: {heldout}", tuple(sentences)))
    return [topic for topic in topics if topic.sentences]


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
        closest = _lowest(vectors, "upper")
        return [
            f"No intruder dimension: each of the {numbers.count(len(vectors))} leading vectors in "
            f"{_matrices(len(matrices))} resembles some pre-trained vector ({frame}).",
            f"The least similar is vector {int(closest['index'])} of {closest['name']}, whose largest |cosine| is "
            f"{_bracket(closest)}.",
            *_update_findings(material),
        ]
    affected = matrices[matrices["count"] > 0]
    sentences = [
        f"{_intruders(total)} in {_matrices(len(matrices))}: {numbers.count(total)} of "
        f"{numbers.count(len(vectors))} leading vectors ({numbers.percent(total / len(vectors))}; {frame}).",
        f"They sit in {len(affected)} of {_matrices(len(matrices))} and hold {numbers.percent(trial['energy_share'])} "
        "of the leading vectors' energy, averaged over all matrices.",
    ]
    if total > 1:
        by_role = affected.groupby("role", sort=False)["count"].sum().sort_values(ascending=False, kind="stable")
        sentences.append(f"Most are in the role {by_role.index[0]}: {numbers.count(by_role.iloc[0])} of {total}.")
    return [*sentences, *_update_findings(material)]


def _highest(table: "pd.DataFrame", column: str) -> "pd.Series":
    """The first row with the largest value."""
    return table.iloc[int(table[column].to_numpy(dtype=float).argmax())]


def _lowest(table: "pd.DataFrame", column: str) -> "pd.Series":
    """The first row with the smallest value."""
    return table.iloc[int(table[column].to_numpy(dtype=float).argmin())]


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


def _intruders(count: SupportsFloat) -> str:
    """A count with its noun."""
    return f"{numbers.count(count)} intruder dimension{'' if float(count) == 1 else 's'}"


def _matrices(count: SupportsFloat) -> str:
    """A number of matrices with its noun."""
    return f"{numbers.count(count)} matri{'x' if float(count) == 1 else 'ces'}"


def _groups(trials: "pd.DataFrame") -> "list[tuple[str, pd.DataFrame]]":
    """Trials of the same configuration, in table order: one per seed."""
    return [(str(label), group) for label, group in trials.groupby("label", sort=False)]


def _mean_count(group: "pd.DataFrame") -> str:
    """The intruder count of one configuration: the number, or mean and range over seeds."""
    counts = group["count"].astype(int)
    low, high = int(counts.min()), int(counts.max())
    if low == high:
        return numbers.count(low)
    return f"{numbers.exact(round(counts.mean(), 1))} ({low} to {high})"


def _over_seeds(trials: "pd.DataFrame") -> str:
    """How many seeds stand behind a mean; empty for one."""
    seeds = int(trials.groupby("label").size().max())
    return f", mean and range over {seeds} seeds" if seeds > 1 else ""


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
        worst = _highest(done, "count")
        return [
            f"None of the {len(chosen)} chosen trials has an intruder dimension{frame}. They appear only at learning "
            f"rates that the validation score did not choose: {worst['label']} at "
            f"{numbers.exact(worst['learning_rate'])} has {int(worst['count'])}.",
            *_contrast_absent(material),
        ]
    return [_leading(chosen), _everybody(chosen, slots, frame), *_contrast(material)]


def _leading(chosen: "pd.DataFrame") -> str:
    """The headline: the configuration with the most intruders, beside full fine-tuning or the one with the fewest."""
    groups = sorted(_groups(chosen), key=lambda group: -group[1]["count"].astype(float).mean())
    label, most = groups[0]
    counts = most["count"].astype(int)
    has = _intruders(counts.iloc[0]) if counts.nunique() == 1 else f"{_mean_count(most)} intruder dimensions"
    sentence = f"{label} has {has}{_in_matrices(most)}"
    full = [group for group in groups[1:] if (group[1]["method"] == "full").all()]
    others = full or groups[1:]
    if not others:
        return f"{sentence}{_over_seeds(chosen)}."
    other, least = others[-1]
    where = _in_matrices(least) if _in_matrices(least) != _in_matrices(most) else ""
    name = "full fine-tuning" if other == "full" else other
    return f"{sentence}; {name} has {_mean_count(least)}{where}{_over_seeds(chosen)}."


def _in_matrices(group: "pd.DataFrame") -> str:
    """In how many matrices a configuration was looked at."""
    return f" in {_matrices(group['matrices'].iloc[0])}"


def _everybody(chosen: "pd.DataFrame", slots: str, frame: str) -> str:
    """The counts of all configurations."""
    parts = "; ".join(f"{label}: {_mean_count(group)}" for label, group in _groups(chosen))
    return f"Of {slots} leading vectors{frame}{_over_seeds(chosen)}: {parts}."


def _contrast(material: Material) -> list[str]:
    """The verdict on the paper's contrast, where both kinds of training were done."""
    chosen = material.chosen
    full = chosen[chosen["method"] == "full"]
    low_rank = chosen[(chosen["method"] != "full") & (chosen["method"] != "")]
    if full.empty or low_rank.empty:
        return []
    full_mean = full["count"].astype(float).mean()
    more = [label for label, group in _groups(low_rank) if group["count"].astype(float).mean() > full_mean]
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
    return f" (k = {int(k[0])} in each of {_matrices(matrices[0])}, ε = {numbers.exact(epsilon[0])})"


def forgetting_findings(material: Material, rows: "pd.DataFrame") -> list[str]:
    """How much of one held-out task was forgotten, and whether without intruders."""
    table = material.chosen.merge(rows, on="trial")
    if table.empty:
        return []
    first = table.iloc[0]
    unit = first["unit"]
    measured = f"{first['metric']}, {numbers.count(first['n'])} examples"
    forgot = table[table["low"] > 0]
    if forgot.empty:
        most = _highest(table, "forgetting")
        return [
            f"No trial forgot beyond its 95 % interval ({measured}); the most is {_amount(most, unit)} "
            f"({most['label']})."
        ]
    least, most = _lowest(forgot, "forgetting"), _highest(forgot, "forgetting")
    span = (
        f"{most['label']} {_amount(most, unit)}"
        if len(forgot) == 1
        else f"from {_amount(least, unit)} ({least['label']}) to {_amount(most, unit)} ({most['label']})"
    )
    return [
        f"{len(forgot)} of {len(table)} trials forgot, their 95 % interval above zero ({measured}): {span}.",
        *_forgetting_without_intruders(forgot, unit),
    ]


def _forgetting_without_intruders(forgot: "pd.DataFrame", unit: str) -> list[str]:
    """The plain statement that forgetting does not need intruders, where the data show it."""
    without = forgot[forgot["count"] == 0]
    if without.empty:
        return []
    if len(without) == len(forgot):
        return ["Forgetting happened without a single intruder dimension."]
    worst = _highest(without, "forgetting")
    return [
        f"Forgetting happened without intruder dimensions in {len(without)} of these {len(forgot)} trials, at most "
        f"{_amount(worst, unit)} ({worst['label']})."
    ]


def _amount(row: "pd.Series", unit: str) -> str:
    """Forgetting with its unit and its interval."""
    return f"{numbers.signed(row['forgetting'])} {unit} {numbers.interval(row['low'], row['high'])}"


def equal_score_findings(material: Material, rows: "pd.DataFrame") -> list[str]:
    """LoRA against full fine-tuning where their mean task scores are closest: who forgot more."""
    table = material.chosen.merge(rows, on="trial")
    table = table[table["task_score"].notna()]
    full = table[table["method"] == "full"]
    low_rank = _groups(table[table["method"] != "full"])
    if full.empty or not low_rank:
        return []
    full_score = float(full["task_score"].mean())
    label, closest = min(low_rank, key=lambda group: abs(float(group[1]["task_score"].mean()) - full_score))
    score = float(closest["task_score"].mean())
    difference = float(closest["forgetting"].mean() - full["forgetting"].mean())
    unit = table.iloc[0]["unit"]
    (low, high), (full_low, full_high) = _spread(closest), _spread(full)
    overlap = "overlap" if low <= full_high and full_low <= high else "do not overlap"
    kind = "intervals" if len(closest) == len(full) == 1 else "ranges over seeds"
    equal = "At equal task score" if abs(score - full_score) < 5e-4 else "Where task scores are closest"
    scores = f"{label} {numbers.decimal(score)}, full {numbers.decimal(full_score)} {table.iloc[0]['task_metric']}"
    return [
        f"{equal} ({scores}{_over_seeds(table)}), {label} forgets {numbers.decimal(abs(difference))} {unit} "
        f"{'more' if difference >= 0 else 'less'}: {numbers.signed(closest['forgetting'].mean())} {unit} "
        f"{numbers.interval(low, high)} against {numbers.signed(full['forgetting'].mean())} "
        f"{numbers.interval(full_low, full_high)}; the two {kind} {overlap}."
    ]


def _spread(group: "pd.DataFrame") -> tuple[float, float]:
    """Forgetting of one configuration: its interval for a single seed, its range over several."""
    if len(group) == 1:
        return float(group["low"].iloc[0]), float(group["high"].iloc[0])
    return float(group["forgetting"].min()), float(group["forgetting"].max())


def correlation_findings(material: Material, rows: "pd.DataFrame") -> list[str]:
    """Whether intruder counts and update norms rank the trials as forgetting does."""
    table = rows[["trial", "forgetting"]].merge(material.done, on="trial")
    heldout = str(rows["heldout"].iloc[0])
    by_count = correlation(table, heldout, "count")
    by_norm = correlation(table, heldout, "update_relative")
    if by_count.rho is None and by_norm.rho is None:
        return []
    said = [
        f"{_rho(row)} with {what}" for row, what in ((by_count, "the intruder count"), (by_norm, "the update's norm"))
    ]
    n = max(by_count.n, by_norm.n)
    return [f"Over {n} trials, the forgetting has Spearman's ρ {said[0]}, and {said[1]}."]


def _rho(row: RankCorrelation) -> str:
    """A coefficient with its interval, or why there is none."""
    if row.rho is None:
        return f"undefined ({row.note})"
    if row.low is None or row.high is None:
        return f"{numbers.signed(row.rho, 2)} ({row.note})"
    return f"{numbers.signed(row.rho, 2)} {numbers.interval(row.low, row.high, 2)}"


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
