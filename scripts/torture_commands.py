"""Kill -9, and full disks, at random moments of commands that write: what was there is there, and they succeed again.

Every round draws a command, a harm and a moment. "kill" ends the real process and all of its workers after a random
part of its time; "disk" runs it with a working folder and a cache on a small tmpfs that has a random rest of room (a
kill instead where this account may not mount one). Then the inputs and what was there before are held against their
bytes, and the same command is run again. Run from the root:

    python -m scripts.torture_commands --rounds 20 --seed 0
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests import tiny
from tests.hostile.strikes import contents, partials
from tests.scanning.checkpoints import Checkpoints, save

DISK_BYTES = 24 << 20
COMMANDS = ("mitigate", "scan", "intruders", "resize", "extract", "merge", "convert", "sweep")
ROUND = ("round", "command", "harm", "moment", "exit", "before is there", "told in one sentence", "again", "partials")


@dataclass(frozen=True)
class Written:
    """A command that writes.

    Attributes:
        earlier: Its arguments for what is there before.
        struck: The arguments that are harmed.
        kept: What of the earlier result stays, whatever happens: "all or new" or "files".
    """

    earlier: list[str]
    struck: list[str]
    kept: str = "all or new"


def commands(folder: Path, saved: Checkpoints) -> dict[str, Written]:
    """The commands on tiny models."""
    adapter, question = str(saved.adapters[1]), ["-k", "4", "-q", "--force"]
    written = {
        "mitigate": (["--lambda", "0.2", "-o", "out"], ["--lambda", "0.6", "-o", "out"]),
        "scan": (["--seed", "1", "-o", "out"], ["--seed", "2", "-o", "out"]),
        "intruders": (["--html", "out.html"], ["--epsilon", "0.4", "--html", "out.html"]),
    }
    found = {
        name: Written([name, adapter, *earlier, *question], [name, adapter, *struck, *question])
        for name, (earlier, struck) in written.items()
    }
    small = ["--no-count", "-q", "--force", "-o", "out"]
    others = {
        "resize": ([adapter, *small], ["--rank", "1"], ["--rank", "2"]),
        "extract": ([str(saved.full), "--base", str(saved.base), *small], ["--rank", "1"], ["--rank", "2"]),
        "merge": (
            [adapter, str(saved.adapters[0]), "--no-critical", "--rank", "2", "-q", "--force", "-o", "out"],
            ["--weights", "1,2"],
            ["--weights", "1,1"],
        ),
        "convert": ([adapter, "--force", "-o", "out"], ["--to", "mlx"], ["--to", "peft"]),
    }
    found |= {
        name: Written([name, *asked, *earlier], [name, *asked, *struck])
        for name, (asked, earlier, struck) in others.items()
    }
    specification = folder / "sweep.yaml"
    heldout = tiny.save_sentiment(folder / "heldout.jsonl", 100, seed=5)
    specification.write_text(
        yaml.safe_dump(
            {
                "base": tiny.save_model(folder / "bert", "bert"),
                "task": tiny.save_sentiment(folder / "task.jsonl", 200),
                "heldout": [{"task": heldout, "max_length": 16}],
                "methods": [{"method": "lora", "rank": 2, "learning_rate": 3e-2}],
                "steps": 8,
                "batch_size": 4,
                "max_length": 16,
            }
        )
    )
    sweep = ["sweep", str(specification), "-o", "run", "-q"]
    found["sweep"] = Written([*sweep, "seed=0"], [*sweep, "seed=0,1"], "files")
    return found


def start(arguments: list[str], place: Path) -> "subprocess.Popen[str]":
    """A command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "spectra", *arguments],
        cwd=place / "work",
        env={**os.environ, "SPECTRA_CACHE": str(place / "cache"), "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(arguments: list[str], place: Path) -> tuple[int, str]:
    """A command that nobody harms."""
    process = start(arguments, place)
    try:
        _, errors = process.communicate(timeout=600)
    finally:
        process.kill()  # after a timeout nothing may hold the file system
    return process.returncode, errors


def workers(driver: int) -> list[int]:
    """Process ids of what a process has started."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(driver)], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def killed(arguments: list[str], place: Path, after_seconds: float) -> int:
    """A command whose processes are all killed after a time."""
    process = start(arguments, place)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_seconds)
    for pid in [*workers(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    return process.returncode


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """A file system of a few MB; False where none can be mounted."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, leave_bytes: int) -> Path:
    """Take up the room of a file system but for a rest."""
    free = shutil.disk_usage(place).free
    path = place / "filling"
    path.write_bytes(bytes(max(0, free - leave_bytes)))
    return path


def torture(
    name: str, one: Written, harm: str, place: Path, whole: tuple[float, int], draw: random.Random
) -> tuple[object, ...]:
    """One round in a folder that holds the earlier result: what came of it, beginning with the moment."""
    work = place / "work"
    before, sentence = contents(work), "-"
    if harm == "kill":
        moment = draw.uniform(0, whole[0])
        told, code = f"{moment:.2f} s", killed(one.struck, place, moment)
    else:
        room = draw.randint(0, whole[1])
        filling = fill(place, room)
        told = f"{room} bytes left"
        code, errors = done(one.struck, place)
        filling.unlink()
        fine = code == 0 or (code == 1 and errors.count("Error: ") <= 1 and "Traceback" not in errors)
        sentence = "yes" if fine else errors[-2000:]
    now = contents(work)
    if one.kept == "files":
        trials = {file for file in before if file.startswith("run/trials/")}
        same = all(now.get(file) == before[file] for file in trials if not file.endswith("lock"))
    else:
        same = now == before
    again, errors = done(one.struck, place)
    new = contents(work)
    same = same or (one.kept == "all or new" and sorted(now) == sorted(new) and sizes(now) == sizes(new))
    left = partials(place)
    return told, code, same, sentence, again == 0 or errors[-2000:], len(left)


def sizes(files: dict[str, bytes]) -> dict[str, int]:
    """Of the files whose length does not depend on times."""
    return {name: len(content) for name, content in files.items() if name.endswith(".safetensors")}


def main() -> None:
    """Torture, and print one row per round; exit 1 if any round lost something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wanted = {
            command: one
            for command, one in commands(folder, save(folder / "checkpoints")).items()
            if command in arguments.commands
        }
        inputs = contents(folder)
        earlier, whole = prepared(wanted, folder)
        inputs |= {file: content for file, content in contents(folder).items() if file in inputs}
        print("|", " | ".join(ROUND), "|\n|" + "---|" * len(ROUND))
        for number in range(arguments.rounds):
            command, harm = draw.choice(list(wanted)), draw.choice(["kill", "disk"])
            place = folder / f"round-{number}"
            with small_disk(place) as mounted:
                if harm == "disk" and not mounted:
                    harm = "kill"
                shutil.copytree(earlier[command], place, dirs_exist_ok=True)
                row = torture(command, wanted[command], harm, place, whole[command], draw)
            now = {file: content for file, content in contents(folder).items() if file in inputs}
            lost += row[2] is not True or row[3] not in ("-", "yes") or row[4] is not True or now != inputs
            print("|", " | ".join(map(str, (number + 1, command, harm, *row))), "|", flush=True)
    print(f"\n{lost} of {arguments.rounds} rounds lost something.")
    sys.exit(1 if lost else 0)


def prepared(wanted: dict[str, Written], folder: Path) -> tuple[dict[str, Path], dict[str, tuple[float, int]]]:
    """What is there before each command, and the time and the bytes that the undisturbed command takes."""
    earlier, whole = {}, {}
    for command, one in wanted.items():
        place = earlier[command] = folder / f"earlier-{command}"
        (place / "work").mkdir(parents=True)
        require(done(one.earlier, place))
        copy = Path(shutil.copytree(place, folder / f"undisturbed-{command}"))
        began = time.monotonic()
        require(done(one.struck, copy))
        grown = sum(map(len, contents(copy).values()))
        whole[command] = (time.monotonic() - began, grown)
    return earlier, whole


def require(ended: tuple[int, str]) -> None:
    """An undisturbed command must succeed."""
    if ended[0]:
        raise SystemExit(ended[1])


if __name__ == "__main__":
    main()
