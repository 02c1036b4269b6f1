"""A task on the command line: a name, a file, or a mapping as in a sweep's specification."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import click


class Task(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """TASK[:MEASURE], or fields such as {path: a.csv, text: body, label: stars}, in place or in a .yaml file."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A text as it is, a mapping as its fields."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return self._fields(value, param, ctx)
        if Path(value).suffix in (".yaml", ".yml") and not value.startswith("lm-eval:"):
            try:
                return self._fields(Path(value).read_text(encoding="utf-8"), param, ctx)
            except (OSError, UnicodeDecodeError) as error:
                self.fail(
                    f"'{value}' cannot be read ({error}). Name a YAML file with the fields of a task.", param, ctx
                )
        return value

    def _fields(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        import yaml

        class Strict(yaml.SafeLoader):
            """A field that is written twice would lose its first value without a word."""

            def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
                keys = [key.value for key, _ in node.value]
                if twice := [key for key in keys if keys.count(key) > 1]:
                    raise yaml.YAMLError(f"'{twice[0]}' stands there twice")
                return super().construct_mapping(node, deep)

        try:
            fields = yaml.load(text, Strict)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            self.fail(f"The fields of the task are no YAML: {' '.join(str(error).split())}. Correct them.", param, ctx)
        if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
            self.fail("A task is a mapping, such as {path: a.csv, text: body, label: stars}.", param, ctx)
        return fields
