"""Write docs/commands/<command>.md from the help texts:  python scripts/write_command_docs.py

The help is rendered at a fixed width, so that the pages do not depend on the terminal; a test holds them against
the live help.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from spectra.cli.main import COMMANDS, main

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "commands"
WIDTH = 100


def pages() -> dict[str, str]:
    """The text of every page by file name."""
    group = click.Context(main, info_name="spectra", terminal_width=WIDTH, max_content_width=WIDTH)
    written = {}
    for name, summary in sorted(COMMANDS.items()):
        command = main.get_command(group, name)
        if command is None:
            raise LookupError(f"'{name}' is listed but cannot be loaded")
        sections = [f"# spectra {name}\n\n{summary}\n", *_sections(command, name, group)]
        written[f"{name}.md"] = "\n".join(sections)
    return written


def _sections(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """The help of a command, and of its subcommands."""
    context = click.Context(command, info_name=name, parent=parent, help_option_names=["-h", "--help"])
    heading = f"## {context.command_path}\n\n" if parent.parent is not None else ""
    help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"{heading}```text\n{help_text}\n```\n"
    if isinstance(command, click.Group):
        for sub_name in command.list_commands(context):
            sub_command = command.get_command(context, sub_name)
            if sub_command is not None:
                yield from _sections(sub_command, sub_name, context)


def write() -> None:
    """Write every page and remove those of commands that are gone."""
    written = pages()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stale in set(FOLDER.glob("*.md")) - {FOLDER / name for name in written}:
        stale.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
