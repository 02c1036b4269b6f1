"""One rule for every destination: nothing is replaced but what the same command wrote."""

import json
import os
from pathlib import Path

import pytest

from spectra.errors import DestinationError
from spectra.storage import destinations
from spectra.storage.atomic import write_json
from spectra.storage.destinations import (
    COMPARISON,
    LORA_CONFIG,
    MARKER,
    REPORT,
    mark,
    require_apart,
    require_continued,
    require_file,
    require_folder,
    whole_folder,
)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write(folder: Path, text: str, *, force: bool = False, inputs: tuple[Path, ...] = ()) -> None:
    with whole_folder(folder, "adapter", force=force, inputs=inputs) as partial:
        (partial / "weights").write_text(text)


def test_a_folder_is_replaced_whole_and_only_by_force(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(DestinationError, match=r"exists\. Add --force to replace it, or choose another folder\."):
        write(tmp_path / "out", "new")
    write(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / "weights").read_text() == "new"
    assert listing(tmp_path) == ["out", f"out/{MARKER}", "out/weights"]


@pytest.mark.parametrize("foreign", ["notes.txt", "data/rows.csv", ".hidden"])
def test_a_folder_to_which_somebody_added_something_stays(tmp_path: Path, foreign: str) -> None:
    write(tmp_path / "out", "old")
    (tmp_path / "out" / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / foreign).write_text("mine")
    with pytest.raises(DestinationError, match="holds what spectra did not write"):
        write(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / foreign).read_text() == "mine"


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "thesis.tex").write_text("mine")
    write_json(tmp_path / "marked" / MARKER, {"what": "scan", "files": [MARKER]})
    for name in ("project", "marked"):
        before = listing(tmp_path / name)
        with pytest.raises(DestinationError, match="is no adapter that spectra wrote"):
            write(tmp_path / name, "new", force=True)
        assert listing(tmp_path / name) == before


def test_what_arrives_while_the_new_folder_is_made_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with (
        pytest.raises(DestinationError, match="did not write"),
        whole_folder(tmp_path / "out", "adapter", force=True) as partial,
    ):
        (partial / "weights").write_text("new")
        (tmp_path / "out" / "late").write_text("mine")
    assert (tmp_path / "out" / "weights").read_text() == "old"
    assert listing(tmp_path) == ["out", f"out/{MARKER}", "out/late", "out/weights"]


@pytest.mark.parametrize("out", [".", "..", "base", "above", "/", "~", "link"])
def test_inputs_and_what_holds_them_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    here = tmp_path / "here"
    write(here / "base", "W0")
    write(here / "above", "old")
    write(here / "above" / "inner", "adapter")
    (here / "link").symlink_to("base")
    monkeypatch.chdir(here)
    before = listing(here)
    with pytest.raises(DestinationError, match=r"is or holds .*\. Choose another place\."):
        write(Path(out).expanduser(), "new", force=True, inputs=(Path("base"), Path("above/inner")))
    assert listing(here) == before


@pytest.mark.parametrize(
    ("kind", "own", "foreign"),
    [
        (REPORT, '<html><meta name="generator" content="spectra">', "<html><title>mine</title>"),
        (COMPARISON, '{"checkpoints": [], "overlaps": [], "versions": {}}', '{"peft_type": "LORA"}'),
        (LORA_CONFIG, '{"r": 1, "lora_alpha": 2, "rank_pattern": {}, "alpha_pattern": {}}', '["mine"]'),
        (destinations.TABLE, None, "PAR1"),
    ],
)
def test_a_file_is_replaced_only_by_its_like(
    tmp_path: Path, kind: destinations.FileKind, own: str | None, foreign: str
) -> None:
    path = tmp_path / "out"
    path.write_text(foreign)
    for force, told in ((False, "Add --force to replace it"), (True, f"is not {kind.word}")):
        with pytest.raises(DestinationError, match=told):
            require_file(path, kind, force=force)
    if own is not None:
        path.write_text(own)
        assert require_file(path, kind, force=True) == path
        with pytest.raises(DestinationError, match="which the command reads"):
            require_file(path, kind, force=True, inputs=[path])


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    assert require_file(tmp_path / "link", REPORT, force=False) == tmp_path / "real"
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(DestinationError):
        require_file(tmp_path / "round", REPORT, force=True)


def test_devices_fifos_and_folders_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(DestinationError, match="is no regular file"):
            require_file(path, REPORT, force=True)
    with pytest.raises(DestinationError, match="is a folder"):
        require_file(tmp_path, REPORT, force=True)


def test_a_place_below_a_file_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DestinationError, match="is no folder"):
        require_file(tmp_path / "file" / "deep" / "out", REPORT, force=True)
    with pytest.raises(DestinationError, match="is a file"):
        require_folder(tmp_path / "file", "adapter", force=True)


def test_a_folder_is_gone_on_in_only_where_it_was_begun(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(DestinationError, match="was not begun by `spectra forget`"):
        require_continued(tmp_path, "forget")
    (tmp_path / "out").mkdir()
    require_continued(tmp_path / "out", "forget")
    mark(tmp_path / "out", "forget")
    (tmp_path / "out" / "scores").write_text("")
    require_continued(tmp_path / "out", "forget")
    with pytest.raises(DestinationError):
        require_continued(tmp_path / "out", "intervene")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "sweep.json").write_text("{}")
    require_continued(tmp_path / "run", "intervene")


def test_destinations_of_one_command_lie_apart(tmp_path: Path) -> None:
    require_apart([tmp_path / "a", tmp_path / "b"])
    for other in ("a", "a/b", "c/../a"):
        with pytest.raises(DestinationError, match="over each other"):
            require_apart([tmp_path / "a", tmp_path / other])


def test_without_an_exchange_the_old_folder_is_set_aside_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra.storage.atomic.sys.platform", "plan9")
    write(tmp_path / "out", "old")
    write(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_marker_lists_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "out", "x")
    assert json.loads((tmp_path / "out" / MARKER).read_text()) == {"what": "adapter", "files": [MARKER, "weights"]}


def test_a_sweep_that_was_killed_before_its_first_file_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run" / ".sweep.json.0123456789ab.partial").mkdir(parents=True)
    (tmp_path / "run" / "lock").write_text("")
    assert require_continued(tmp_path / "run", "sweep") == tmp_path / "run"
