"""Every metric that `spectra scan` knows: its group, its formula and how a checkpoint's figure follows.

The key of a metric is `group.name`; it is the same in the records, in the tables, in JSON and in docs/metrics.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from spectra.errors import SpectrumError, first_five
from spectra.records.measures import Measure
from spectra.registry import Registry, resolved

Total = Literal["sum", "mean", "root sum of squares", "ratio of norms"]


@dataclass(frozen=True)
class Metric:
    """One metric of a matrix.

    Attributes:
        key: `group.name`.
        heading: A few words for the head of a column.
        formula: The definition in code letters; the docstring in `spectra.metrics` is the long form.
        total: How a checkpoint's figure follows from those of its matrices.
    """

    key: str
    heading: str
    formula: str
    total: Total = "mean"

    @property
    def group(self) -> str:
        """The part of the scan that measures it, one of `GROUPS`; `texts` is measured where texts are given."""
        return self.key.partition(".")[0]


@dataclass(frozen=True)
class MetricGroup:
    """Metrics of one matrix that are measured together: an entry of `GROUPS`.

    Attributes:
        name: What `--metrics` calls it; the first part of the keys of its metrics.
        documentation: One line that says what it measures, and what it needs.
        metrics: Its metrics.
        measure: From what is known of a matrix (`scanning.facts.PairFacts`) to its measures: a function, or
            "module:function"; None where another part of a scan measures them.
        has_controls: True where the same is measured on controls, in the place of the tuned matrix.
        aliases: Further names.
        is_choice: True where `--metrics` may name it.

    Raises:
        SpectrumError: If a metric's key does not begin with the name of the group.
    """

    name: str
    documentation: str
    metrics: tuple[Metric, ...]
    measure: str | Callable[..., Iterable[Measure]] | None = None
    has_controls: bool = False
    aliases: tuple[str, ...] = ()
    is_choice: bool = True

    def __post_init__(self) -> None:
        if strange := [metric.key for metric in self.metrics if metric.group != self.name]:
            raise SpectrumError(
                f"The group of metrics '{self.name}' has {first_five(strange)}. Begin each key with '{self.name}.'."
            )

    def measured(self, facts: Any) -> Iterator[Measure]:
        """The measures of one matrix; nothing where another part of a scan measures them.

        Raises:
            SpectrumError: If a measure is none of a known metric.
        """
        if self.measure is None:
            return
        for measure in resolved(self.measure)(facts):
            if not isinstance(measure, Measure) or measure.metric not in METRICS:
                raise SpectrumError(
                    f"The group of metrics '{self.name}' gave {measure!r:.80}, which is no measure of a known metric. "
                    "Give a Measure for each of the metrics that it declares."
                )
            yield measure


# What every scan can measure. The functions are named, not imported: the records know no torch.
MEASURING = "spectra.scanning.measuring"
OWN_GROUPS: tuple[MetricGroup, ...] = (
    MetricGroup(
        "intruders",
        "tuned vectors that resemble no pre-trained one, and the cluster-aware score",
        (
            Metric("intruders.count", "intruders", "#{j < k : max_i |<u_i, y_j>| < epsilon}", "sum"),
            Metric("intruders.energy_share", "energy share", "sum_{j in I} S_j^2 / sum_{j < k} S_j^2"),
            Metric("intruders.first_position", "first intruder", "1 + min I, by decreasing singular value"),
            Metric("intruders.least_cosine", "min |cos|", "min_{j < k} max_i |<u_i, y_j>|"),
            Metric("intruders.windowed_count", "unclustered", "#{j < k : energy in any 16 neighbours < epsilon^2}", "sum"),  # noqa: E501
            Metric("intruders.ill_conditioned", "ill-conditioned", "#{j < k : the vector is arbitrary to rounding}", "sum"),  # noqa: E501
        ),
        f"{MEASURING}:intruders",
        has_controls=True,
    ),
    MetricGroup(
        "update",
        "norms and ranks of delta_W",
        (
            Metric("update.frobenius", "|dW|", "||delta_W||_F", "root sum of squares"),
            Metric("update.spectral", "|dW|_2", "||delta_W||_2"),
            Metric("update.relative", "|dW| / |W0|", "||delta_W||_F / ||W0||_F", "ratio of norms"),
            Metric("update.relative_spectral", "|dW|_2 / |W0|_2", "||delta_W||_2 / ||W0||_2"),
            Metric("update.effective_rank", "effective rank", "exp(-sum p log p), p = S / sum S"),
            Metric("update.stable_rank", "stable rank", "||delta_W||_F^2 / ||delta_W||_2^2"),
            Metric("update.numerical_rank", "numerical rank", "#{i : S_i > rcond S_1}"),
            Metric("update.rank_90", "rank for 90 %", "min{j : sum_{i <= j} S_i^2 >= 0.90 sum S^2}"),
            Metric("update.rank_95", "rank for 95 %", "min{j : sum_{i <= j} S_i^2 >= 0.95 sum S^2}"),
            Metric("update.rank_99", "rank for 99 %", "min{j : sum_{i <= j} S_i^2 >= 0.99 sum S^2}"),
        ),
        f"{MEASURING}:update",
        has_controls=True,
        aliases=("ranks", "norms"),
    ),
    MetricGroup(
        "alignment",
        "subspaces of delta_W, W0 and W_tuned against each other",
        (
            Metric("alignment.amplification", "amplification", "||delta_W||_F / ||U^H W0 V||_F, U, V of delta_W"),
            Metric("alignment.phi", "phi(dW, W0)", "||U_dW^H U0||_F^2 / min(r, k)"),
            Metric("alignment.rho", "rho_k", "||U0_k U0_k^H delta_W||_F^2 / ||delta_W||_F^2"),
            Metric("alignment.least_principal_cosine", "min cos theta", "sigma_min(U0_k^H U_tuned_k)"),
            Metric("alignment.retention", "retention", "mean_{i < k} u_i^H W_tuned v_i / S0_i"),
            Metric("alignment.drift", "drift", "||S_tuned - S0|| / ||S0|| over the leading k"),
        ),
        f"{MEASURING}:alignment",
        has_controls=True,
    ),
    MetricGroup(
        "base",
        "the spectrum of W0: norms, ranks, Marchenko-Pastur edge and spikes",
        (
            Metric("base.frobenius", "|W0|", "||W0||_F", "root sum of squares"),
            Metric("base.spectral", "|W0|_2", "||W0||_2"),
            Metric("base.stable_rank", "stable rank", "||W0||_F^2 / ||W0||_2^2"),
            Metric("base.effective_rank", "effective rank", "exp(-sum p log p), p = S0 / sum S0"),
            Metric("base.numerical_rank", "numerical rank", "#{i : S0_i > rcond S0_1}"),
            Metric("base.full_rank", "full rank", "1 if numerical rank = min(d_out, d_in), else 0"),
            Metric("base.edge", "MP edge", "sigma (sqrt(d_out) + sqrt(d_in)), sigma of the bulk"),
            Metric("base.spikes", "spikes", "#{i : S0_i > edge}"),
        ),
        f"{MEASURING}:spectrum_of_base",
    ),
    MetricGroup(
        "nulls",
        "the same metrics on controls: storage rounding, dense noise, random rank-r",
        (),
    ),
    MetricGroup(
        "texts",
        "drift of outputs, measured where texts are given",
        (
            Metric("texts.drift", "drift on texts", "E ||delta_W h||^2 / E ||W0 h||^2, h of the base on given texts"),
        ),
        is_choice=False,
    ),
    MetricGroup(
        "tails",
        "heavy-tail exponent of W0 (needs every singular value and the powerlaw package)",
        (
            Metric("tails.alpha", "alpha", "exponent of p(x) ~ x^-alpha, x = S0^2 >= xmin"),
            Metric("tails.distance", "KS distance", "sup |fitted - empirical distribution| over the tail"),
            Metric("tails.xmin", "xmin", "where the fitted tail begins"),
            Metric("tails.points", "in the tail", "#{i : S0_i^2 >= xmin}"),
            Metric("tails.against_lognormal", "R", "log-likelihood ratio, power law over lognormal"),
        ),
        f"{MEASURING}:tails",
    ),
    MetricGroup(
        "norms",
        "norms of an update that cost next to nothing",
        (),
        f"{MEASURING}:norms",
        is_choice=False,
    ),
)  # fmt: skip
GROUPS = Registry("spectra.metrics", "group of metrics", MetricGroup, OWN_GROUPS)
# What `spectra intruders` asks for: the verdicts that every scan reaches, and five norms of the group "update", which
# cost next to nothing where the update has factors.
VERDICTS_ALONE: tuple[str, ...] = ("norms",)
DEFAULT_GROUPS: tuple[str, ...] = ("intruders", "update", "alignment", "base", "nulls")
EVERYTHING = "all"


class _Metrics(Mapping[str, Metric]):
    """The metrics of all groups, by key."""

    def __getitem__(self, key: str) -> Metric:
        group = GROUPS[key.partition(".")[0]]
        return next((metric for metric in group.metrics if metric.key == key), None) or _missing(key)

    def __iter__(self) -> Iterator[str]:
        return (metric.key for group in GROUPS.values() for metric in group.metrics)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _missing(key: str) -> Metric:
    raise KeyError(key)


METRICS: Mapping[str, Metric] = _Metrics()


def choices() -> tuple[str, ...]:
    """The groups that `--metrics` chooses from."""
    return tuple(group.name for group in GROUPS.values() if group.is_choice)


def chosen_groups(text: str | Iterable[str]) -> tuple[str, ...]:
    """The groups that a choice such as "intruders,ranks" names, in the order of `GROUPS`.

    Raises:
        SpectrumError: If a name is no group.
    """
    names = [part.strip() for part in text.split(",")] if isinstance(text, str) else list(text)
    known = choices()
    aliases = {alias: group.name for group in GROUPS.values() for alias in group.aliases}
    wanted = {aliases.get(name, name) for name in names if name}
    if EVERYTHING in wanted:
        wanted = (wanted - {EVERYTHING}) | set(known)
    if unknown := sorted(wanted - set(known)):
        raise SpectrumError(f"There is no group of metrics {first_five(unknown)}. Choose from {', '.join(known)}, all.")
    if not wanted:
        raise SpectrumError(f"No group of metrics was chosen. Choose from {', '.join(known)}, all.")
    return tuple(group for group in known if group in wanted)
