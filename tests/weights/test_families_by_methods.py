"""Every family with every method: delta_W must be what peft's own merge makes of the model."""

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from families import FAMILIES
from tuned import tune

from spectra.weights import open_pair

METHODS: dict[str, Callable[[list[str]], peft.PeftConfig]] = {
    "lora": lambda targets: peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets),
    "rslora": lambda targets: peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=targets),
    "patterns": lambda targets: peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=targets, rank_pattern={targets[0]: 2}, alpha_pattern={targets[-1]: 10}
    ),
    "dora": lambda targets: peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=targets),
    "pissa": lambda targets: peft.LoraConfig(r=4, lora_alpha=6, init_lora_weights="pissa", target_modules=targets),
    "olora": lambda targets: peft.LoraConfig(r=4, lora_alpha=6, init_lora_weights="olora", target_modules=targets),
    "loha": lambda targets: peft.LoHaConfig(r=4, alpha=6, target_modules=targets),
    "lokr": lambda targets: peft.LoKrConfig(r=4, alpha=6, target_modules=targets),
    "adalora": lambda targets: peft.AdaLoraConfig(init_r=4, target_r=4, total_step=10, target_modules=targets),
    "vera": lambda targets: peft.VeraConfig(r=4, target_modules=targets),
    "ia3": lambda targets: peft.IA3Config(target_modules=targets, feedforward_modules=[targets[-1]]),
    "oft": lambda targets: peft.OFTConfig(oft_block_size=4, target_modules=targets),
    "hra": lambda targets: peft.HRAConfig(r=4, target_modules=targets),
}
# peft itself refuses GPT-2's Conv1D for these, and breaks on a Conv1D that is not square for OLoRA.
REFUSED = {("gpt2", method) for method in ("loha", "lokr", "oft", "hra", "olora")}
# Every method on one family of each layout, and on the others one method of each kind of arithmetic.
IN_FULL = ("bert", "gpt2", "llama")
ELSEWHERE = ("lora", "dora", "olora", "lokr", "vera")
PAIRS = [
    (family, method)
    for family in FAMILIES
    for method in (METHODS if family in IN_FULL else ELSEWHERE)
    if (family, method) not in REFUSED
]

# peft merges in float32 and the test subtracts W0 again: errors are units in the last place of the largest weight.
ULPS = 32 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize(("family", "method"), PAIRS)
def test_delta_w_of_every_matrix_is_that_of_pefts_merge(family: str, method: str, tmp_path: Path) -> None:
    targets = list(FAMILIES[family].targets)
    tuned = tune(tmp_path, family, METHODS[method](targets))
    pair = open_pair(tuned.base, tuned.adapter)
    assert pair.matrices
    for matrix in pair.matrices:
        expected = tuned.delta(matrix.name.canonical, conv1d=FAMILIES[family].conv1d)
        atol = ULPS * float(matrix.W_tuned().abs().max())
        torch.testing.assert_close(matrix.delta_W(torch.float64), expected, atol=atol, rtol=1e-5)
        assert expected.abs().max() > 100 * atol
    base, merged = tuned.tensors("base"), tuned.tensors("merged")
    changed = [name for name, W in merged.items() if name.endswith(".weight") and not torch.equal(W, base[name])]
    assert len(changed) == len(pair.matrices)
