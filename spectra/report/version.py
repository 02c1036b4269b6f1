"""Which version of the page and the tables a report was made by: a stamp in the page, compared by a test.

A committed report that another version made says what this version would not; nobody sees that by looking at it.
"""

import hashlib
import re
from functools import cache
from pathlib import Path

from spectra.errors import RunError
from spectra.runs import BESIDE_RUNS, SCHEMAS

STAMP = re.compile(r'<meta name="generator" content="spectra" data-version="([0-9a-f]{12})">')
HEAD_CHARACTERS = 4000


@cache
def page_version() -> str:
    """Twelve hexadecimal digits of what makes a page: this package's code, its templates, the columns of the tables.

    Comments count too. To tell those that change no page apart would take longer than rendering the pages again, which
    needs no training.
    """
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*")):
        if path.suffix in (".py", ".html", ".css", ".js"):
            digest.update(f"{path.relative_to(package).as_posix()}\x00{path.read_text(encoding='utf-8')}\x00".encode())
    for name, columns in {**SCHEMAS, **BESIDE_RUNS}.items():
        digest.update(f"{name}\x00{[(column.name, column.kind) for column in columns]}\x00".encode())
    return digest.hexdigest()[:12]


def stamped_version(report: Path) -> str:
    """The version that wrote a report; "" of one that was written before there were stamps.

    Raises:
        RunError: If the file cannot be read.
    """
    try:
        with report.open(encoding="utf-8") as stream:
            found = STAMP.search(stream.read(HEAD_CHARACTERS))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(
            f"'{report}' cannot be read as a report: {error}. Write it again with `spectra report`."
        ) from error
    return found[1] if found else ""
