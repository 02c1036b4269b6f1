"""Options that several commands share, one decorator per group."""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

import spectra
from spectra.cli.option_types import MemorySize, Numbers, Task

Command = Callable[..., Any]


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator that applies several, in the order in which --help lists them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def selected(command: Command) -> Command:
    """Hand a command one `selection` for those of its options that are fields of `Selection`."""

    @wraps(command)
    def run(*args: Any, **values: Any) -> Any:
        from spectra.records.selection import Selection

        own = {field.name: values.pop(field.name) for field in fields(Selection) if field.name in values}
        return command(*args, selection=Selection(**own), **values)

    return run


base_option = click.option(
    "--base",
    metavar="BASE",
    help="Pre-trained model: folder, file, asset of `spectra assets list` or hub id."
    "  [default: the one that the adapter names]",
)

revision_option = click.option("--revision", metavar="REV", help="Branch, tag or commit of the checkpoint on the hub.")
base_revision_option = click.option(
    "--base-revision", metavar="REV", help="Branch, tag or commit of its base on the hub."
)
pickle_option = click.option(
    "--allow-pickle", is_flag=True, help="Open pickles (.bin, .pt, .ckpt) with torch's restricted loader."
)

# Every name here and below but the base is a field of `spectra.Selection`.
folder_options = stacked(
    click.option("--adapter-name", metavar="NAME", help="Name of the adapter, where a folder holds several."),
    click.option(
        "--take",
        type=click.Choice(["model", "adapter"]),
        help="Whether the adapter or the full model is read, where a folder holds both.",
    ),
)

source_options = stacked(
    base_option,
    revision_option,
    base_revision_option,
    folder_options,
    pickle_option,
)

checkpoint_options = stacked(
    source_options,
    click.option(
        "--tuned-base",
        type=click.Path(exists=True, path_type=Path),
        help="The base as the initialisation left it, for PiSSA, OLoRA, CorDA and LoftQ.",
    ),
    click.option(
        "--initial-adapter",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The adapter as it was saved before training, for PiSSA, OLoRA and CorDA.",
    ),
    click.option(
        "--lora-alpha", type=float, help="Alpha of LoRA factors inside a full checkpoint, whose files do not hold it."
    ),
)

stream_option = click.option(
    "--stream/--no-stream",
    default=None,
    help="Read models of the hub where they lie instead of downloading them; what is in the cache is read from there."
    "  [default: stream]",
)

name_options = stacked(
    click.option("--include", metavar="REGEX", help="Compare only matrices whose name contains a match."),
    click.option("--exclude", metavar="REGEX", help="Leave out matrices whose name contains a match."),
    click.option("--roles", metavar="ROLES", help="Compare only these roles, such as q_proj,v_proj."),
    click.option("--layers", metavar="LAYERS", help="Compare only these layers, such as 0-11 or 0,3,8-11."),
)

selection_options = stacked(
    name_options,
    click.option("--split-fused", is_flag=True, help="Split fused matrices (qkv, gate_up) and compare their parts."),
)

Share = click.FloatRange(0, 1, min_open=True)

vector_options = stacked(
    click.option(
        "-k",
        type=click.IntRange(min=1),
        default=10,
        show_default=True,
        help="Leading singular vectors examined per matrix.",
    ),
    click.option(
        "--epsilon",
        type=Share,
        default=0.5,
        show_default=True,
        help="Cosine below which a vector counts as an intruder.",
    ),
)

overlap_options = stacked(
    click.option(
        "--top",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        help="Leading directions of each update that are compared.",
    ),
    click.option(
        "--draws",
        type=click.IntRange(min=1),
        default=99,
        show_default=True,
        help="Pairs of random subspaces simulated for each control.",
    ),
)

side_option = click.option(
    "--side",
    type=click.Choice(["left", "right", "both"]),
    default="left",
    show_default=True,
    help="Side of the singular vectors; the paper takes the left ones.",
)

definition_options = stacked(
    vector_options,
    click.option(
        "--epsilons", type=Numbers(), default=(), help="Further values of epsilon to decide, such as 0.1,0.3,0.7."
    ),
    side_option,
)

device_option = click.option("--device", default="cpu", show_default=True, help="torch device, such as cuda.")
cache_option = click.option(
    "--cache/--no-cache", default=True, show_default=True, help="Keep factors of BASE on disk for the next call."
)

engine_options = stacked(
    click.option(
        "--method",
        type=click.Choice(["auto", "certified", "exact", "cached-basis"]),
        default="auto",
        show_default=True,
        help="Method that reaches the verdicts; all give the same ones.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "float64"]),
        default="float32",
        show_default=True,
        help="Floating-point type of the scan.",
    ),
    device_option,
    click.option(
        "--memory",
        "memory_bytes",
        type=MemorySize(),
        help="Memory that the scan may use, such as 4GiB; larger matrices are streamed.",
    ),
    cache_option,
)
ray_option = click.option(
    "--ray", metavar="auto|ADDRESS", help="Spread the matrices over a Ray cluster; ADDRESS is HOST:PORT."
)

treated_options = stacked(
    click.option(
        "--select",
        type=click.Choice(["top", "all", "energy"]),
        default="top",
        show_default=True,
        help="Intruders to scale per matrix: the highest-ranked, all, or the fewest that hold --share of their energy.",
    ),
    click.option(
        "--share",
        type=Share,
        default=0.9,
        show_default=True,
        help="Share of the intruders' energy that --select energy scales.",
    ),
)

heldout_option = click.option(
    "--heldout",
    type=Task(),
    required=True,
    multiple=True,
    metavar="TASK[:MEASURE]",
    help="Held-out task, by name or by fields as in a sweep: {path: a.csv, text: body, label: stars}; repeatable.",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Largest number of examples to score per task.  [default: the whole test split]",
)
max_length_option = click.option(
    "--max-length", type=click.IntRange(min=2), default=256, show_default=True, help="Tokens that a text is cut to."
)
prompt_options = stacked(
    click.option("--instruction", help="Text between an input and its answer, for generative models."),
    click.option(
        "--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Texts per forward pass."
    ),
)
precision_option = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Floating-point type of the models.",
)


def _trust(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Let the processes of this command run the code of checkpoints."""
    if value:
        from spectra.models.remote_code import trust_remote_code

        trust_remote_code()


trust_option = click.option(
    "--trust-remote-code",
    is_flag=True,
    expose_value=False,
    callback=_trust,
    help="Run Python code that comes with a checkpoint.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print no progress on stderr.")


def presets_of(package: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completes the names of presets in the shell; read from the files of `spectra.PACKAGE`, which loads nothing."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        folder = Path(spectra.__file__).parent / package / "presets"
        return sorted(path.stem for path in folder.glob("*.yaml") if path.stem.startswith(incomplete))

    return complete
