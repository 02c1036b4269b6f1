"""What `--base NAME` means is one rule of all commands: a local folder, else an asset, else a model of the hub."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
from click.testing import CliRunner, Result

import spectra
from spectra.assets import fetch, model_asset
from spectra.cli.main import main
from spectra.models import load_base
from spectra.weights.formats.hub import locate_locally
from tests import tiny

NAME = "demo-lm"
COMMANDS: dict[str, tuple[str, ...]] = {
    "advise": ("ADAPTER", "--draws", "1", "-k", "1", "--no-measure"),
    "compare": ("ADAPTER", "ADAPTER", "--draws", "2"),
    "extract": ("ADAPTER", "--rank", "1", "-o", "OUT"),
    "forget": ("ADAPTER", "--heldout", "TEXTS:lm-loss", "--limit", "2"),
    "inspect": ("ADAPTER",),
    "intervene": ("ADAPTER", "--heldout", "TEXTS:lm-loss", "--limit", "2", "--lambdas", "0", "--controls", "shrink"),
    "intruders": ("ADAPTER",),
    "merge": ("ADAPTER", "OTHER", "-o", "OUT"),
    "mitigate": ("ADAPTER", "--lambda", "0.5", "-o", "OUT"),
    "resize": ("ADAPTER", "--rank", "1", "-o", "OUT"),
    "scan": ("ADAPTER", "--metrics", "intruders"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An adapter of one matrix that does not name its base, and texts."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=2, target_modules=r".*layers\.0\.self_attn\.q_proj", task_type="CAUSAL_LM")
    model = peft.get_peft_model(load_base(NAME, "causal-lm").model, config)  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.5 * torch.randn_like(parameter)
    model.peft_config["default"].base_model_name_or_path = None
    model.save_pretrained(str(folder / "adapter"))
    shutil.copytree(folder / "adapter", folder / "other")
    return SimpleNamespace(
        adapter=folder / "adapter", other=folder / "other", texts=tiny.save_prose(folder / "prose.jsonl", rows=20)
    )


def run(command: str, files: SimpleNamespace, base: str, out: Path) -> Result:
    given = {"ADAPTER": files.adapter, "OTHER": files.other, "TEXTS:lm-loss": f"{files.texts}:lm-loss", "OUT": out}
    words = [str(given.get(word, word)) for word in COMMANDS[command]]
    quiet = [] if command == "inspect" else ["--quiet"]
    return CliRunner().invoke(main, [command, *words, "--base", base, *quiet])


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_name_of_an_asset_is_its_folder_unless_a_local_folder_has_that_name(
    command: str, files: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    named = run(command, files, NAME, tmp_path / "named")
    assert named.exit_code == 0, named.output
    Path(NAME).mkdir()
    local = run(command, files, NAME, tmp_path / "local")
    assert local.exit_code == 1 and f"'{NAME}'" in local.stderr, local.output


def test_every_command_with_a_base_is_tried() -> None:
    context = main.make_context("spectra", ["--help"], resilient_parsing=True)
    with_base = {
        name
        for name in main.list_commands(context)
        if any("--base" in option.opts for option in main.get_command(context, name).params)  # type: ignore[union-attr]
    }
    assert with_base - set(COMMANDS) == {"convert"}  # it takes the base's names of matrices alone


def test_python_resolves_the_same_names(files: SimpleNamespace) -> None:
    scan = spectra.intruders(str(files.adapter), NAME)
    assert scan.base == NAME
    folder = spectra.intruders(str(files.adapter), str(fetch(NAME)))
    assert scan.to_dataframe("vectors").equals(folder.to_dataframe("vectors"))


def test_what_is_written_names_a_folder_that_peft_finds(files: SimpleNamespace, tmp_path: Path) -> None:
    spectra.resize(str(files.adapter), base=NAME, out=tmp_path / "smaller", rank=1)
    config = json.loads((tmp_path / "smaller" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(fetch(NAME).resolve())


def test_texts_and_hub_ids_are_no_model_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    assert model_asset("bbc-news") is None and model_asset("org/demo-lm") is None
    assert locate_locally("all-MiniLM-L6-v2") is None  # looking fetches nothing
    (tmp_path / NAME).write_text("a file")
    assert model_asset(NAME) is None
