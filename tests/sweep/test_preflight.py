"""What would fail is said before anything is trained, all of it, and the same by a plan."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from spectra.errors import SpectraError
from spectra.forgetting import HeldOut
from spectra.sweep import plan, read_specification, run_sweep
from spectra.sweep.preflight import look, sizes
from spectra.sweep.preflight.look import preflight
from spectra.sweep.spec.specification import HeldOutSpecification
from spectra.training.skeleton import bare
from tests import tiny


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("preflight")
    long = folder / "long.jsonl"
    tiny.save_sentiment(long, 60)
    long.write_text(long.read_text().replace('{"text": "', '{"text": "' + "w1 " * 70, 1))
    return {
        "bert": tiny.save_model(folder / "bert", "bert"),
        "llama": tiny.save_model(folder / "llama", "llama"),
        "sentiment": tiny.save_sentiment(folder / "sentiment.jsonl", 60),
        "prose": tiny.save_prose(folder / "prose.jsonl", 60),
        "answers": tiny.save_answers(folder / "answers.jsonl", 60),
        "long": str(long),
        "untokenized": str(shutil.copytree(folder / "bert", folder / "no", ignore=shutil.ignore_patterns("token*"))),
    }


def method(name: str, **values: Any) -> dict[str, Any]:
    return {"method": name, "rank": 2, "learning_rate": 1e-3, **values}


LORA = method("lora")
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "measure of another kind of model": (
        {"heldout": ["{prose}:lm-loss"]},
        "is measured by lm-loss, which '{bert}' as a classification model cannot be. Use one of linear-probe",
    ),
    "measure of another kind of data": ({"heldout": ["{sentiment}:rouge-l"]}, "which 'rouge-l' cannot score"),
    "no such held-out file": ({"heldout": ["nowhere.jsonl"]}, "File 'nowhere.jsonl' of task 'nowhere' does not exist"),
    "no such task file": ({"task": "nowhere.jsonl"}, "File 'nowhere.jsonl' of task 'nowhere' does not exist"),
    "no such base": ({"base": "./nowhere"}, "There is no model folder './nowhere'"),
    "no tokenizer": ({"base": "{untokenized}"}, "The tokenizer of '{untokenized}' holds 5 special tokens and no word"),
    "text beyond the positions": (
        {"task": "{long}", "max_length": 128},
        "max_length is 128 for task 'long', which has texts beyond the 64 positions of '{bert}'",
    ),
    "held-out text beyond the positions": (
        {"heldout": ["{long}"]},
        "max_length is 256 for held-out task 'long:linear-probe', which has texts beyond the 64 positions",
    ),
    "blocks beyond the positions": (
        {"base": "{llama}", "task": "{prose}", "max_length": 65},
        "max_length is 65 for task 'prose', which has texts beyond the 64 positions of '{llama}'",
    ),
    "generations beyond the positions": (
        {"base": "{llama}", "task": "{prose}", "heldout": [{"task": "{answers}", "max_length": 32}]},
        "has texts that with 65 tokens behind them reach beyond the 64 positions of '{llama}'",
    ),
    "rank above the dimension": (
        {"methods": [method("pissa", rank=[2, 17])]},
        "PiSSA r=17 α=34 starts from singular vectors of W0, and its rank is above the dimension of",
    ),
    "rank above the dimension by an argument": (
        {"methods": [method("lora", rank=32, arguments={"init_lora_weights": "olora"})]},
        "Choose a rank of at most 16.",
    ),
    "no such module": ({"methods": [method("dora", target_modules=["up"])]}, "matches target_modules up. Choose among"),
    "no such argument": (
        {"methods": [method("lora", arguments={"bogus": 1})]},
        "LoRA r=2 α=4 bogus=1 cannot be put on '{bert}'",
    ),
    "adalora by epochs": (
        {"methods": [method("adalora")], "steps": None, "epochs": 1.0},
        "Method adalora plans its pruning by the step. Give steps instead of epochs.",
    ),
    "half precision without a GPU": ({"precision": "float16"}, "precision is float16, which trains on a GPU only."),
    "checkpoint that is nowhere": ({"checkpoints": ["./nowhere"]}, "The checkpoint './nowhere' does not exist"),
    "checkpoint of another kind": (
        {"checkpoints": ["{llama}"]},
        "Checkpoint '{llama}' is a causal-lm model, and task 'sentiment' needs a classification model.",
    ),
}


def filled(value: Any, files: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, path in files.items():
            value = value.replace("{" + name + "}", path)
        return value
    if isinstance(value, list):
        return [filled(one, files) for one in value]
    return {name: filled(one, files) for name, one in value.items()} if isinstance(value, dict) else value


def specification(files: dict[str, str], **changes: Any) -> dict[str, Any]:
    given = {"base": files["bert"], "task": files["sentiment"], "methods": [LORA], "steps": 4, "max_length": 16}
    return {**given, **filled(changes, files)}


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_what_would_fail_is_one_sentence(
    case: str, planned: bool, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    changes, sentence = CASES[case]
    asked = read_specification(specification(files, **changes))
    with pytest.raises(SpectraError) as raised:
        preflight(asked, plan(asked), tmp_path / "run", planned=planned)
    assert filled(sentence, files) in str(raised.value)


def test_texts_shorter_than_a_block_are_trained_on_as_a_shorter_one(files: dict[str, str], tmp_path: Path) -> None:
    rows = "".join(f'{{"text": "w{number} w{number + 1} w3 w4"}}\n' for number in range(12))
    (tmp_path / "short.jsonl").write_text(rows)
    short = {"path": str(tmp_path / "short.jsonl"), "kind": "causal-lm", "validation": 2, "test": 2}
    run = run_sweep(
        specification(files, base="{llama}", task=short, max_length=64, steps=1), tmp_path / "run", executor="inline"
    )
    assert run.table("trials")["status"].tolist() == ["done"]


def test_all_that_would_fail_is_told_and_nothing_is_made(files: dict[str, str], tmp_path: Path) -> None:
    changes = {"heldout": ["{prose}:lm-loss", "nowhere.jsonl"], "methods": [method("pissa", rank=99), LORA]}
    with pytest.raises(SpectraError) as raised:
        run_sweep(specification(files, **changes), tmp_path / "run", executor="inline")
    first, *rest = str(raised.value).splitlines()
    assert first == "3 things would fail:"
    assert len(rest) == 3
    assert not (tmp_path / "run").exists()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_noticed(files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = read_specification(specification(files))
    (one,) = preflight(asked, plan(asked), tmp_path / "run").estimates
    assert one.disk_bytes is not None
    monkeypatch.setattr(look.shutil, "disk_usage", lambda path: Usage(10**12, 10**12, one.disk_bytes))
    with pytest.raises(SpectraError, match=r"needs about .* GB under '.*', and .* GB are free\. Free some space"):
        preflight(asked, plan(asked), tmp_path / "run")


def test_every_kind_of_model_is_built_once(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    original = sizes.skeleton
    monkeypatch.setattr(sizes, "skeleton", lambda *given: built.append(given[1]) or original(*given))
    methods = [
        method("lora", rank=[1, 2], alpha=[1, 2, 3], learning_rate=[1e-3, 1e-4]),
        {"method": "full", "learning_rate": 1e-4},
    ]
    asked = read_specification(specification(files, methods=methods, seeds="0..99"))
    costs = preflight(asked, plan(asked), planned=True).estimates
    assert len(costs) == 1300
    assert [(one.method, one.rank) for one in built] == [("lora", 1), ("lora", 2), ("full", None)]
    assert len({one.trainable_parameters for one in costs}) == 3


@pytest.mark.parametrize(
    ("name", "values", "builds"),
    [
        ("lora", {}, 2),
        ("dora", {"target_modules": "qv"}, 2),
        ("pissa", {}, 2),
        ("frozen-a", {}, 2),
        ("lora", {"arguments": {"rank_pattern": {"query": 7}, "use_dora": True}}, 2),
        ("adalora", {}, 4),
        ("peft", {"arguments": {"peft_type": "LOKR"}}, 4),
    ],
)
def test_the_sizes_of_many_ranks_are_those_of_the_models_built(
    files: dict[str, str], name: str, values: dict[str, Any], builds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    original = sizes.skeleton
    monkeypatch.setattr(sizes, "skeleton", lambda *given: built.append(given[1].rank) or original(*given))
    asked = read_specification(specification(files, methods=[method(name, rank=[3, 1, 6, 2], **values)]))
    costs = preflight(asked, plan(asked), planned=True).estimates
    assert len(built) == builds
    base = bare(files["bert"], "classification", 2)
    for one in costs:
        assert one.trial.training is not None
        assert one.trainable_parameters == original(base, one.trial.training).trainable


def test_the_settings_of_a_held_out_task_are_all_in_the_specification() -> None:
    opened = {name for name in HeldOut.__dataclass_fields__ if name not in ("data", "lm_eval_task")}
    assert set(HeldOutSpecification.model_fields) - {"task"} == opened


def test_a_plan_without_its_base_loads_neither_transformers_nor_peft() -> None:
    code = (
        "import sys\nfrom spectra.cli.main import main\n"
        "try: main(['sweep', '--preset', 'paper-llama2', '--plan'])\n"
        "except SystemExit as end: print(end.code, [m for m in ('transformers', 'peft') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "0 []"
