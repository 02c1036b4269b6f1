"""Every code block of the documentation runs as it stands, or stands on a list of those that never do, and why."""

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from peft import LoraConfig

import spectra
from spectra.assets import fetched
from spectra.cli.main import main
from spectra.cli.sweep import print_results
from spectra.linalg.operators import LowRankUpdate
from spectra.runs import Run
from spectra.study.specification import StudySpecification
from spectra.sweep.spec.specification import Specification
from spectra.training.prevention.moment import Moment

ROOT = Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Blocks that are never run, and why. All others run below or in the file that is named.
NEVER = {
    ("README.md", 5): "sets up an environment of its own and trains for minutes; `make test` is what runs this",
    ("docs/clusters.md", 1): "needs a GPU, or trains without one for hours",
    ("docs/clusters.md", 4): "needs several GPUs, or a Ray cluster",
    ("docs/clusters.md", 5): "needs Slurm",
    ("docs/five-minutes.md", 1): "fetches from the package index",
    ("docs/five-minutes.md", 6): "needs the texts of an asset, and scores a thousand of them",
    ("docs/streaming.md", 1): "needs models on a hub, in a bucket and on a server",
    ("docs/study.md", 1): "trains for hours",
    ("docs/sweeps.md", 5): "needs Slurm",
    ("docs/sweeps.md", 6): "needs Slurm and Ray",
}
# Single calls of README's list that are not run, by command.
NOT_CALLED = {
    "forget": "needs the texts of an asset",
    "intervene": "needs the texts of an asset",
    "plan": "trains a pilot",
    "advise": "measures thresholds for a minute; tests/advice runs it",
}
ELSEWHERE = {
    ("docs/callback.md", 1): "tests/training/test_callback.py",
    ("docs/training-from-python.md", 1): "tests/training/test_callback.py",
}


def all_blocks() -> dict[tuple[str, int], tuple[str, str]]:
    """Language and text of every fenced block, by page and place on it."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "reports").rglob("*.md")]
    texts = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in sorted(pages)}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path.name] = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {
        (page, number): (found[1], found[2])
        for page, text in texts.items()
        for number, found in enumerate(FENCE.finditer(text), start=1)
    }


BLOCKS = all_blocks()
RUN: dict[tuple[str, int], str] = {}


def runs(page: str, *numbers: int) -> list[str]:
    """The text of some blocks of a page, which whoever asks for them runs."""
    for number in numbers:
        RUN[page, number] = BLOCKS[page, number][1]
    return [BLOCKS[page, number][1] for number in numbers]


def whole(page: str) -> list[str]:
    """Every block of a page."""
    return runs(page, *(number for name, number in BLOCKS if name == page))


PYTHON = whole("docs/python.md")
QUICK, QUICK_OUTPUT, SHELL, README_PYTHON, TRANSCRIPT = runs("README.md", 1, 2, 3, 4, 6)
FIVE_MINUTES = runs("docs/five-minutes.md", 2, 3)
REAL_PAIR, REAL_OUTPUT = runs("docs/five-minutes.md", 4, 5)
EXTENSIONS, ENTRY_POINT = runs("docs/extending.md", 1, 2, 3, 4), *runs("docs/extending.md", 5)
[ADVICE] = runs("docs/advise.md", 1)
[EDITED] = runs("docs/mitigation.md", 1)
[TASKS_YAML, TASKS_PYTHON] = runs("docs/tasks.md", 1, 2)
[ARMS, ATTACHED, BY_HAND] = runs("docs/prevention.md", 1, 2, 3)
[FULL_SPECIFICATION, TASK_LINES, EXISTING, CONTINUAL] = runs("docs/sweeps.md", 1, 2, 3, 4)
[SWEEP_PYTHON] = runs("docs/sweeps.md", 7)
[LAUNCHED, FSDP] = runs("docs/clusters.md", 2, 3)
[STUDY] = runs("docs/study.md", 2)
[FROM_PYTHON] = runs("docs/training-from-python.md", 2)


def test_every_block_runs_or_says_why_not() -> None:
    assert set(RUN) | set(NEVER) | set(ELSEWHERE) == set(BLOCKS)
    assert len(RUN) + len(NEVER) + len(ELSEWHERE) == len(BLOCKS)
    for file in ELSEWHERE.values():
        assert (ROOT / file).is_file()


@pytest.fixture
def desk(world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the pages name, as the working directory."""
    monkeypatch.chdir(tmp_path)
    named = {
        world.adapter: ("my-adapter", "A", "C", "adapter-a"),
        world.other_adapter: ("B", "adapter-b"),
        world.full: ("my-full-checkpoint",),
        world.base: ("roberta-base", "BASE"),
    }
    for source, names in named.items():
        for name in names:
            shutil.copytree(source, name)
    Path("notes.txt").write_text("\n\n".join(f"w{number % 30} w{number // 30} good" for number in range(60)))
    return tmp_path


def execute(text: str, names: Mapping[str, Any], page: str) -> dict[str, Any]:
    """Run a block; returns the names that it leaves."""
    space = dict(names)
    exec(compile(text, page, "exec"), space)
    return space


def calls(text: str) -> Iterator[list[str]]:
    """The words of every call of `spectra` in a shell block, without redirections and comments."""
    for line in text.splitlines():
        if line.startswith("spectra "):
            yield shlex.split(line.split(">")[0], comments=True)[1:]


def test_the_page_on_python_runs_from_top_to_bottom(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {**vars(world), "folder": tmp_path}
    for number, block in enumerate(PYTHON, start=1):
        names = execute(block, names, f"docs/python.md, block {number}")


def test_the_python_of_the_readme_runs(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    execute(README_PYTHON, {}, "README.md")
    assert "layers.0.self_attn.q_proj (16, 16)" in capsys.readouterr().out


def test_the_calls_of_the_readme_and_of_the_five_minutes_run(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(desk / "cache"))
    words = [call for text in (SHELL, *FIVE_MINUTES) for call in calls(text)]
    called = set()
    for call in words:
        if call[0] in NOT_CALLED:
            continue
        called.add(call[0])
        result = CliRunner().invoke(main, [*call, *(["--force"] if "--html" in call else [])])
        assert result.exit_code == 0, f"spectra {' '.join(call)}: {result.output}"
    assert called | set(NOT_CALLED) == {call[0] for call in words}
    assert "intruder dimension" in (desk / "report.html").read_text(encoding="utf-8")
    assert {path.name for path in desk.iterdir()} >= {"scan", "mended", "lora", "smaller", "merged", "for-mlx"}


@pytest.mark.assets
def test_the_first_outputs_of_readme_and_five_minutes_are_what_the_real_pair_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPECTRA_CACHE", raising=False)  # that of the fixtures beside this test holds no asset
    folder = fetched("rxnfp-bert")
    if folder is None:
        pytest.skip("asset rxnfp-bert is not in the cache")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    line = REAL_PAIR.splitlines()[-1].replace("$folder", str(folder))
    assert QUICK.splitlines()[-1] == REAL_PAIR.splitlines()[-1]
    result = CliRunner().invoke(main, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    printed = " ".join(result.stdout.split())
    for part in (*QUICK_OUTPUT.split("...\n"), *REAL_OUTPUT.split("...\n")):
        assert " ".join(part.split()) in printed


def test_the_transcript_of_the_readme_is_that_of_the_stored_demo(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_results(Run.open(ROOT / "reports" / "demo" / "run"))
    printed = capsys.readouterr().out
    table, sentence = TRANSCRIPT.split("\n\n")
    assert [line.split() for line in table.splitlines()] == [
        line.split() for line in printed.strip("\n").splitlines()[: len(table.splitlines())]
    ]
    assert " ".join(sentence.split()) in " ".join(printed.split())


def test_the_extensions_are_entries_of_their_tables() -> None:
    kinds = ("MetricGroup", "HeldOutMeasure", "CheckpointFormat", "Method", "Task")
    found = [
        type(value).__name__
        for text in EXTENSIONS
        for name, value in execute(text, {}, "docs/extending.md").items()
        if name.isupper()
    ]
    assert sorted(found) == sorted(kinds)
    assert tomllib.loads(ENTRY_POINT)["project"]["entry-points"]["spectra.metrics"]


def test_the_advice_becomes_a_configuration_of_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lora.json").write_text(json.dumps({"r": 3, "lora_alpha": 6, "target_modules": ["q_proj"]}))
    assert execute(ADVICE, {}, "docs/advise.md")["config"] == LoraConfig(
        r=3, lora_alpha=6, target_modules=["q_proj"], task_type="SEQ_CLS"
    )


def test_an_edit_lasts_as_long_as_its_context() -> None:
    model = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.ModuleDict({"mlp": torch.nn.ModuleDict()})])})
    model["layers"][0]["mlp"]["down_proj"] = torch.nn.Linear(4, 4)
    weight = model["layers"][0]["mlp"]["down_proj"].weight
    before = weight.detach().clone()
    names = {
        "model": model,
        "edit": LowRankUpdate(torch.eye(4), torch.eye(4), 1.0),
        "measure": lambda _: weight.detach().clone(),
    }
    after = execute(EDITED, names, "docs/mitigation.md")["score"]
    assert torch.equal(after, before + torch.eye(4)) and torch.equal(weight, before)


def test_tasks_metrics_and_measures_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr("spectra.data.register_task", lambda name, load: made.update({name: load()}))
    monkeypatch.setattr("spectra.training.metrics.register_metric", lambda metric: made.update({metric.name: metric}))
    monkeypatch.setattr("spectra.forgetting.register_measure", lambda name, score, **given: made.update({name: score}))
    rows = [{"text": f"w{number}", "label": f"{number % 2}"} for number in range(12)]
    names = {"rows": rows[:4], "more": rows[4:8], "others": rows[8:], "scores_of": len}
    execute(TASKS_PYTHON, names, "docs/tasks.md")
    assert list(made) == ["mine", "hits", "my-measure"]
    assert made["hits"].score(np.array([0, 1]), np.array([0, 0])) == 0.5


def test_a_rule_of_prevention_runs_in_a_trainer_and_in_a_loop_of_ones_own(world: SimpleNamespace) -> None:
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    def model() -> Any:
        return PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(world.base), world.adapter, is_trainable=True)

    said: list[str] = []
    trainer = SimpleNamespace(
        model=model(),
        add_callback=lambda callback: said.append(type(callback).__name__),
        train=lambda: said.append("trained"),
    )
    names = execute(ATTACHED, {"trainer": trainer}, "docs/prevention.md")
    assert said[-1] == "trained" and len(said) == 2
    trained = model()
    ids = torch.arange(8).reshape(1, -1)
    names |= {
        "model": trained,
        "batches": [{"input_ids": ids, "labels": ids}] * 2,
        "optimiser": torch.optim.SGD([one for one in trained.parameters() if one.requires_grad], lr=0.1),
        "learning_rate": 0.1,
    }
    assert execute(BY_HAND, names, "docs/prevention.md")["Moment"] is Moment


BARE = {"base": "base", "task": "movie-sentiment", "heldout": ["bbc-topics"], "steps": 10}


@pytest.mark.parametrize(
    "text",
    [FULL_SPECIFICATION, EXISTING, CONTINUAL, ARMS, LAUNCHED],
    ids=["full", "existing", "continual", "arms", "launch"],
)
def test_a_specification_is_accepted(text: str) -> None:
    given = yaml.safe_load(text)
    beside = {key: value for key, value in BARE.items() if not (key == "task" and "tasks" in given)}
    if "checkpoints" in given:
        beside = {"base": "base"}
    read = Specification.model_validate({**beside, **given})
    assert len(read.methods) == len(given.get("methods", []))


def test_a_held_out_task_may_stand_in_place_beside_its_settings() -> None:
    method = {"method": "full", "learning_rate": 1e-3}
    flat = {"path": "notes.txt", "unit": "line", "name": "notes", "measure": "lm-loss", "limit": 500}
    nested = {"task": {"path": "notes.txt", "unit": "line", "name": "notes"}, "measure": "lm-loss", "limit": 500}
    first, second = (
        Specification.model_validate({**BARE, "methods": [method], "heldout": [one]}) for one in (flat, nested)
    )
    assert first == second


@pytest.mark.parametrize("text", [TASK_LINES, TASKS_YAML], ids=["sweeps", "tasks"])
def test_every_line_on_tasks_is_accepted(text: str) -> None:
    tasks = [yaml.safe_load(line)["task"] for line in text.splitlines() if line.startswith("task:")]
    heldout = yaml.safe_load(text).get("heldout", BARE["heldout"])
    for task in tasks:
        method = {"method": "full", "learning_rate": 1e-3}
        assert Specification.model_validate({**BARE, "methods": [method], "task": task, "heldout": heldout}).task


def test_the_specification_of_a_study_and_the_file_of_accelerate_are_read(tmp_path: Path) -> None:
    from spectra.sweep.spec.launch import read_launch

    assert StudySpecification.model_validate(yaml.safe_load(STUDY)).seeds == [0, 1, 2, 3, 4]
    path = tmp_path / "fsdp.yaml"
    path.write_text(FSDP)
    assert read_launch(str(path), precision="bfloat16", batch_size=8)


def test_the_sweeps_in_python_are_specifications(world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained here: what would be is checked, and a finished run stands in its place."""
    given: list[Any] = []

    def run_sweep(specification: Any, out: str, **settings: Any) -> Run:
        given.append((specification, settings))
        return Run.open(world.run)

    monkeypatch.setattr(spectra, "run_sweep", run_sweep)
    execute(FROM_PYTHON, {}, "docs/training-from-python.md")
    assert len(Specification.model_validate(given[0][0]).methods) == 2
    monkeypatch.setattr("spectra.sweep.run_sweep", run_sweep)
    assert len(execute(SWEEP_PYTHON, {}, "docs/sweeps.md")["trials"]) == 1
    assert given[1] == ("sweep.yaml", {"axes": ["seed=0..4"]})


def test_the_page_on_python_names_every_function() -> None:
    from spectra.facade import COMMANDS

    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    missing = [name for command, name in COMMANDS.items() if f"| `spectra {command}` | `spectra.{name}(" not in text]
    assert missing == []
