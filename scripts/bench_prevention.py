"""What keeping a rule costs beside a training step with plain LoRA.

    python scripts/bench_prevention.py [MODEL]        # an asset or a folder; default all-MiniLM-L6-v2, 16 x 64 tokens

Forward, backward and AdamW of a batch, then the rule; both in processor time of this process, so that what else runs on
the machine does not count. Prints a table; `reports/prevention/README.md` has one.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from spectra import L2Init, MaxNorm, OPLoRA, SpectralBudget
from spectra.models import load_base, load_kind
from spectra.training.modules import target_pattern
from spectra.training.prevention.moment import Moment
from spectra.training.prevention.rule import UpdateRule

STEPS, WARM = 6, 2
BATCH, LENGTH = 16, 64
RULES: dict[str, Callable[[], UpdateRule]] = {
    "oplora, protect 16": lambda: OPLoRA(16),
    "spectral-budget, certain": lambda: SpectralBudget(0.8),
    "max-norm, 0.1": lambda: MaxNorm(0.1),
    "l2-init, 1": lambda: L2Init(1.0),
}


def adapted(name: str, rank: int) -> Any:
    """The model under a LoRA of all linear layers."""
    torch.manual_seed(0)
    model = load_base(name, load_kind(name)).model
    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=target_pattern(model, "all-linear"))
    )


def loss_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Something to descend: what is learnt does not matter here."""
    found = model(input_ids=ids)
    hidden = found.logits if hasattr(found, "logits") else found.last_hidden_state
    return hidden.float().pow(2).mean()


def timed(name: str, rank: int, rule: UpdateRule) -> tuple[float, float, float]:
    """Seconds of the preparation, of a step and of the rule after it (means)."""
    model = adapted(name, rank)
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    ids = torch.randint(1000, 2000, (BATCH, LENGTH))
    began = time.process_time()
    rule.begin(model)
    preparation, spent = time.process_time() - began, [0.0, 0.0]
    for step in range(1, STEPS + 1):
        marks = [time.process_time()]
        loss_of(model, ids).backward()
        before = time.process_time()
        rule.before_step()
        rule_time = time.process_time() - before
        optimiser.step()
        optimiser.zero_grad()
        marks.append(time.process_time())
        rule.keep(Moment(step, STEPS, lambda parameter: 1e-2))
        if step > WARM:
            spent[0] += marks[1] - marks[0] - rule_time
            spent[1] += time.process_time() - marks[1] + rule_time
    return preparation, *(seconds / (STEPS - WARM) for seconds in spent)


def main() -> None:
    """Time every rule at two ranks."""
    name = sys.argv[1] if len(sys.argv) > 1 else "all-MiniLM-L6-v2"
    print(f"{name}, {BATCH} x {LENGTH} tokens, LoRA on all linear layers of the blocks\n")
    print("| rule | rank | preparation, s | step, s | rule, s | of a step |\n|---|---|---|---|---|---|")
    for rank in (8, 64):
        for label, make in RULES.items():
            preparation, step, rule = timed(name, rank, make())
            print(
                f"| {label} | {rank} | {preparation:.2f} | {step:.3f} | {rule:.4f} | {100 * rule / step:.1f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
