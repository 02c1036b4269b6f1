"""A package of its own adds one metric, held-out measure, training method, format and task, each in one file."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import spectra.data.load
import spectra.forgetting.catalogue
import spectra.training.adapt
import spectra.weights.formats.table
from spectra import registry
from spectra.cli.main import main
from spectra.errors import PluginError, SpectraError
from spectra.records.catalogue import GROUPS, METRICS, Metric, MetricGroup
from spectra.registry import TABLES, VARIABLE, Registry, use_plugins
from spectra.training import metrics
from tests import tiny

EXAMPLE = Path(__file__).parent / "plugin_example"


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example package can be imported; whatever it adds is gone afterwards."""
    before = [(table, dict(table._entries), dict(table.origins), set(table._read)) for table in TABLES.values()]
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield "spectra_example"
    for table, entries, origins, read in before:
        table._entries, table.origins, table._read = entries, origins, read


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A causal model and an adapter of it."""
    import peft
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("models")
    base = tiny.save_model(folder / "llama", "llama")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder / "adapter")
    return base, str(folder / "adapter")


def call(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_scan_measures_the_metric_of_a_plugin_beside_its_controls(plugin: str, models: tuple[str, str]) -> None:
    base, adapter = models
    out = call("--plugin", plugin, "scan", adapter, "--base", base, "--metrics", "nuclear,nulls", "--json", "-q")
    factors = load_file(Path(adapter) / "adapter_model.safetensors")
    for matrix in json.loads(out)["matrices"]:
        name = f"base_model.model.model.{matrix['name']}"
        delta = 2.0 * factors[f"{name}.lora_B.weight"] @ factors[f"{name}.lora_A.weight"]
        [norm, ratio] = matrix["measures"]
        assert norm["metric"] == "nuclear.norm"
        assert norm["value"] == pytest.approx(float(torch.linalg.matrix_norm(delta, "nuc")), rel=1e-5)
        assert "random low rank" in {line["null"] for line in ratio["nulls"]}
    shown = call("scan", adapter, "--base", base, "--metrics", "nuclear", "-q")
    assert "nuclear.norm (sum)" in shown


def test_a_report_of_such_a_scan_shows_the_metric(plugin: str, models: tuple[str, str], tmp_path: Path) -> None:
    base, adapter = models
    groups = "intruders,update,nuclear"
    scanned = call("--plugin", plugin, "scan", adapter, "--base", base, "--metrics", groups, "--json", "-q")
    (tmp_path / "scan.json").write_text(scanned)
    call("report", str(tmp_path / "scan.json"), "-o", str(tmp_path / "page.html"))
    assert "nuclear.ratio" in (tmp_path / "page.html").read_text()


def test_a_scan_with_a_plugin_keeps_nothing_that_its_code_decides(
    plugin: str, models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path))
    base, adapter = models
    call("--plugin", plugin, "scan", adapter, "--base", base, "--metrics", "nuclear,nulls", "-q")
    assert not [path for path in tmp_path.rglob("*.json") if "nuclear" in path.read_text()]


def test_forgetting_is_measured_by_a_plugin(plugin: str, models: tuple[str, str], tmp_path: Path) -> None:
    base, adapter = models
    texts = tiny.save_prose(tmp_path / "prose.jsonl", 40)
    heldout = f"{texts}:last-token"
    out = call("--plugin", plugin, "forget", adapter, "--base", base, "--heldout", heldout, "--json", "-q")
    [result] = json.loads(out)["checkpoints"][0]["heldout"]
    assert result["metric"] == "last-token" and result["forgetting"] != 0


def test_an_option_of_a_measure_reaches_it_and_a_wrong_one_is_refused(
    plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spectra.forgetting import open_held_out

    use_plugins([plugin])
    task = {"task": tiny.save_prose(tmp_path / "prose.jsonl", 40), "measure": "last-token"}
    plain, warm = open_held_out(task), open_held_out({**task, "options": {"temperature": 2.0}})
    assert (plain.options, warm.options) == ({"temperature": 1.0}, {"temperature": 2.0})
    assert plain.identity != warm.identity
    known = plain.identity
    changed = tmp_path / "changed.py"
    changed.write_text("# new code\n" + Path(str(sys.modules["spectra_example.last_token"].__file__)).read_text())
    monkeypatch.setattr("inspect.getsourcefile", lambda function: str(changed))
    assert plain.identity != known
    with pytest.raises(SpectraError, match=r"The measure 'last-token' has no option heat\. It has temperature\."):
        open_held_out({**task, "options": {"heat": 1}})


def test_a_base_is_read_from_the_format_of_a_plugin(plugin: str, models: tuple[str, str], tmp_path: Path) -> None:
    base, adapter = models
    tensors = load_file(Path(base) / "model.safetensors")
    np.savez(tmp_path / "weights.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    (tmp_path / "config.json").write_text((Path(base) / "config.json").read_text())
    plain = json.loads(call("intruders", adapter, "--base", base, "--json", "-q"))
    for place in (tmp_path, tmp_path / "weights.npz"):
        read = json.loads(call("--plugin", plugin, "intruders", adapter, "--base", str(place), "--json", "-q"))
        assert [matrix["vectors"] for matrix in read["matrices"]] == [m["vectors"] for m in plain["matrices"]]
    (tmp_path / "weights.npz").write_bytes(b"PK\x03\x04broken")
    result = CliRunner().invoke(main, ["intruders", adapter, "--base", str(tmp_path), "-q"])
    assert result.exit_code == 1 and "no file of plain arrays" in result.stderr


def test_a_sweep_is_planned_and_run_with_a_task_a_method_and_a_measure_of_a_plugin(
    plugin: str, models: tuple[str, str], tmp_path: Path
) -> None:
    import yaml

    from spectra.runs import Run
    from spectra.sweep import read_specification

    specification: dict[str, Any] = {
        "base": models[0],
        "task": "weather",
        "heldout": [f"{tiny.save_prose(tmp_path / 'prose.jsonl', 40)}:last-token"],
        "methods": [{"method": "gaussian-lora", "rank": [2], "learning_rate": 1e-2}],
        "steps": 2,
        "batch_size": 4,
        "max_length": 16,
        "trajectory": 0,
        "controls": False,
    }
    with pytest.raises(SpectraError, match=r"method 'gaussian-lora' is unknown"):
        read_specification(specification)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(specification))
    words = ("--plugin", plugin, "sweep", str(tmp_path / "sweep.yaml"), "-o", str(tmp_path / "run"), "--quiet")
    assert "Gaussian LoRA r=2" in call(*words, "--plan")
    call(*words)
    run = Run.open(tmp_path / "run")
    assert run.table("trials")[["label", "status"]].values.tolist() == [["Gaussian LoRA r=2 α=4", "done"]]
    assert run.table("forgetting")["metric"].tolist() == ["last-token"]


def test_an_arm_of_a_plugin_takes_part_in_the_comparison_with_plain_lora(
    plugin: str, models: tuple[str, str], tmp_path: Path
) -> None:
    from spectra.study import run_study

    use_plugins([plugin])
    specification: dict[str, Any] = {
        "base": models[0],
        "task": "weather",
        "heldout": [f"{tiny.save_prose(tmp_path / 'prose.jsonl', 40)}:lm-loss"],
        "methods": [
            {"method": "lora", "rank": 2, "learning_rate": [1e-3, 3e-2]},
            {"method": "small-b", "rank": 2, "learning_rate": 3e-2, "arguments": {"norm": 0.05}},
        ],
        "seeds": 0,
        "steps": 3,
        "batch_size": 4,
        "max_length": 16,
        "trajectory": 0,
        "study": {"questions": "f"},
    }
    study = run_study(specification, tmp_path / "study", executor="inline")
    assert study.verdicts == {"f": "not enough settings"} and not study.missing
    table = study.answers.tables["front"].set_index("label")
    assert list(table.index) == ["LoRA r=2 α=4", "Small B r=2 α=4 norm=0.05"]
    assert table["update_relative"].is_monotonic_decreasing  # the rule was kept
    [answer] = study.answers.answers
    assert {one.over for one in answer.comparisons if one.value is not None} == {"Small B r=2 α=4 norm=0.05"}
    page = study.report.read_text()
    assert "Task score against forgetting" in page and "Small B r=2" in page and "paper reports" not in page


BY_A_CALL = """
from spectra.data import register_task, task_from_rows
from spectra.training.metrics import Metric, register_metric

ROWS = [{"text": f"w{number} w{number // 30}", "label": "ab"[number % 2]} for number in range(60)]
register_task("by-a-call", lambda: task_from_rows(
    "by-a-call", "classification", train=ROWS[:40], validation=ROWS[40:50], test=ROWS[50:]))
register_metric(Metric("all-right", ("classification",), lambda predicted, truth: 1.0))
"""


def test_what_a_plugin_registers_by_a_call_reaches_the_workers_and_what_a_process_does_is_refused(
    plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spectra.data import register_task
    from spectra.sweep import run_sweep

    specification: dict[str, Any] = {
        "base": tiny.save_model(tmp_path / "bert", "bert"),
        "task": "by-a-call",
        "methods": [{"method": "full", "learning_rate": 1e-2}],
        "validation_metric": "all-right",
        "steps": 1,
        "batch_size": 4,
        "trajectory": 0,
        "controls": False,
    }
    for table in (metrics.METRICS, metrics.ORIGINS):  # the tables are what they were afterwards
        monkeypatch.setitem(table, "all-right", None)
        del table["all-right"]
    (tmp_path / "calls.py").write_text(BY_A_CALL)
    use_plugins([str(tmp_path / "calls.py")])
    table = run_sweep(specification, tmp_path / "run").table("trials")
    assert table[["status", "error", "validation_score"]].values.tolist() == [["done", "", 1.0]]
    register_task("here", lambda: spectra.data.load.TASKS["by-a-call"].load())
    with pytest.raises(SpectraError, match="The task 'here' was registered by a call in this process, and worker"):
        run_sweep({**specification, "task": "here"}, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_installed_packages_are_read_through_their_entry_points(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib

    stated = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    assert set(stated) == {
        *("spectra.metrics", "spectra.heldout_measures", "spectra.training_methods"),
        *("spectra.checkpoint_formats", "spectra.tasks"),
    }
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group: [EntryPoint(name, value, group) for name, value in stated.get(group, {}).items()],
    )
    for group, points in stated.items():
        fresh = Registry(group, "entry", TABLES[group].kind, TABLES[group].own)
        assert [entry.name for entry in fresh.added] == list(points)


def made(group: str = "test.metrics") -> Registry[MetricGroup]:
    table = Registry(group, "group of metrics", MetricGroup, GROUPS.own)
    del TABLES[group]
    return table


def other(name: str) -> MetricGroup:
    return MetricGroup(name, "another", (Metric(f"{name}.x", "x", "x"),))


def test_two_entries_of_one_name_are_refused_with_both_origins() -> None:
    table = made()
    with pytest.raises(PluginError, match=r"^Two entries of test\.metrics are called") as caught:
        table.register(other("update"), "the plugin 'mine'")
    assert "'update'" in str(caught.value) and "of spectra" in str(caught.value) and "'mine'" in str(caught.value)
    with pytest.raises(PluginError, match=r"is 3, which is no MetricGroup with a name\. Make it a MetricGroup"):
        table._enter(3, "the plugin 'mine'")
    same = other("mine")
    table.register(same)
    table.register(same)
    assert [entry.name for entry in table.added] == ["mine"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_package_at_all", r"ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("x = ", r"SyntaxError: invalid syntax"),
        ("raise RuntimeError('first line\\nsecond')", r"RuntimeError: first line\)"),
        ("import sys; sys.exit(3)", r"SystemExit: 3"),
        (None, r"FileNotFoundError"),
    ],
)
def test_a_broken_plugin_is_one_sentence(plugin: str, tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "broken.py"
    if text is not None:
        path.write_text(text)
    for _ in range(2):  # the second time it is not taken for a module that was imported
        result = CliRunner().invoke(main, ["--plugin", str(path), "status", str(tmp_path)])
        assert result.exit_code == 1, result.output
        assert result.stderr.count("\n") == 1 and f"Error: The plugin '{path}' cannot be loaded" in result.stderr
        assert re.search(reason, result.stderr)


def test_a_file_adds_a_metric_without_any_package(plugin: str, tmp_path: Path, models: tuple[str, str]) -> None:
    source = (EXAMPLE / "spectra_example" / "nuclear_norm.py").read_text()
    (tmp_path / "my_metric.py").write_text(source)
    use_plugins([str(tmp_path / "my_metric.py")])
    assert METRICS["nuclear.norm"].heading == "|dW|_*"
    with pytest.raises(PluginError, match="'nuclear'"):
        use_plugins([plugin])
        list(GROUPS)


def test_a_metric_that_was_not_declared_is_refused() -> None:
    from spectra.records import Measure

    wrong = MetricGroup("update", "x", (), lambda facts: [Measure("update.unheard_of", 1.0)])
    with pytest.raises(SpectraError, match="which is no measure of a known metric"):
        list(wrong.measured(None))
    with pytest.raises(SpectraError, match=r"Begin each key with 'mine\.'"):
        MetricGroup("mine", "x", (Metric("yours.x", "x", "x"),))


def test_help_reads_no_entry_point_and_no_torch() -> None:
    code = (
        "import sys, spectra.registry as r\n"
        "def refuse(**k): raise SystemExit('entry points were read')\n"
        "r.entry_points = refuse\n"
        "from spectra.cli.main import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--plugin MODULE" in done.stdout, done.stderr
