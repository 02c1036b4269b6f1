"""Build the documentation site: gather README, docs, reports and notebooks in one folder, and run mkdocs over it.

    python scripts/build_docs.py

The pages link to each other as they lie in the repository, so that they also read well there; the folder keeps that
layout. The build is strict: a link that leads nowhere fails it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GATHERED = ROOT / "build" / "docs"
# What pages link to, beside themselves.
SUFFIXES = {".md", ".html", ".png", ".svg", ".sh", ".yaml", ".csv", ".json", ".ipynb", ".py", ".js", ".cff", ".txt"}
FOLDERS = ("docs", "reports", "notebooks", "scripts")


def gather() -> None:
    """Copy every page, and the files that pages link to, under the paths that they have in the repository."""
    shutil.rmtree(GATHERED, ignore_errors=True)
    sources = [path for path in ROOT.iterdir() if path.suffix in {".md", ".cff"}]
    sources += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    for source in sources:
        copy = GATHERED / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def main() -> int:
    """Gather the pages and build the site strictly."""
    gather()
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--config-file",
        str(ROOT / "mkdocs.yml"),
    ]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
