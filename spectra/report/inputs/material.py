"""What a page is made of, in one shape, whatever it is about: tables, and what is known of their making."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from spectra.records.verdicts import Skipped
from spectra.report.inputs.evidence import Bar, NullCount, bars, beats, null_counts, records

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["sweep", "scan", "intervention", "comparison"]


@dataclass(frozen=True, eq=False)
class Material:
    """The tables of `spectra.runs.SCHEMAS` and `BESIDE_RUNS`, and what is known of their making.

    Attributes:
        kind: What the report is about.
        title: What a person calls it.
        subject: What was tuned on what: a heading and its text.
        tables: By name; a table may be empty, its columns are always there.
        details: Per-matrix curves and maps of a scan: name, quantity, index columns and value. May be empty.
        skipped: What was not compared: trial, name, reason.
        warnings: Sentences handed down by the scan.
        settings: What was asked for.
        versions: Versions of the software.
        hardware: The machine.
        commit: The source tree it was made with.
        command: The command that makes it again.
        scan_nulls: The null control of a trial that is a scan of its own.
        edits: The settings of an intervention, by the checkpoint that it edits.
        baseline: Of a comparison: the source that the others are held against.
    """

    kind: Kind
    title: str
    tables: "Mapping[str, pd.DataFrame]"
    subject: Mapping[str, str] = field(default_factory=dict)
    details: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)
    skipped: tuple[tuple[str, Skipped], ...] = ()
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    commit: str = ""
    command: str = ""
    scan_nulls: Mapping[str, NullCount] = field(default_factory=dict)
    edits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    baseline: str = ""

    @property
    def done(self) -> "pd.DataFrame":
        """The trials that have an intruder count."""
        trials = self.tables["trials"]
        return trials[trials["count"].notna()]

    @property
    def chosen(self) -> "pd.DataFrame":
        """The trials that a comparison rests on: not those whose learning rate lost to another of its configuration."""
        return self.done[self.done["chosen"].fillna(True).astype(bool)]

    @cached_property
    def nulls(self) -> Mapping[str, NullCount]:
        """The null control of every trial that has one."""
        return {**null_counts(self.tables["trials"], self.tables["controls"]), **self.scan_nulls}

    @cached_property
    def bars(self) -> Mapping[str, Bar]:
        """What the score of each trial has to beat, where it is known."""
        return bars(self.tables["trials"], self.tables["row_account"])

    def beaten(self, trials: "pd.DataFrame") -> "pd.Series[bool]":
        """Which of these trials beat chance and the base, as far as that is known; only of them is anything said."""
        import pandas as pd

        flags = [beats(row, self.bars.get(str(row["trial"]))) for row in records(trials)]
        return pd.Series(flags, index=trials.index, dtype=bool)

    @property
    def telling(self) -> "pd.DataFrame":
        """The chosen trials that beat chance and the base."""
        return self.chosen[self.beaten(self.chosen)]
