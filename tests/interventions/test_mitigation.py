"""`mitigate` on adapters on disk: peft's merge of the result against the dense formula in float64 NumPy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora.intruders import reduce_intruder_dimension
from safetensors.torch import load_file, save_file

import spectra
from spectra import Selection
from spectra.errors import AdapterError, CheckpointError, DestinationError, SpectrumError
from spectra.interventions import Mitigation, write_mitigated
from spectra.weights import read_origin
from tests import reference
from tests.interventions.adapters import Case, gpt2, llama, quiet, save, vit

K, EPSILON = 4, 0.8
ATTENTION = ["q_proj", "v_proj", "down_proj"]
# Builder, configuration and whether linear weights are stored (d_in, d_out).
CASES: dict[str, tuple[Any, dict[str, Any], bool]] = {
    "linear": (llama, {"target_modules": ATTENTION}, False),
    "rslora": (llama, {"target_modules": ATTENTION, "use_rslora": True}, False),
    "patterns": (
        llama,
        {
            "target_modules": ATTENTION,
            "use_rslora": True,
            "rank_pattern": {"down_proj": 2, "layers.0.self_attn.q_proj": 5},
            "alpha_pattern": {"q_proj": 3},
        },
        False,
    ),
    "conv1d": (gpt2, {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}, True),
    "embedding": (llama, {"target_modules": ["embed_tokens", "q_proj"]}, False),
    "odd rank after an orthogonal start": (
        llama,
        {"target_modules": ATTENTION, "r": 4, "init_lora_weights": "orthogonal"},
        False,
    ),
    "saved whole beside factors": (
        llama,
        {"target_modules": ATTENTION, "modules_to_save": ["lm_head"], "lora_bias": True},
        False,
    ),
}


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return save(tmp_path_factory.mktemp("linear"), llama, target_modules=ATTENTION)


def run(case: Case, out: Path, **settings: Any) -> Mitigation:
    asked = {"k": K, "epsilon": EPSILON, "selection": Selection(include="."), **settings}
    return write_mitigated(case.adapter, out, **asked)


def expected_weights(case: Case, lam: float, select: str, *, conv1d: bool) -> tuple[dict[str, np.ndarray], int]:
    """W0 + delta_W + edit of every adapted matrix, word for word, and the number of treated directions."""
    base, weights, treated = case.build().state_dict(), {}, 0
    for name, merged in case.merged(case.adapter).items():
        weights[name] = merged.double().numpy()
        if torch.equal(merged, base[name]) or merged.ndim != 2 or "lm_head" in name:
            continue
        W0, W = base[name].double().numpy(), weights[name]
        W0, W = (W0.T, W.T) if conv1d else (W0, W)
        cosines = reference.largest_cosines(W0, W, K)
        intruders = [j for j in range(K) if cosines[j] < EPSILON][: 1 if select == "top" else None]
        U, S, Vh = np.linalg.svd(W, full_matrices=False)
        W = W + sum((lam - 1) * S[j] * np.outer(U[:, j], Vh[j]) for j in intruders)
        weights[name] = W.T if conv1d else W
        treated += len(intruders)
    return weights, treated


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("lam", "select"), [(0.6, "top"), (0.0, "all"), (1.5, "all")])
def test_pefts_merge_of_the_result_equals_the_dense_formula(name: str, lam: float, select: str, tmp_path: Path) -> None:
    build, settings, conv1d = CASES[name]
    case = save(tmp_path, build, **settings)
    result = run(case, tmp_path / "out", lam=lam, select=select)
    expected, treated = expected_weights(case, lam, select, conv1d=conv1d)
    assert result.directions == treated > 2
    found = case.merged(tmp_path / "out")
    assert found.keys() == expected.keys()
    for weight, values in expected.items():
        np.testing.assert_allclose(found[weight].numpy(), values, atol=2e-5, err_msg=weight)


@pytest.mark.parametrize("name", CASES)
def test_lambda_one_changes_no_output_beyond_rounding(name: str, tmp_path: Path) -> None:
    build, settings, _ = CASES[name]
    case = save(tmp_path, build, **settings)
    result = run(case, tmp_path / "out", lam=1.0, select="all")
    assert result.count_before == result.count_after == result.directions > 3
    torch.testing.assert_close(case.logits(tmp_path / "out"), case.logits(case.adapter), atol=2e-5, rtol=1e-5)


def test_lambda_one_writes_the_factors_as_they_are(linear: Case, tmp_path: Path) -> None:
    run(linear, tmp_path / "out", lam=1.0, select="all")
    before, after = (
        load_file(Path(folder) / "adapter_model.safetensors") for folder in (linear.adapter, tmp_path / "out")
    )
    assert {name: tensor.shape for name, tensor in after.items()} == {n: t.shape for n, t in before.items()}


def test_the_update_of_the_result_is_what_the_scan_and_peft_read(linear: Case, tmp_path: Path) -> None:
    result = run(linear, tmp_path / "out", lam=0.3, select="all")
    layers = dict(linear.loaded(tmp_path / "out").named_modules())
    pair = spectra.open_pair(linear.base, tmp_path / "out")
    by_name = {matrix.name: matrix for matrix in result.matrices}
    for matrix in pair.matrices:
        layer = layers[f"base_model.model.model.{matrix.name}"]
        update = matrix.update()
        assert update is not None and update.scaling == pytest.approx(5 / 3, rel=1e-12)
        assert layer.scaling["default"] == update.scaling
        torch.testing.assert_close(update.dense(), layer.get_delta_weight("default"), atol=1e-6, rtol=1e-6)
        treated = by_name.get(str(matrix.name))
        assert update.rank == 3 + (len(treated.directions) if treated else 0)
        if treated:
            assert float(torch.linalg.matrix_norm(update.dense())) == pytest.approx(treated.written_norm, rel=1e-5)


def test_counts_before_and_after_are_those_of_separate_scans(linear: Case, tmp_path: Path) -> None:
    result = run(linear, tmp_path / "out", lam=0.0, select="all")
    assert (
        result.count_before
        == spectra.intruders(linear.adapter, k=K, epsilon=EPSILON, selection=Selection(include=".")).count
    )
    assert (
        result.count_after
        == spectra.intruders(tmp_path / "out", k=K, epsilon=EPSILON, selection=Selection(include=".")).count
    )
    assert result.count_after < result.count_before
    assert result.scanned == 6


def test_treating_all_at_the_same_rank_is_what_peft_does_on_linear_layers(linear: Case, tmp_path: Path) -> None:
    model, told = linear.loaded(linear.adapter), list[str]()
    with quiet():
        reduce_intruder_dimension(
            model, top_k=K, threshold_epsilon=EPSILON, mitigation_lambda=0.4, logging_sink=told.append
        )
    result = run(linear, tmp_path / "out", lam=0.4, select="all", rank="same")
    by_module = {matrix.module: matrix for matrix in result.matrices}
    assert by_module
    for line in told[:-1]:
        layer, _, found = line.partition(": ")
        module = layer.removeprefix("base_model.model.")
        count = len(by_module[module].directions) if module in by_module else 0
        assert found == (f"Intruders: {count}" if count else "No intruders")
    mine = dict(linear.loaded(tmp_path / "out").named_modules())
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight"):
            theirs = layer.get_delta_weight("intruder_reduced")
            torch.testing.assert_close(mine[name].get_delta_weight("default"), theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("rank", ["same", 4, 99])
def test_truncation_loses_the_energy_that_it_states(linear: Case, rank: str | int, tmp_path: Path) -> None:
    exact = run(linear, tmp_path / "exact", lam=0.0, select="all")
    small = run(linear, tmp_path / "small", lam=0.0, select="all", rank=rank)
    full, cut = linear.merged(tmp_path / "exact"), linear.merged(tmp_path / "small")
    base = linear.build().state_dict()
    for one, other in zip(exact.matrices, small.matrices, strict=True):
        limit = 3 if rank == "same" else int(rank)
        assert other.rank_after == min(limit, one.rank_after)
        weight = f"{one.module}.weight"
        lost = torch.linalg.matrix_norm(full[weight] - cut[weight]) / torch.linalg.matrix_norm(
            full[weight] - base[weight]
        )
        assert other.lost_energy == pytest.approx(float(lost) ** 2, abs=1e-6)
    assert (small.largest_lost_energy > 0.01) == (rank != 99)


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.5])
def test_the_shrink_has_the_norm_of_the_intervention_and_the_direction_of_the_update(
    linear: Case, lam: float, tmp_path: Path
) -> None:
    exact = run(linear, tmp_path / "exact", lam=lam)
    shrunk = run(linear, tmp_path / "shrunk", lam=lam, shrink=True)
    assert [matrix.rank_after for matrix in shrunk.matrices] == [3] * len(shrunk.matrices)
    base, before = linear.build().state_dict(), linear.merged(linear.adapter)
    after = linear.merged(tmp_path / "shrunk")
    for one, other in zip(exact.matrices, shrunk.matrices, strict=True):
        weight = f"{one.module}.weight"
        delta, scaled = before[weight] - base[weight], after[weight] - base[weight]
        torch.testing.assert_close(scaled, other.shrink_factor * delta, atol=1e-5, rtol=1e-5)
        assert other.written_norm == pytest.approx(one.written_norm, rel=1e-5)


def test_everything_else_is_carried_over_unchanged(tmp_path: Path) -> None:
    build, settings, _ = CASES["saved whole beside factors"]
    case = save(tmp_path, build, **settings)
    (case.adapter / "tokenizer.json").write_text("{}")
    result = run(case, tmp_path / "out", select="all", selection=Selection(include=".", layers="1"))
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (case.adapter, tmp_path / "out"))
    treated = tuple(f"{matrix.module}.lora_{kind}.weight" for matrix in result.matrices for kind in "AB")
    assert treated and before.keys() == after.keys()
    assert all(".layers.1." in name for name in treated)
    for name, tensor in before.items():
        if not name.endswith(treated):
            assert torch.equal(after[name], tensor), name
    assert any(name.endswith("lm_head.weight") for name in after)
    assert any(name.endswith("lora_B.bias") for name in after)
    was, now = (json.loads((folder / "adapter_config.json").read_text()) for folder in (case.adapter, tmp_path / "out"))
    changed = {key for key in was.keys() | now.keys() if was.get(key) != now.get(key)}
    assert changed == {"rank_pattern", "alpha_pattern"}
    origin = read_origin(tmp_path / "out")
    assert origin is not None and origin.source == str(case.adapter)
    assert origin.made_by.startswith("spectra mitigate --lambda 0.7 --select all")


def test_an_adapter_can_be_treated_twice(linear: Case, tmp_path: Path) -> None:
    once = run(linear, tmp_path / "once", lam=0.5)
    case = Case(linear.build, linear.base, tmp_path / "once")
    twice = run(case, tmp_path / "twice", lam=0.5)
    assert {matrix.name for matrix in once.matrices} & {matrix.name for matrix in twice.matrices}
    expected, _ = expected_weights(case, 0.5, "top", conv1d=False)
    for weight, values in case.merged(tmp_path / "twice").items():
        np.testing.assert_allclose(values.numpy(), expected[weight], atol=2e-5, err_msg=weight)


def test_one_of_two_adapters_in_a_file_is_written_alone(linear: Case, tmp_path: Path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    tensors = load_file(linear.adapter / "adapter_model.safetensors")
    named = {
        name.replace(".weight", f".{which}.weight"): (1 if which == "first" else 2) * tensor
        for name, tensor in tensors.items()
        for which in ("first", "second")
    }
    save_file(named, both / "adapter_model.safetensors")
    (both / "adapter_config.json").write_text((linear.adapter / "adapter_config.json").read_text())
    alone = run(linear, tmp_path / "alone")
    result = run(
        Case(linear.build, linear.base, both), tmp_path / "out", selection=Selection(include=".", adapter_name="first")
    )
    assert result.matrices == alone.matrices
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("alone", "out"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())


def test_a_convolution_is_treated_as_the_matrix_it_flattens_to(tmp_path: Path) -> None:
    case = save(tmp_path, vit, target_modules=["projection"])
    result = run(case, tmp_path / "out", lam=0.2, select="all")
    (matrix,) = result.matrices
    weight = f"{matrix.module}.weight"
    W0, W, found = (
        weights[weight].flatten(1).double().numpy()
        for weights in (case.build().state_dict(), case.merged(case.adapter), case.merged(tmp_path / "out"))
    )
    U, S, Vh = np.linalg.svd(W, full_matrices=False)
    intruders = [j for j, cosine in enumerate(reference.largest_cosines(W0, W, K)) if cosine < EPSILON]
    assert matrix.directions == tuple(intruders) != ()
    expected = W + sum((0.2 - 1) * S[j] * np.outer(U[:, j], Vh[j]) for j in intruders)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_half_precision_factors_are_exchanged_for_float32_ones(linear: Case, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    tensors = load_file(linear.adapter / "adapter_model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, half / "adapter_model.safetensors")
    (half / "adapter_config.json").write_text((linear.adapter / "adapter_config.json").read_text())
    case = Case(linear.build, linear.base, half)
    result = run(case, tmp_path / "out", lam=0.5, select="all")
    written = load_file(tmp_path / "out" / "adapter_model.safetensors")
    module = result.matrices[0].module
    assert written[f"base_model.model.{module}.lora_A.weight"].dtype == torch.float32
    expected, _ = expected_weights(case, 0.5, "all", conv1d=False)
    for weight, values in case.merged(tmp_path / "out").items():
        np.testing.assert_allclose(values.numpy(), expected[weight], atol=2e-5, err_msg=weight)


def test_an_adapter_without_intruders_is_written_as_it_is(tmp_path: Path) -> None:
    case = save(tmp_path, llama, size=1e-4, target_modules=ATTENTION)
    result = run(case, tmp_path / "out", epsilon=0.5)
    assert (result.count_before, result.count_after, result.matrices) == (0, 0, ())
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (case.adapter, tmp_path / "out"))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"use_dora": True}, "is a DoRA adapter, which rescales every row"),
        ({"init_lora_weights": "pissa"}, "initialised with 'pissa', which peft repeats on the base at every load"),
    ],
)
def test_what_cannot_be_edited_is_refused_with_the_reason(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    case = save(tmp_path, llama, target_modules=ATTENTION, **settings)
    with pytest.raises(AdapterError, match=reason):
        run(case, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_checkpoint_is_refused(linear: Case, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="is no adapter folder, and only adapters are mitigated"):
        write_mitigated(linear.base, tmp_path / "out", base=linear.base)


def test_parts_of_fused_matrices_are_refused(tmp_path: Path) -> None:
    case = save(tmp_path, gpt2, target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(AdapterError, match=r"without factors of their own\. Leave out split_fused"):
        run(case, tmp_path / "out", selection=Selection(include=".", split_fused=True))


def test_a_selection_without_factors_is_refused(linear: Case, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"No matrix of .* is left to compare .*not among --roles"):
        run(linear, tmp_path / "out", selection=Selection(include=".", roles="k_proj"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lam": 2.1}, r"lambda is 2\.1, outside \[0, 2\]"),
        ({"rank": 0}, "The rank is 0. Give 'exact', 'same' or a positive number"),
        ({"rank": "small"}, "The rank is 'small'"),
        ({"select": "bottom"}, "The selection is 'bottom'"),
        ({"shrink": True, "rank": "same"}, "A shrunk update keeps its rank"),
    ],
)
def test_a_setting_without_meaning_is_refused_before_anything_is_read(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SpectrumError, match=message):
        write_mitigated("no-such-adapter", tmp_path / "out", **settings)


def test_nothing_is_overwritten_without_force_and_the_source_never(linear: Case, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("")
    for force, told in ((False, "Add --force to replace it"), (True, "is no adapter that spectra wrote")):
        with pytest.raises(DestinationError, match=told):
            run(linear, tmp_path / "out", force=force)
    assert (tmp_path / "out" / "precious").exists()
    for _ in range(2):
        run(linear, tmp_path / "other", force=True)
    for out in (linear.adapter, linear.adapter.parent):
        with pytest.raises(DestinationError, match="which the command reads"):
            run(linear, out, force=True)
