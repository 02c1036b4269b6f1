"""Options that several commands share: which base, which checkpoint parts, which matrices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator that applies several, in the order in which --help lists them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


base_option = click.option(
    "--base", metavar="BASE", help="Pre-trained checkpoint: folder, file or hub id. [default: the adapter's own]"
)

# Every name here and below is a keyword of `spectra.open_pair`.
source_options = stacked(
    base_option,
    click.option("--revision", metavar="REV", help="Branch, tag or commit of the checkpoint on the hub."),
    click.option("--base-revision", metavar="REV", help="Branch, tag or commit of its base on the hub."),
    click.option("--adapter-name", metavar="NAME", help="Which of several adapters in one folder."),
    click.option("--allow-pickle", is_flag=True, help="Open .bin files, with torch's restricted loader."),
)

checkpoint_options = stacked(
    source_options,
    click.option(
        "--tuned-base",
        type=click.Path(exists=True, path_type=Path),
        help="PiSSA, OLoRA, CorDA, LoftQ: the base as the initialisation left it.",
    ),
    click.option(
        "--initial-adapter",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="PiSSA, OLoRA, CorDA: the adapter as it was saved before training.",
    ),
)

name_options = stacked(
    click.option("--include", metavar="REGEX", help="Compare only matrices whose name it matches somewhere."),
    click.option("--exclude", metavar="REGEX", help="Leave out matrices whose name it matches somewhere."),
    click.option("--roles", metavar="ROLES", help="Compare only these roles, such as q_proj,v_proj."),
    click.option("--layers", metavar="LAYERS", help="Compare only these layers, such as 0-11 or 0,3,8-11."),
)

selection_options = stacked(
    name_options,
    click.option("--split-fused", is_flag=True, help="Take fused matrices (qkv, gate_up) apart."),
)
