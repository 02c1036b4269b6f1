"""The Python of the documentation runs as it stands."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_on_python_runs_from_top_to_bottom(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {**vars(world), "folder": tmp_path}
    found = blocks("docs/python.md")
    assert len(found) >= 5
    for number, block in enumerate(found, start=1):
        exec(compile(block, f"docs/python.md, block {number}", "exec"), names)


def test_the_python_of_the_readme_runs(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world.adapter, "my-adapter")
    shutil.copytree(world.base, "roberta-base")
    Path("notes.txt").write_text("\n\n".join(f"w{number % 30} w{number // 30} good" for number in range(60)))
    [block] = blocks("README.md")
    exec(compile(block, "README.md", "exec"), {})
    assert "layers.0.self_attn.q_proj (16, 16)" in capsys.readouterr().out


def test_the_page_on_python_names_every_function() -> None:
    from spectra.facade import COMMANDS

    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    missing = [name for command, name in COMMANDS.items() if f"| `spectra {command}` | `spectra.{name}(" not in text]
    assert missing == []
