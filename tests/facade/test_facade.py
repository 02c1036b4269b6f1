"""One exported function per command, with an example that runs, and the same result as the command."""

import doctest
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from click.testing import CliRunner

import spectra
from spectra.cli.main import COMMANDS as LISTED
from spectra.cli.main import main
from spectra.engine.methods import NAMES
from spectra.facade import COMMANDS
from spectra.scanning.settings import DTYPES, Arithmetic, Method

FUNCTIONS = sorted({*COMMANDS.values(), "plan_sweep", "verify_advice", "fetch_assets"})
# The results of all commands that print JSON, made by one call each of `facade_call`.
CASES: dict[str, tuple[Callable[[SimpleNamespace, Path], list[object]], Callable[[SimpleNamespace, Path], Any]]] = {
    "advise": (
        lambda w, out: [w.full, "--base", w.base, "-k", 4, "--draws", 1, "--no-measure"],
        lambda w, out: spectra.advise(w.full, w.base, k=4, draws=1, measure=False, cache=spectra.FactorCache(out)),
    ),
    "assets": (lambda w, out: ["list"], lambda w, out: spectra.list_assets()),
    "compare": (
        lambda w, out: [w.adapter, w.full, "--base", w.base, "-k", 4, "--draws", 5, "--no-cache", "--layers", 0],
        lambda w, out: spectra.compare(
            [w.adapter, w.full], w.base, k=4, draws=5, selection=spectra.Selection(layers=0)
        ),
    ),
    "doctor": (lambda w, out: [], lambda w, out: spectra.doctor()),
    "forget": (
        lambda w, out: [w.adapter, "--heldout", f"{w.texts}:lm-loss", "--limit", 12],
        lambda w, out: spectra.forget(w.adapter, heldout=f"{w.texts}:lm-loss", limit=12),
    ),
    "inspect": (
        lambda w, out: [w.adapter, "--base", w.base, "--roles", "q_proj", "--verify"],
        lambda w, out: spectra.inspect(w.adapter, w.base, selection=spectra.Selection(roles="q_proj"), verify=True),
    ),
    "intervene": (
        lambda w, out: [
            w.adapter, "--heldout", f"{w.texts}:lm-loss", "--task", w.texts, "-k", 4, "--lambdas", "0,1",
            "--controls", "shrink", "--limit", 12,
        ],
        lambda w, out: spectra.intervene(
            w.adapter, heldout=f"{w.texts}:lm-loss", task=w.texts, k=4, lambdas=(0.0, 1.0), controls=("shrink",),
            limit=12, cache=spectra.FactorCache(out),
        ),
    ),
    "intruders": (
        lambda w, out: [w.adapter, "-k", 4, "--epsilons", "0.3,0.7", "--side", "both", "--no-cache"],
        lambda w, out: spectra.intruders(w.adapter, k=4, epsilons=(0.3, 0.7), side="both"),
    ),
    "mitigate": (
        lambda w, out: [
            w.adapter, "-k", 4, "-o", out / "mended", "--choose-by", w.texts, "--heldout", f"{w.texts}:lm-loss",
            "--lambdas", "0,1", "--limit", 12, "--force",
        ],
        lambda w, out: spectra.mitigate(
            w.adapter, out=out / "mended", k=4, choose_by=w.texts, heldout=f"{w.texts}:lm-loss", lambdas=(0.0, 1.0),
            limit=12, force=True, cache=spectra.FactorCache(out / "factors"),
        ),
    ),
    "plugins": (lambda w, out: [], lambda w, out: spectra.plugins()),
    "convert": (
        lambda w, out: [w.adapter, "--to", "mlx", "-o", out / "written", "--force"],
        lambda w, out: spectra.convert(w.adapter, to="mlx", out=out / "written", force=True),
    ),
    "extract": (
        lambda w, out: [w.full, "--base", w.base, "--rank", 2, "-k", 4, "-o", out / "written", "--force"],
        lambda w, out: spectra.extract(w.full, base=w.base, rank=2, k=4, out=out / "written", force=True),
    ),
    "merge": (
        lambda w, out: [
            w.adapter, w.other_adapter, "--weights", "1,0.5", "-k", 4, "--draws", 9, "-o", out / "written", "--force",
        ],
        lambda w, out: spectra.merge(
            [w.adapter, w.other_adapter], weights=[1.0, 0.5], k=4, draws=9, out=out / "written", force=True
        ),
    ),
    "resize": (
        lambda w, out: [w.adapter, "--energy", 0.5, "-k", 4, "-o", out / "written", "--force"],
        lambda w, out: spectra.resize(w.adapter, energy=0.5, k=4, out=out / "written", force=True),
    ),
    "study": (
        lambda w, out: [_written(w.questions, out), "--out", w.studied],
        lambda w, out: spectra.run_study(w.questions, w.studied),
    ),
    "scan": (
        lambda w, out: [w.adapter, "-k", 4, "--metrics", "intruders,update,nulls", "--layers", 0, "--no-cache"],
        lambda w, out: spectra.scan(
            w.adapter, k=4, metrics="intruders,update,nulls", selection=spectra.Selection(layers=0)
        ),
    ),
    "status": (lambda w, out: [w.run], lambda w, out: spectra.status(w.run)),
    "sweep": (
        lambda w, out: [_written(w.specification, out), "--out", w.run],
        lambda w, out: spectra.run_sweep(w.specification, w.run, executor="inline"),
    ),
}  # fmt: skip
# Those that print no JSON; what a plan prints is held in tests/advice.
ELSEWHERE = {"figures", "plan", "report"}


def _written(specification: dict[str, Any], folder: Path) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(specification))
    return path


def without_times(value: Any) -> Any:
    """The same JSON value without what a clock decided."""
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name != "seconds"}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def test_every_command_is_one_exported_function() -> None:
    assert set(COMMANDS) == set(LISTED)
    for command, name in COMMANDS.items():
        assert name in spectra.__all__ and inspect.isfunction(getattr(spectra, name)), command
    assert set(CASES) | ELSEWHERE == set(COMMANDS)


def test_every_public_name_exists() -> None:
    assert [name for name in spectra.__all__ if not hasattr(spectra, name)] == []
    assert issubclass(spectra.AdapterError, spectra.CheckpointError) and issubclass(
        spectra.RunError, spectra.SpectraError
    )
    with pytest.raises(AttributeError, match="no attribute 'intruder'"):
        _ = spectra.intruder


@pytest.mark.parametrize("name", FUNCTIONS)
def test_settings_are_typed_and_given_by_keyword(name: str) -> None:
    parameters = list(inspect.signature(getattr(spectra, name)).parameters.values())
    by_place = [one.name for one in parameters if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert len(by_place) <= (3 if name == "verify_advice" else 2), by_place
    for one in parameters:
        assert one.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL), one
        assert one.annotation not in (inspect.Parameter.empty, Any), one


def test_the_literals_are_the_tables() -> None:
    assert set(get_args(Method)) == set(NAMES)
    assert get_args(Arithmetic) == tuple(DTYPES)


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in FUNCTIONS if name != "fetch_assets"),
        "open_pair",
    ],
)
def test_the_example_of_a_function_runs(
    name: str, world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function = getattr(spectra, name)
    names = {**vars(world), "folder": tmp_path}
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(function) or "", names, name, None, 0)
    assert test.examples, f"{name} has no example"
    said: list[str] = []
    found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert found.failed == 0, "".join(said)


@pytest.mark.parametrize("command", sorted(CASES))
def test_the_json_of_a_command_is_that_of_its_function(
    command: str, world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command not in ("assets", "doctor"):
        monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    arguments, call = CASES[command]
    words = [command, *arguments(world, tmp_path)]
    quiet = [] if command in ("assets", "convert", "doctor", "inspect", "plugins", "status") else ["--quiet"]
    printed = CliRunner().invoke(main, [*map(str, words), "--json", *quiet])
    assert printed.exit_code == 0, printed.output
    result = call(world, tmp_path)
    expected = json.loads(json.dumps(result.to_dict()))
    assert without_times(json.loads(printed.stdout)) == without_times(expected)
    table, html = result.to_dataframe(), result._repr_html_()
    assert len(table) > 0
    assert html.startswith("<table>") and "<script" not in html


def test_several_checkpoints_are_an_array_and_one_table(world: SimpleNamespace) -> None:
    both = spectra.intruders([world.adapter, world.full], world.base, k=4)
    printed = CliRunner().invoke(
        main, ["intruders", world.adapter, world.full, "--base", world.base, "-k", "4", "--json", "--no-cache", "-q"]
    )
    assert without_times(json.loads(printed.stdout)) == without_times(json.loads(json.dumps(both.to_dict())))
    assert [scan.count for scan in both] == both.to_dataframe().groupby("checkpoint", sort=False)[
        "count"
    ].sum().tolist()
    assert isinstance(both[:1], spectra.IntruderScans) and both[0].checkpoint == world.adapter


def test_a_plan_is_what_the_command_prints(world: SimpleNamespace, tmp_path: Path) -> None:
    planned = spectra.plan_sweep(world.specification, tmp_path / "new", axes=["rank=1,2"])
    spec = _written(world.specification, tmp_path)
    printed = CliRunner().invoke(
        main, ["sweep", str(spec), "rank=1,2", "--plan", "--json", "-o", str(tmp_path / "new")]
    )
    assert without_times(json.loads(printed.stdout)) == without_times(json.loads(json.dumps(planned.to_dict())))
    assert not (tmp_path / "new").exists()


def test_what_files_of_others_say_is_escaped_in_notebooks(world: SimpleNamespace) -> None:
    hostile = "<script>alert(1)</script>"
    for record in (
        replace(spectra.inspect(world.adapter), checkpoint=hostile),
        replace(spectra.intruders(world.adapter, k=4), checkpoint=hostile),
        replace(spectra.plugins(), entries=[{"name": hostile}]),
    ):
        html = record._repr_html_()
        assert "<script" not in html and "&lt;script&gt;" in html


def test_an_interrupted_call_holds_what_is_done(world: SimpleNamespace, tmp_path: Path) -> None:
    def stop(done: int, total: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    cache = spectra.FactorCache(tmp_path)
    with pytest.raises(spectra.Interrupted) as cut:
        spectra.intruders(world.adapter, k=4, cache=cache, progress=stop)
    assert isinstance(cut.value.result, spectra.IntruderScan) and len(cut.value.result.matrices) == 3
    assert cut.value.resumes


def test_lambda_is_chosen_by_a_task_and_for_one(world: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(spectra.DataError, match="Give both or neither"):
        spectra.mitigate(world.adapter, out=tmp_path / "out", choose_by=world.texts)
    assert not (tmp_path / "out").exists()
