"""The `spectra` command: a group that loads each subcommand on first use, so that --help imports nothing heavy."""

import atexit
import difflib
import gc
import importlib
import os
import sys
import warnings
from typing import Any

import click

try:
    from spectra import DISTRIBUTION, __version__
except ImportError:  # before anything else of the package is imported
    sys.exit(
        "Error: The files of lora-spectra were overwritten or removed by another distribution, called spectra. "
        "Run `pip uninstall spectra`, then `pip install --force-reinstall --no-deps lora-spectra`."
    )

from spectra.cli.terminal import echo
from spectra.cli.troubles import sentence
from spectra.errors import SpectraError, log_without_secrets
from spectra.registry import use_plugins

# At its end Python searches all that is left for garbage: after an import of transformers that takes most of a second.
atexit.register(gc.freeze)
# Idle OpenMP threads sleep instead of spinning: on a shared machine spinning stalls small kernels a hundredfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
log_without_secrets()
# A new classification head is no news; weights that must not be random are refused by spectra.models.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
if not sys.stderr.isatty():  # bars of other packages are noise in a log; our own lines say what is done
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# What peft and transformers still have to rename between themselves is not for the reader of a table.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft)\.")

COMMANDS = {
    "advise": "Advise rank and alpha per matrix, ready for peft, from a checkpoint or a sweep.",
    "assets": "List and fetch real models and texts; pre-train the small base models.",
    "compare": "Put checkpoints of one base side by side: counts, norms, overlap of updates.",
    "convert": "Write a LoRA adapter in another program's format.",
    "doctor": "Show versions, devices, threads, the cache and the state of the hub.",
    "extract": "Write the best LoRA of a full fine-tuning, with what it leaves out.",
    "figures": "Draw the figures of a run for a paper.",
    "forget": "Measure what fine-tuned checkpoints forgot, with intervals.",
    "inspect": "Show what is in a checkpoint and which matrices would be compared.",
    "intervene": "Scale the intruders of a loaded checkpoint, beside controls, and measure forgetting.",
    "intruders": "Count the intruder dimensions of fine-tuned checkpoints.",
    "merge": "Forecast what merging adapters does to the spectra, and write the merge.",
    "mitigate": "Write an adapter with its intruder dimensions scaled, and count again.",
    "plan": "Plan a LoRA training from a pilot: ranks, alphas, learning rates and risks.",
    "plugins": "List what can be extended: metrics, held-out measures, methods, formats, tasks.",
    "report": "Write the HTML report of a run or a scan, compare several, or index many.",
    "resize": "Write a LoRA adapter at other ranks, with what that leaves out.",
    "scan": "Measure intruders, ranks, alignment and base spectra, beside their controls.",
    "status": "Show what a run has done, what failed and what is left.",
    "study": "Answer five questions on intruders by a sweep with seeds and by interventions.",
    "sweep": "Train paired LoRA and fully fine-tuned checkpoints and compare them.",
}


class SpectraGroup(click.Group):
    """Loads `spectra.cli.NAME` only when NAME is called; turns a SpectraError into one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands, in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one subcommand."""
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"spectra.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand; a mistyped one is answered with its nearest neighbour."""
        name = args[0]
        if name in COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        raise click.UsageError(f"There is no command '{name}'." + (f" Did you mean '{near[0]}'?" if near else ""), ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands from the table above, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; what the user can mend is told in one line, and a bug keeps its traceback."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except (SpectraError, OSError, MemoryError, RecursionError, RuntimeError) as error:
            told = sentence(error)
            if told is None:
                raise
            echo(f"Error: {' '.join(told.split())}", err=True)
            sys.exit(1)


@click.group(
    cls=SpectraGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example:  spectra intruders path/to/adapter --epsilon 0.5",
)
@click.version_option(__version__, prog_name="spectra", package_name=DISTRIBUTION)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE",
    help="Take further metrics, held-out measures, methods, formats or tasks from a module or .py file, which is run; "
    "repeatable.",
)
def main(plugins: tuple[str, ...]) -> None:
    """What did fine-tuning do to the weights, what did the model forget, and what can be done about it?"""
    if plugins:
        use_plugins(plugins)
