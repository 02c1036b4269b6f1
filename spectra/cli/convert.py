"""`spectra convert`: the same LoRA in another program's format."""

from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.options import folder_options, pickle_option, revision_option, selected, stacked
from spectra.cli.output import Output, output_options
from spectra.cli.terminal import echo, warn

if TYPE_CHECKING:
    from spectra.surgery import Conversion

reading_options = stacked(
    click.option("--base", metavar="BASE", help="Base of ADAPTER, needed where its names have underscores for dots."),
    click.option(
        "--component", metavar="NAME", help="Part of a pipeline to read, or prefix to write, such as lora_unet."
    ),
    revision_option,
    folder_options,
    pickle_option,
)


@click.command(cls=WritingCommand, epilog="Example:  spectra convert my-adapter --to mlx -o my-adapter-mlx")
@click.argument("adapter", metavar="ADAPTER")
@click.option("--to", required=True, type=click.Choice(["peft", "kohya", "mlx"]), help="Program that reads the result.")
@click.option(
    "-o", "--out", required=True, type=FolderDestination("adapter", "whole"), help="Folder that receives the adapter."
)
@reading_options
@selected
@output_options("module")
def command(adapter: str, output: Output, **settings: Any) -> None:
    """Write the LoRA ADAPTER in another program's format: names, scaling and layout; the factors hold the same numbers.

    Read are the LoRAs of peft, kohya-ss, diffusers, mlx-lm, torchtune and GGUF. kohya-ss writes the dots of names as
    underscores, so that the way back needs --base.
    """
    result = spectra.convert(adapter, force=output.force, **settings)
    warn(result.warnings)
    output.emit(text=lambda: _print(result), whole=result.to_dict, rows=result.rows)


def _print(result: "Conversion") -> None:
    for sentence in result.sentences():
        echo(sentence)
