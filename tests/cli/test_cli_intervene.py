"""`spectra intervene` and `spectra mitigate --choose-by`: options, output, resume, what is refused."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from spectra.cli.main import main
from spectra.interventions import CONTROLS
from tests.interventions import planted


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Base, tuned checkpoint, and texts that the base knows."""
    folder = tmp_path_factory.mktemp("planted")
    base = planted.save_base(folder)
    return base, planted.save_tuned(base, folder / "tuned", "intruder"), str(folder / "texts.jsonl")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))


def spectra(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def intervene(saved: tuple[Path, Path, str], *more: object) -> Result:
    base, tuned, texts = saved
    few = ("-k", 1, "--lambdas", "0,1", "--controls", "shrink", "--limit", 40)
    return spectra("intervene", tuned, "--base", base, "--heldout", f"{texts}:lm-loss", *few, *more)


def test_tables_figures_and_the_verdict(saved: tuple[Path, Path, str], tmp_path: Path) -> None:
    result = intervene(saved, "--task", saved[2], "--task-max-length", 8, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    table = [line for line in result.stdout.splitlines() if line.startswith(" ")]
    assert len(table) >= 4 and max(map(len, table)) <= 80
    assert "2 of 2 intruder dimensions scaled, in 2 of 14 matrices" in result.stdout
    assert "Verdict: texts:lm-loss: " in result.stdout
    assert "Warning: Only 40 examples" in result.stderr
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"interventions.parquet", "interventions.json", "intervention-1.svg", "trade-off-1.svg"} <= files
    kept = pd.read_parquet(tmp_path / "out" / "interventions.parquet")
    told = json.loads((tmp_path / "out" / "interventions.json").read_text())
    assert kept["forgetting"].tolist() == [row["forgetting"] for row in told["rows"]]
    assert list(kept["task"].unique()) == ["texts"]
    again = intervene(saved, "--task", saved[2], "--task-max-length", 8, "-o", tmp_path / "out")
    assert again.stdout == result.stdout
    assert again.stderr.count("measuring") == 0
    other = spectra("intervene", saved[0], "--base", saved[0], "--heldout", saved[2], "-o", tmp_path / "out")
    assert other.exit_code == 1
    assert "holds the tables of" in other.stderr and "Choose another --out, or add --force" in other.stderr


def test_json_and_csv_hold_the_rows(saved: tuple[Path, Path, str]) -> None:
    told = json.loads(intervene(saved, "--json", "-q").stdout)
    assert [(row["arm"], row["factor"]) for row in told["rows"]] == [
        ("intruders", 0.0), ("intruders", 1.0), ("shrink", 0.0), ("shrink", 1.0),
    ]  # fmt: skip
    header, *rows = intervene(saved, "--csv", "-q").stdout.splitlines()
    assert header.startswith("trial,checkpoint,arm,factor") and len(rows) == 4


def test_a_checkpoint_without_intruders_is_one_line_with_a_remedy(saved: tuple[Path, Path, str]) -> None:
    result = intervene(saved, "--epsilon", 0.01)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1 and "has no intruder dimension in 14 matrices" in result.stderr


def test_the_controls_of_the_help_are_those_of_the_library() -> None:
    from spectra.cli.option_types import CONTROLS as NAMED

    assert NAMED == CONTROLS


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0,0.25,...,1.5", (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)),
        ("0.7", (0.7,)),
        ("1,0.5,0", (0, 0.5, 1)),
        ("1,0.9,...,0.7,0", (0, 0.7, 0.8, 0.9, 1)),
    ],
)
def test_lambdas_are_written_out_or_continued(text: str, numbers: tuple[float, ...]) -> None:
    from spectra.cli.option_types import Lambdas

    assert Lambdas().convert(text, None, None) == pytest.approx(numbers)


@pytest.mark.parametrize(
    "options",
    [
        ("--lambdas", "0,...,1"),
        ("--lambdas", "0,0.3,...,1"),
        ("--lambdas", "a"),
        ("--lambdas", "0,2.5"),
        ("--controls", "shrimp"),
        ("--json", "--csv"),
    ],
)
def test_a_malformed_option_is_a_usage_error(saved: tuple[Path, Path, str], options: tuple[str, ...]) -> None:
    assert intervene(saved, *options).exit_code == 2


@pytest.fixture(scope="module")
def adapter(saved: tuple[Path, Path, str]) -> Path:
    """The planted update of the tuned checkpoint as a LoRA adapter, exactly."""
    import peft
    import torch

    from spectra.models import load_tuned

    base, tuned, _ = saved
    rank = planted.WIDTH
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=["down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(load_tuned(base).model, config)
    for mine, theirs, W0 in zip(
        model.get_base_model().model.layers,
        load_tuned(tuned).model.model.layers,
        load_tuned(base).model.model.layers,
        strict=True,
    ):
        U, S, Vh = torch.linalg.svd(theirs.mlp.down_proj.weight - W0.mlp.down_proj.weight, full_matrices=False)
        mine.mlp.down_proj.lora_A["default"].weight.data = Vh
        mine.mlp.down_proj.lora_B["default"].weight.data = U * S
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(base.parent / "adapter")
    return base.parent / "adapter"


def test_lambda_is_chosen_on_validation_and_written(
    saved: tuple[Path, Path, str], adapter: Path, tmp_path: Path
) -> None:
    choosing = ("--choose-by", saved[2], "--heldout", f"{saved[2]}:lm-loss", "--lambdas", "0,0.5,1", "-k", 1)
    result = spectra("mitigate", adapter, *choosing, "-o", tmp_path / "out", "--json", "-q")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["choice"]["lam"] == told["lam"] < 1
    assert {row["heldout"] for row in told["curve"]} == {"texts:lm-loss (validation)"}
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    shown = spectra("mitigate", adapter, *choosing, "--shrink", "-o", tmp_path / "shrunk", "-q")
    assert shown.exit_code == 0, shown.stderr
    assert "lambda = " in shown.stdout and "updates shrunk to the norm" in shown.stdout


def test_a_choice_needs_both_a_task_and_what_to_mend(adapter: Path, tmp_path: Path) -> None:
    result = spectra("mitigate", adapter, "--choose-by", "movie-sentiment", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "--choose-by needs --heldout" in result.stderr
