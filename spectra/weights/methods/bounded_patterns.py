"""Regular expressions of other people's configurations, tried where they can be stopped.

Python's matcher backtracks: `(a+)+$` takes longer than the universe on a name of a hundred letters, and nothing can
interrupt it. peft matches the same expressions with the same matcher, so that another one with a time limit, or rules
about what an expression may look like, would not tell whether peft returns. They are therefore matched once in a
process of their own, which is ended after some time; plain names, which nearly all are, need none.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError

# Of processor time, which a busy machine does not shorten; and of the clock, where processor time is not limited.
PATIENCE_SECONDS = 2
PATIENCE_OF_THE_CLOCK_SECONDS = 120.0
PLAIN = re.compile(r"[\w.\-/]*")
# Fields of a configuration that peft takes for expressions: those of text, and those whose keys are.
TEXTS = ("target_modules", "exclude_modules", "layers_pattern", "target_parameters")
KEYS = ("rank_pattern", "alpha_pattern")
MOST = 10_000  # expressions of a field, or as many as there are modules: peft tries each of them on each
MATCHING = """
import json, re, sys
asked = json.load(sys.stdin)
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"], asked["seconds"]))
except (ImportError, ValueError, OSError):
    pass
for pattern in asked["patterns"]:
    try:
        compiled = [re.compile(pattern), re.compile(rf"(.*\\.)?({pattern})$")]
    except (re.error, OverflowError, RecursionError):
        continue
    for name in asked["names"]:
        compiled[0].fullmatch(name), compiled[1].match(name)
"""


def require_bounded(config: Mapping[str, Any], names: Iterable[str], source: Path) -> None:
    """Refuse a configuration whose expressions are none, or take too long on the names they are matched with.

    Args:
        config: An adapter_config.json.
        names: Names of modules.
        source: Where the configuration stands, for the message.

    Raises:
        AdapterError: If they do, or a field holds something else, or more expressions than there can be modules.
    """
    names = tuple(sorted(names))
    _require_kinds(config, max(MOST, len(names)), source)
    patterns = tuple(pattern for pattern in _patterns(config) if not PLAIN.fullmatch(pattern))
    if patterns and not _returns(patterns, names):
        worst = next((one for one in patterns if not _returns((one,), names)), patterns[0])
        raise AdapterError(
            f"'{source}' has the regular expression {worst[:80]!r}, which takes more than {PATIENCE_SECONDS:g} s to "
            "match. Do not use this adapter, or correct the expression."
        )
    _require_expressions(config, source)


def _require_kinds(config: Mapping[str, Any], most: int, source: Path) -> None:
    """Fields of texts hold one or a list of them, fields of keys an object, and none of them too many."""
    for field in (*TEXTS, *KEYS):
        value = config.get(field)
        if value is None or (isinstance(value, str) and field in TEXTS):
            continue
        if not isinstance(value, dict if field in KEYS else list) or not all(isinstance(one, str) for one in value):
            wanted = "an object" if field in KEYS else "a text or a list of texts"
            raise AdapterError(
                f"{field} in '{source}' is {value!r:.80}, and {wanted} is wanted. Save the adapter again."
            )
        if len(value) > most:
            raise AdapterError(
                f"{field} in '{source}' has {len(value)} entries, more than the {most} that are read. Save the adapter "
                "again."
            )


def _require_expressions(config: Mapping[str, Any], source: Path) -> None:
    """A text that stands alone is an expression; the texts of a list are ends of names."""
    for expression in (value for field in TEXTS if isinstance(value := config.get(field), str)):
        try:
            re.compile(expression)
        except (re.error, OverflowError, RecursionError) as error:
            raise AdapterError(
                f"'{source}' has the regular expression {expression[:80]!r}, which is none ({error}). Correct it."
            ) from error


def _patterns(config: Mapping[str, Any]) -> Iterable[str]:
    for field in TEXTS:
        value = config.get(field)
        yield from [value] if isinstance(value, str) else [one for one in value or () if isinstance(one, str)]
    for field in KEYS:
        value = config.get(field)
        yield from value if isinstance(value, dict) else ()


@lru_cache(maxsize=128)  # the adapters of a sweep have their expressions and names in common
def _returns(patterns: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Whether a process that matches everything with everything ends in time, and by itself."""
    asked = {"patterns": patterns, "names": names, "seconds": PATIENCE_SECONDS}
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", MATCHING],
            input=json.dumps(asked),
            text=True,
            timeout=PATIENCE_OF_THE_CLOCK_SECONDS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode >= 0  # a negative one is the signal that ended it
