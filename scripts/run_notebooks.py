"""Execute notebooks in place, each in its own folder:  python scripts/run_notebooks.py notebooks/*.ipynb

Timings and kernel versions are left out, so that a second run changes the files only where the results change.
"""

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

LONGEST_CELL_SECONDS = 600
# Without ipywidgets, progress bars in a kernel warn on import; an output must not depend on that.
QUIET = "ignore:IProgress not found"


def execute(path: Path) -> None:
    """Run every cell and write the outputs back; a cell that raises stops the script with its traceback."""
    notebook = nbformat.read(path, as_version=4)
    os.environ.setdefault("PYTHONWARNINGS", QUIET)  # the kernel inherits it
    client = NotebookClient(
        notebook,
        timeout=LONGEST_CELL_SECONDS,
        startup_timeout=LONGEST_CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def main() -> None:
    """Execute the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    for path in parser.parse_args().notebooks:
        print(f"executing {path}", flush=True)
        execute(path)


if __name__ == "__main__":
    main()
