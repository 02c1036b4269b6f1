"""Two versions of the engine side by side: `python scripts/bench_scan.py --compare REV`.

The version of the working tree and that of REV (a git worktree in a temporary folder) run the same scans alternately,
one process each, so that whatever else the machine does disturbs both alike. Processor time stands beside wall time.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench_worker import KINDS, SCANS

ROOT = Path(__file__).parents[1]
HEADER = (
    "| matrix | update | scan | before (s) | now (s) | ratio, median | ratios pair by pair | processor (s) | ratio | "
    "differing |\n" + "|---" * 10 + "|"
)


class Worker:
    """A process that scans with the engine of one version."""

    def __init__(self, tree: Path, threads: int) -> None:
        path = os.pathsep.join([str(tree), str(ROOT / "scripts")])
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "scripts" / "bench_worker.py")],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
        )

    def ask(self, **question: object) -> Any:
        """Send a line, wait for the answer."""
        if self.process.stdin is None or self.process.stdout is None:
            raise ValueError("a worker is started with pipes")
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("A worker ended. Its error stands above.")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


@contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """A git worktree of a revision, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="bench-compare-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), revision], check=True, capture_output=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True, capture_output=True)


def compare(
    revision: str,
    shapes: Sequence[tuple[int, int]],
    seed: int,
    repeats: int,
    threads: int,
    tell: Callable[[str], None],
) -> None:
    """Print one row per matrix, update and scan: a ratio above 1 says how many times faster this version is."""
    tell(HEADER)
    with tree_of(revision) as tree, ExitStack() as stack:
        before, now = (Worker(path, threads) for path in (tree, ROOT))
        for worker in (before, now):
            stack.callback(worker.close)
        for shape in shapes:
            for update in KINDS:
                for worker in (before, now):
                    worker.ask(shape=shape, update=update, seed=seed)
                for scan in SCANS:
                    pairs = [_pair(before, now, scan, swapped=bool(i % 2)) for i in range(repeats)]
                    tell(_row(shape, update, scan, pairs))


def _pair(before: Worker, now: Worker, scan: str, *, swapped: bool) -> tuple[Any, Any]:
    """The same scan by both, one directly after the other, in either order."""
    if swapped:
        second = now.ask(scan=scan)
        return before.ask(scan=scan), second
    return before.ask(scan=scan), now.ask(scan=scan)


def _row(shape: tuple[int, int], update: str, scan: str, pairs: Sequence[tuple[Any, Any]]) -> str:
    old, new = zip(*pairs, strict=True)
    wall = [a["wall"] / b["wall"] for a, b in pairs]
    cpu = [a["cpu"] / b["cpu"] for a, b in pairs]
    differing = sum(a != b for one, other in pairs for a, b in zip(one["verdicts"], other["verdicts"], strict=True))
    cells = [
        f"{shape[0]} x {shape[1]}",
        update,
        scan,
        f"{median(each['wall'] for each in old):.3f}",
        f"{median(each['wall'] for each in new):.3f}",
        f"{median(wall):.2f}x",
        " ".join(f"{ratio:.2f}" for ratio in wall),
        f"{median(each['cpu'] for each in old):.3f}, {median(each['cpu'] for each in new):.3f}",
        f"{median(cpu):.2f}x",
        str(differing),
    ]
    return f"| {' | '.join(cells)} |"
