"""`spectra.convert`: the same LoRA in another program's format: names, scaling and layout, the numbers as they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import AdapterError, first_five
from spectra.records.provenance import versions
from spectra.records.selection import DEFAULT, Selection
from spectra.records.verdicts import Skipped, html_table
from spectra.storage.destinations import require_folder, whole_folder
from spectra.surgery.formats import WRITERS, NamedFactors
from spectra.weights.adapter_pair import Sources
from spectra.weights.dialects.foreign import NamedChange
from spectra.weights.foreign_pair import Names
from spectra.weights.methods.changes import LoraChange
from spectra.weights.updates import AdapterUpdates, open_updates

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-conversion-1"


@dataclass(frozen=True)
class ConvertedModule:
    """One module before and after.

    Attributes:
        module: Its name in the source.
        written: Its name in what was written.
        shape: (d_out, d_in).
        rank: Columns of B.
        scaling: Factor on B A, which is the same on both sides.
        is_exact: True when the numbers of both factors were copied; False where a factor went into B.
    """

    module: str
    written: str
    shape: tuple[int, int]
    rank: int
    scaling: float
    is_exact: bool


@dataclass(frozen=True)
class Conversion:
    """An adapter in another format.

    Attributes:
        source: As it was named.
        found: What kind of file it is.
        to: The format that was written.
        out: The folder.
        modules: One entry per module.
        left_behind: What the source holds and the format has no place for.
        warnings: Sentences that a reader has to know.
        versions: Versions of the software.
    """

    source: str
    found: str
    to: str
    out: str
    modules: tuple[ConvertedModule, ...]
    left_behind: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per module."""
        yield from (asdict(one) for one in self.modules)

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object: keys are added, never renamed."""
        return {
            "format": FORMAT,
            "source": self.source,
            "found": self.found,
            "to": self.to,
            "out": self.out,
            "modules": list(self.rows()),
            "left_behind": [asdict(one) for one in self.left_behind],
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
        }

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per module as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def sentences(self) -> list[str]:
        """What was written, in words."""
        exact = sum(one.is_exact for one in self.modules)
        told = f"{self.out}: {len(self.modules)} modules of '{self.source}' ({self.found}) as {self.to}."
        if exact == len(self.modules):
            return [told, "Every factor holds the numbers that it held."]
        return [told, f"{len(self.modules) - exact} of them have a factor other than 1 multiplied into B."]

    def _repr_html_(self) -> str:
        """One row per module, for notebooks."""
        rows = [(one.module, one.written, str(one.rank), f"{one.scaling:g}") for one in self.modules]
        notes = (*self.sentences(), *self.warnings)
        return html_table(self.out, ("module", "written as", "rank", "scaling"), rows, notes)


def convert(
    adapter: str | Path,
    *,
    to: str,
    out: str | Path,
    base: str | Path | None = None,
    selection: Selection = DEFAULT,
    component: str | None = None,
    force: bool = False,
) -> Conversion:
    """Write a LoRA adapter in another program's format.

    Args:
        adapter: Any LoRA that is read: of peft, kohya-ss, diffusers, mlx-lm, torchtune, GGUF.
        to: "peft", "kohya" or "mlx".
        out: The folder to write.
        base: The base: needed where the source writes the dots of its names as underscores (kohya-ss).
        selection: How the files are opened; every module is converted.
        component: Which part of a pipeline: to read of a file that holds several ("unet", "text_encoder"), or to name
            in a format that asks for one ("lora_unet", "lora_te").
        force: Replace an existing folder that spectra wrote.

    Raises:
        AdapterError: If it is no LoRA with factors alone, or its names cannot be told in the other format.
        DestinationError: If `out` exists and `force` is not given, or it is no adapter that spectra wrote.

    The scaling of every module stays: peft and kohya-ss store alpha per module, mlx-lm one scale for all modules; where
    theirs differ, the scale is 1 and B is multiplied.

    Example:
        >>> converted = spectra.convert(adapter, to="mlx", out=folder / "for-mlx")
        >>> len(converted.to_dataframe()) == len(spectra.open_pair(None, adapter).matrices)
        True
    """
    if to not in WRITERS:
        raise AdapterError(f"'{to}' is no format that is written. Choose one of {', '.join(WRITERS)}.")
    kept = [Path(str(named)) for named in (adapter, base) if named is not None]
    require_folder(Path(out), "adapter", force=force, inputs=kept)
    if selection.narrows:
        raise AdapterError("A conversion takes every module. Leave include, exclude, roles and layers out.")
    opened = open_updates(adapter, selection=selection)
    if opened is None:
        raise AdapterError(f"'{adapter}' is no adapter. Name one, or use `spectra extract` for a full checkpoint.")
    changes, apart = _of_component(opened, component)
    _require_plain(opened, changes)
    name = _namer(changes if WRITERS[to].dotted else [], base, allow_pickle=selection.allow_pickle)
    factors = [_factors(change, name(change)) for change in changes]
    if twice := [one for one in {each.module for each in factors} if sum(e.module == one for e in factors) > 1]:
        raise AdapterError(f"'{adapter}' changes {first_five(sorted(twice))} more than once. Save the adapter again.")
    writer = WRITERS[to]
    settled = writer.prepared(factors, component)
    with whole_folder(Path(out), "adapter", force=force, inputs=kept) as partial:
        writer.write(partial, settled, str(base) if base is not None else opened.base)
    modules = tuple(
        ConvertedModule(
            change.module,
            one.written,
            (one.B.shape[0], one.A.shape[1]),
            change.change.lora.rank if change.change.lora else one.A.shape[0],
            one.source_scaling,
            one.is_exact,
        )
        for change, one in zip(changes, settled, strict=True)
    )
    left = (*(one for one in opened.needs_base if "whole" in one.reason), *apart)
    told = [f"{len(left)} parts of '{adapter}' have no place in the output: see left_behind."] if left else []
    return Conversion(
        str(adapter), opened.kind, to, str(out), modules, left, (*told, *writer.warnings(settled)), versions()
    )


def _of_component(opened: AdapterUpdates, component: str | None) -> tuple[list[NamedChange], list[Skipped]]:
    """The changes of one model: the part that was asked for, or all where the adapter has one part only.

    Raises:
        AdapterError: If there are several and none was named.
    """
    present = list(dict.fromkeys(change.component for change in opened.changes))
    wanted = [one for one in present if component is not None and component in (one, one.removeprefix("lora_"))]
    if len(present) > 1 and not wanted:
        raise AdapterError(
            f"'{opened.location}' changes {len(present)} parts of a pipeline: {first_five(present)}. "
            "Choose one with component."
        )
    chosen = wanted[0] if wanted else present[0] if present else ""
    changes = [change for change in opened.changes if change.component == chosen]
    apart = [
        Skipped(change.module, f"belongs to the {change.component or 'rest'}")
        for change in opened.changes
        if change.component != chosen
    ]
    if not changes:
        reasons = first_five([f"{one.name}: {one.reason}" for one in opened.needs_base]) or "it holds no factors"
        raise AdapterError(f"'{opened.location}' holds nothing that can be converted ({reasons}).")
    return changes, apart


def _require_plain(opened: AdapterUpdates, changes: Sequence[NamedChange]) -> None:
    """Refuse what is not scaling * B A of a module.

    Raises:
        AdapterError: With the reason.
    """
    other = [change.module for change in changes if not isinstance(change.change, LoraChange)]
    reasons = [one for one in opened.needs_base if "whole" not in one.reason]
    if other or reasons:
        what = f"'{other[0]}'" if other else f"'{reasons[0].name}': {reasons[0].reason}"
        raise AdapterError(
            f"'{opened.location}' ({opened.method}) is not scaling * B A alone ({what}), and only that is converted. "
            "Extract a plain LoRA from it with `spectra extract`."
        )
    turned = [change.module for change in changes if change.interleaved]
    if turned:
        raise AdapterError(
            f"'{opened.location}' ({opened.kind}) orders the rows of {first_five(turned[:1])} as another program "
            "rotates queries and keys, and how many heads there are is not in it. Extract from the merged checkpoint."
        )


def _namer(
    changes: Sequence[NamedChange], base: str | Path | None, *, allow_pickle: bool
) -> Callable[[NamedChange], str]:
    """The dotted name of a module; a name with underscores is looked up in the base.

    Raises:
        AdapterError: If a name cannot be told.
    """
    flat = [change for change in changes if change.flattened]
    if flat and base is None:
        raise AdapterError(
            f"The names of this adapter are written with underscores ('{flat[0].module}'), and only the base tells "
            "where the dots were. Name it with base."
        )
    names = Names(Sources(base, allow_pickle=allow_pickle).catalogue(base)) if flat and base is not None else None

    def name(change: NamedChange) -> str:
        if names is None or not change.flattened:
            return change.module
        found = names.find(change)
        if found is None:
            raise AdapterError(f"'{change.module}' is no module of '{base}'. Give the base that it was trained on.")
        return found[0]

    return name


def _factors(change: NamedChange, module: str) -> NamedFactors:
    """The factors as stored, without their scaling."""
    lora = change.change
    if not isinstance(lora, LoraChange):
        raise TypeError("a plain LoRA has been required")
    A, B = lora.A.load(lora.A.dtype), lora.B.load(lora.B.dtype)
    kernel = lora.A.blocks[0].tensor.shape[2:]
    return NamedFactors(module, A, B, lora.settings.scaling, change.component, kernel=kernel)
