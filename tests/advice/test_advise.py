import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model

import spectra
from spectra import Selection
from spectra.advice import Advice, advise
from spectra.advice.advise import AdviceSettings
from spectra.advice.ranks import RankRule, all_values
from spectra.cli.main import main
from spectra.errors import SpectrumError
from spectra.linalg.density import Spectrum, estimated_spectrum
from spectra.linalg.operators import Dense
from spectra.weights import open_pair
from tests import reference
from tests.scanning.checkpoints import Checkpoints, _model, save

QUESTION = {"k": 4, "epsilon": 0.5}
ROLES = "q_proj,down_proj"
QUICK = {**QUESTION, "draws": 1, "measure": False}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def of_large(saved: Checkpoints) -> Advice:
    """From an adapter large enough to have intruders, with its thresholds measured."""
    return advise(saved.adapters[1], saved.base, draws=2, **QUESTION, selection=Selection(roles=ROLES, layers="0"))


def test_ranks_keep_the_share_asked_for_and_one_less_would_not(saved: Checkpoints) -> None:
    advice = advise(saved.full, saved.base, **QUICK)
    updates = {
        str(matrix.name): np.linalg.svd(matrix.delta_W().double().numpy(), compute_uv=False)
        for matrix in open_pair(saved.base, saved.full).matrices
    }
    kept = total = 0.0
    for matrix in advice.matrices:
        energy = np.cumsum(updates[matrix.name] ** 2) / np.sum(updates[matrix.name] ** 2)
        assert energy[matrix.rank - 1] >= 0.9 - 1e-6
        assert energy[matrix.rank - 2] < 0.9
        assert matrix.energy_kept == pytest.approx(energy[matrix.rank - 1], rel=1e-4)
        kept += np.sum(updates[matrix.name][: matrix.rank] ** 2)
        total += np.sum(updates[matrix.name] ** 2)
    assert advice.energy_kept == pytest.approx(kept / total, rel=1e-4)
    assert advice.parameters == sum(matrix.rank * sum(matrix.shape) for matrix in advice.matrices)


def test_peft_builds_a_model_with_the_advised_rank_and_scaling_in_every_module(saved: Checkpoints) -> None:
    advice = advise(saved.full, saved.base, **QUICK)
    configuration = json.loads(json.dumps(advice.lora_config()))
    assert configuration["rank_pattern"]  # otherwise nothing is tested
    model = get_peft_model(_model(), LoraConfig(**configuration))
    modules = {
        name.removeprefix("base_model.model.model."): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and "default" in module.lora_A
    }
    assert set(modules) == {matrix.name for matrix in advice.matrices}
    for matrix in advice.matrices:
        assert modules[matrix.name].lora_A["default"].weight.shape[0] == matrix.rank
        assert modules[matrix.name].scaling["default"] == pytest.approx(matrix.alpha / matrix.rank)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == advice.parameters


def test_no_rank_is_larger_than_allowed_and_the_evidence_says_so(saved: Checkpoints) -> None:
    advice = advise(saved.full, saved.base, max_rank=2, **QUICK)
    assert {matrix.rank for matrix in advice.matrices} == {2}
    assert any(
        "Stopped at --max-rank 2, keeping less than asked: 14 of 14 ranks" in sentence for sentence in advice.evidence
    )


def test_a_budget_is_shared_out_by_energy_and_what_gets_none_is_left_out(saved: Checkpoints) -> None:
    few = Selection(roles=ROLES, layers="0")
    whole = advise(saved.full, saved.base, selection=few, **QUICK)
    advice = advise(saved.full, saved.base, selection=few, budget=min(sum(m.shape) for m in whole.matrices), **QUICK)
    [matrix] = advice.matrices  # the one direction that was paid for
    assert matrix.rank == 1
    assert advice.parameters == sum(matrix.shape)
    assert any("1 of 2 matrices got none" in sentence for sentence in advice.evidence)
    assert "asked: at most" in advice._repr_html_()


def test_a_budget_that_pays_for_nothing_is_refused() -> None:
    with pytest.raises(SpectrumError, match="3 numbers are fewer than one direction of any matrix takes \\(8\\)"):
        RankRule(budget=3).ranks([Spectrum.known(torch.ones(4))], [(4, 4)])


def test_a_full_update_says_nothing_of_alpha(saved: Checkpoints) -> None:
    advice = advise(saved.full, saved.base, **QUICK)
    assert all(matrix.alpha == 2 * matrix.rank and matrix.critical_alpha is None for matrix in advice.matrices)
    assert any("No LoRA update was looked at: alpha follows the rule 2r" in sentence for sentence in advice.evidence)


def test_ranks_of_a_lora_update_come_with_a_warning_of_its_own_rank(saved: Checkpoints) -> None:
    advice = advise(saved.adapters[0], saved.base, **QUICK)
    assert max(matrix.rank for matrix in advice.matrices) <= 3
    assert any("a LoRA update, which has at most rank 3: a full update may need more" in s for s in advice.evidence)


def test_the_measured_scale_is_where_the_definition_counts_its_first_intruder(
    saved: Checkpoints, of_large: Advice
) -> None:
    found = 0
    for pair in open_pair(saved.base, saved.adapters[1], Selection(roles=ROLES, layers="0")).matrices:
        advice = next(matrix for matrix in of_large.matrices if matrix.name == str(pair.name))
        assert advice.critical is not None
        if advice.critical.measured is None:
            continue
        found += 1
        W0, delta = pair.W0.load(torch.float64).numpy(), pair.delta_W().double().numpy()
        assert reference.count_intruders(W0, W0 + 1.001 * advice.critical.measured * delta, 4, 0.5) >= 1
        assert reference.count_intruders(W0, W0 + 0.99 * advice.critical.measured * delta, 4, 0.5) == 0
    assert found


def test_alpha_is_lowered_below_the_scale_that_makes_intruders(saved: Checkpoints, of_large: Advice) -> None:
    counts = {m.name: m.count for m in spectra.intruders(saved.adapters[1], saved.base, k=4).matrices}
    assert any(counts.values())  # otherwise nothing is tested
    for matrix in of_large.matrices:
        assert matrix.alpha_in_use == pytest.approx(2 * matrix.rank)  # alpha 6 at rank 3
        if counts[matrix.name]:
            assert matrix.critical is not None
            assert matrix.critical_alpha is not None
            assert matrix.critical_alpha <= matrix.alpha_in_use * 1.01
            assert matrix.alpha == pytest.approx(0.9 * matrix.critical_alpha, rel=1e-3)


def test_an_untuned_checkpoint_gives_no_advice(saved: Checkpoints) -> None:
    with pytest.raises(SpectrumError, match=r"equals its base in all 14 matrices\. Name a checkpoint that was tuned"):
        advise(saved.base, saved.base, **QUICK)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"keep": 0.0}, "keep is 0.0"), ({"max_rank": 0}, "max_rank is 0"), ({"budget": 0}, "budget is 0")],
)
def test_rules_for_ranks_without_meaning_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(SpectrumError, match=re.escape(message)):
        RankRule(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"headroom": 1.5}, "headroom is 1.5"),
        ({"draws": 0}, "draws is 0"),
        ({"alpha": "r2"}, "'r2' is no alpha; write a number, or a multiple of the rank such as 2r."),
    ],
)
def test_settings_without_meaning_are_named(wrong: dict[str, float | str], message: str) -> None:
    with pytest.raises(SpectrumError, match=re.escape(message)):
        AdviceSettings(**wrong)  # type: ignore[arg-type]


def test_an_estimated_spectrum_is_filled_up_to_all_values() -> None:
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(200, 300, generator=generator) + 4 * torch.eye(200, 300)
    S = torch.linalg.svdvals(W.double())
    assert torch.equal(all_values(Spectrum.known(S), 200), S)
    filled = all_values(estimated_spectrum(Dense(W)), 200)
    assert filled.shape == (200,)
    assert bool((filled[:-1] >= filled[1:]).all())
    # Twelve Lanczos steps of eight probes place the bulk's quantiles within a few per cent of its range.
    assert float((filled - S).abs().mean() / S[0]) < 0.03


def test_the_record_becomes_a_table_json_and_html(of_large: Advice) -> None:
    table = of_large.to_dataframe()
    assert list(table["rank"]) == [matrix.rank for matrix in of_large.matrices]
    assert "critical_measured" in table
    facts = json.loads(json.dumps(of_large.to_dict()))
    assert facts["lora_config"]["r"] == of_large.lora_config()["r"]
    assert "intruders from alpha" in of_large._repr_html_()


def test_the_command_writes_a_configuration_that_peft_takes(
    saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "lora.json"
    arguments = ["advise", str(saved.adapters[1]), "-k", "4", "--draws", "2", "--no-measure", "--roles", "q_proj"]
    shown = CliRunner().invoke(main, [*arguments, "-o", str(out)])
    assert shown.exit_code == 0, shown.output
    assert max(len(line) for line in shown.stdout.split("Rank")[0].splitlines()) <= 80
    assert "This rests on:" in shown.stdout
    assert LoraConfig(**json.loads(out.read_text())).r in (1, 2, 3)
    printed = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(printed.stdout)["lora_config"] == json.loads(out.read_text())
    assert "Add --force" in CliRunner().invoke(main, [*arguments, "-o", str(out)]).stderr
