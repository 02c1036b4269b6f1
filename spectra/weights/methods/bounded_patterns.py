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
from collections.abc import Iterable, Mapping, Sequence
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
    """Refuse a configuration whose expressions take too long on the names they are matched with.

    Args:
        config: An adapter_config.json.
        names: Names of modules.
        source: Where the configuration stands, for the message.

    Raises:
        AdapterError: If they do.
    """
    patterns = [pattern for pattern in _patterns(config) if not PLAIN.fullmatch(pattern)]
    if patterns and not _returns(patterns, list(names)):
        worst = next((one for one in patterns if not _returns([one], list(names))), patterns[0])
        raise AdapterError(
            f"'{source}' has the regular expression {worst[:80]!r}, which takes more than {PATIENCE_SECONDS:g} s to "
            "match. Do not use this adapter, or correct the expression."
        )


def _patterns(config: Mapping[str, Any]) -> Iterable[str]:
    for field in TEXTS:
        value = config.get(field)
        yield from [value] if isinstance(value, str) else [one for one in value or () if isinstance(one, str)]
    for field in KEYS:
        value = config.get(field)
        yield from value if isinstance(value, dict) else ()


def _returns(patterns: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a process that matches everything with everything ends in time, and by itself."""
    asked = {"patterns": list(patterns), "names": list(names), "seconds": PATIENCE_SECONDS}
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
