import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import spectra
from spectra.cli.main import main
from spectra.errors import CheckpointError, SpectrumError
from spectra.records.comparison import Comparison
from spectra.scanning.compare import compare
from spectra.weights import open_pair
from tests.scanning.checkpoints import Checkpoints, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def compared(saved: Checkpoints) -> Comparison:
    return compare([*saved.adapters, saved.full], saved.base, top=3, k=4)


def test_counts_and_norms_are_those_of_a_scan_of_each_checkpoint(compared: Comparison, saved: Checkpoints) -> None:
    for scan, checkpoint in zip(compared.scans, [*saved.adapters, saved.full], strict=True):
        alone = spectra.intruders(checkpoint, saved.base, k=4, dense_norms=True)
        assert scan.total("intruders.count") == alone.count
        norms = {m.name: m.update.frobenius for m in alone.matrices if m.update}
        assert [m.name for m in scan.matrices] == list(norms)
        assert [m.value("update.frobenius") for m in scan.matrices] == pytest.approx(list(norms.values()), rel=1e-4)


def test_overlaps_agree_with_subspaces_from_numpy(compared: Comparison, saved: Checkpoints) -> None:
    pairs = [open_pair(saved.base, checkpoint) for checkpoint in (*saved.adapters, saved.full)]
    subspaces = {}
    for which, pair in enumerate(pairs):
        for matrix in pair.matrices:
            delta = matrix.W_tuned(torch.float64) - matrix.W0.load(torch.float64)
            U, _, Vh = np.linalg.svd(delta.numpy(), full_matrices=False)
            subspaces[which, str(matrix.name)] = {"left": U[:, :3], "right": Vh[:3].T}
    assert len(compared.overlaps) == 3 * 14 * 2
    for overlap in compared.overlaps:
        one = subspaces[overlap.first, overlap.name][overlap.side]
        other = subspaces[overlap.second, overlap.name][overlap.side]
        assert overlap.dimensions == (3, 3)
        assert overlap.phi == pytest.approx(np.linalg.norm(one.T @ other) ** 2 / 3, abs=1e-3)  # float32 directions
        assert overlap.expected == pytest.approx(3 / one.shape[0])


def test_a_checkpoint_agrees_with_its_merged_copy_and_strangers_do_not_agree(saved: Checkpoints) -> None:
    result = compare([saved.adapters[1], saved.merged[1], saved.adapters[0]], saved.base, top=3, k=4)
    found = {(pair.first, pair.second, pair.side): pair for pair in result.pairs()}
    same = found[str(saved.adapters[1]), str(saved.merged[1]), "left"]
    strangers = found[str(saved.adapters[1]), str(saved.adapters[0]), "left"]
    assert same.phi == pytest.approx(1.0, abs=1e-3)
    assert same.above_chance == same.matrices == 14
    assert strangers.phi == pytest.approx(strangers.expected, abs=0.05)
    assert strangers.above_chance <= 1  # each has a chance of 1 %


def test_an_untuned_copy_has_no_directions_to_compare(saved: Checkpoints) -> None:
    result = compare([saved.base, saved.adapters[0]], saved.base, k=4)
    assert result.overlaps == ()
    assert result.pairs() == ()
    assert result.scans[0].total("intruders.count") == 0


def test_matrices_that_not_every_checkpoint_changed_are_named(saved: Checkpoints, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from tests.scanning.checkpoints import _model

    torch.manual_seed(0)
    model = get_peft_model(_model(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "q-only")
    result = compare([saved.adapters[0], tmp_path / "q-only"], saved.base, k=4)
    assert {overlap.role for overlap in result.overlaps} == {"q_proj"}
    assert {overlap.dimensions for overlap in result.overlaps} == {(3, 2)}
    assert "12 matrices are not changed by every checkpoint" in " ".join(result.warnings)


def test_different_bases_are_refused(saved: Checkpoints, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((saved.base / "config.json").read_text())
    weights = load_file(saved.base / "model.safetensors")
    save_file({name: 1.5 * tensor for name, tensor in weights.items()}, other / "model.safetensors")
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "adapter_model.safetensors").write_bytes((saved.adapters[0] / "adapter_model.safetensors").read_bytes())
    config = json.loads((saved.adapters[0] / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(other)}))
    with pytest.raises(
        CheckpointError, match=r"different bases: the weights of '.*' and '.*' differ\. Compare checkpoints of one"
    ):
        compare([saved.adapters[0], moved], k=4)


def test_one_checkpoint_is_nothing_to_compare(saved: Checkpoints) -> None:
    with pytest.raises(SpectrumError, match="1 checkpoint was given, and comparing takes two"):
        compare([saved.full], saved.base)
    with pytest.raises(SpectrumError, match="top is 0 and draws is 99"):
        compare([saved.full, saved.base], saved.base, top=0)


def test_the_record_becomes_tables_json_and_html(compared: Comparison) -> None:
    assert len(compared.to_dataframe("checkpoints")) == 3
    assert len(compared.to_dataframe("pairs")) == 6
    assert list(compared.to_dataframe()["above_chance"]) == [overlap.above_chance for overlap in compared.overlaps]
    assert json.loads(json.dumps(compared.to_dict()))["pairs"][0]["matrices"] == 14
    assert "above chance" in compared._repr_html_()


def test_the_command_prints_tables_of_eighty_columns_and_writes_json(
    saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "comparison.json"
    arguments = ["compare", *map(str, saved.adapters), "--base", str(saved.base), "-k", "4", "--roles", "q_proj"]
    shown = CliRunner().invoke(main, [*arguments, "-o", str(out)])
    assert shown.exit_code == 0, shown.output
    table = shown.stdout.split("phi: overlap")[0]
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "A B" in table
    printed = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(printed.stdout)["overlaps"] == json.loads(out.read_text())["overlaps"]
    assert len(CliRunner().invoke(main, [*arguments, "--csv"]).stdout.splitlines()) == 1 + 2 * 2
    again = CliRunner().invoke(main, [*arguments, "-o", str(out)])
    assert (again.exit_code, "Add --force" in again.stderr) == (1, True)
