"""What is in a checkpoint: the record of `spectra inspect`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spectra.records.coverage import Coverage
from spectra.records.verdicts import html_table

if TYPE_CHECKING:
    import pandas as pd

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Inspection:
    """What is in a checkpoint, and which of its matrices would be compared.

    Attributes:
        checkpoint: As it was named.
        base: Its base as it was named; None where it is not known.
        kind: "adapter" or "full".
        method: "lora", "dora", "full", ...
        coverage: What became of the matrices of the blocks; None where no base was read.
        bytes: Size of what is stored.
        trained_parameters: Numbers that were trained.
        optimiser_bytes: Memory that AdamW took for them.
        largest_matrix_bytes: Size of the largest compared matrix in float32.
        matrices: One entry per matrix that would be compared: name, layer, role, block, shape, dtype, rank, alpha,
            scaling, parameters.
        skipped: What would not be compared: name and reason.
        warnings: Sentences that a reader has to know.
        versions: Versions of the software.
        format: What kind of file an adapter is; None for a full checkpoint, or beside a named base.
        updates: Of an adapter without a named base, one entry per update: module, shape, rank, scaling, norms, ranks,
            singular values; None otherwise.
        needs_base: What cannot be said of such an adapter without its base, and why.
        verification: How every matrix compares with the models that transformers and peft load; None unless asked for.
    """

    checkpoint: str
    base: str | None
    kind: str
    method: str
    coverage: Coverage | None
    bytes: int
    trained_parameters: int
    optimiser_bytes: int
    largest_matrix_bytes: int
    matrices: Sequence[Entry]
    skipped: Sequence[Entry]
    warnings: Sequence[str]
    versions: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    updates: Sequence[Entry] | None = None
    needs_base: Sequence[Entry] | None = None
    verification: Entry | None = None

    @property
    def differences(self) -> int:
        """Matrices that differ from the loaded models; 0 where nothing was verified."""
        return self.verification["differences"] if self.verification else 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per matrix, or per update where no base was read."""
        for entry in self.matrices or self.updates or ():
            yield {"checkpoint": self.checkpoint, **entry}

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `spectra inspect`: keys are added, never renamed."""
        optional = ("format", "updates", "needs_base", "verification")
        own = {name: value for name, value in vars(self).items() if name not in optional or value is not None}
        return {**own, "coverage": self.coverage.to_dict() if self.coverage else None}

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per matrix, or per update where no base was read, as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_html_(self) -> str:
        """The matrices, or the updates, for notebooks."""
        kind = f"{self.kind}, {self.method}" + (f" ({self.format})" if self.format else "")
        caption = f"{self.checkpoint} ({kind}), {self.trained_parameters:,} trained parameters"
        named = "name" if self.matrices else "module"
        headings = (named, "shape", "rank", "alpha", "scaling", "parameters")
        rows = [
            tuple(
                "x".join(map(str, value)) if name == "shape" else _cell(value)
                for name, value in zip(headings, values, strict=True)
            )
            for entry in self.matrices or self.updates or ()
            for values in [[entry[name] for name in headings]]
        ]
        notes = [*self.warnings]
        if self.skipped:
            notes.insert(0, f"{len(self.skipped)} not compared: see skipped.")
        if self.verification:
            notes.append(f"{self.verification['matrices']} matrices verified, {self.differences} differences.")
        return html_table(caption, headings, rows, notes)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
