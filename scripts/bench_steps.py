"""Training steps of random Llamas in the shapes of 1B and 7B models: seconds, tokens per second, peak memory.

    python scripts/bench_steps.py --device cuda [--only 7B] [-o TABLE.md]
    python scripts/bench_steps.py --device cpu --tiny        the same path on tiny shapes

The weights are random and made on the device; everything else is what a sweep does: `training.adapt.attach`, the
Trainer of `training.trainer`, bfloat16 arithmetic. Under LoRA the frozen base is in bfloat16; what is trained is in
float32.
"""

import argparse
import gc
import itertools
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # before torch

import torch
from bench_worker import synchronise
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback, default_data_collator

from spectra.records.provenance import commit, versions
from spectra.training.adapt import METHODS, attach
from spectra.training.cost import optimiser_bytes, peak_memory_bytes, start_peak_memory
from spectra.training.families import FAMILIES
from spectra.training.modules import trainable_parameters
from spectra.training.settings import TrainingSettings
from spectra.training.trainer import PairedTrainer, training_arguments

SHAPES: dict[str, dict[str, int]] = {
    "1B": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_key_value_heads": 4},
    "7B": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_key_value_heads": 32},
}
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_key_value_heads": 4}
GIB = 2**30
HEADER = (
    "| model | parameters | method | trained | optimiser | examples x tokens | seconds per step | tokens per second "
    "| peak memory (GiB) | optimiser's state (GiB) |\n|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    model: str
    method: str
    optimiser: str
    batch: int
    length: int
    checkpointing: bool = False

    def settings(self, steps: int) -> TrainingSettings:
        """As a sweep would give them."""
        own: dict[str, Any] = {"rank": 16, "alpha": 32.0, "base_dtype": "bfloat16"} if self.method != "full" else {}
        return TrainingSettings(
            "random",
            self.method,
            1e-5,
            0,
            steps=steps,
            batch_size=self.batch,
            max_length=self.length,
            precision="bfloat16",
            optimiser=self.optimiser,
            gradient_checkpointing=self.checkpointing,
            **own,
        )


# Full fine-tuning of 7B holds weights and gradients in float32, 54 GB; AdamW's moments would be as much again.
CASES = (
    Case("1B", "lora", "adamw_torch_fused", 8, 1024),
    Case("1B", "full", "adamw_torch_fused", 8, 1024),
    Case("7B", "lora", "adamw_torch_fused", 4, 1024, checkpointing=True),
    Case("7B", "full", "adafactor", 2, 512, checkpointing=True),
)


class Clock(TrainerCallback):
    """Seconds of every step, the device waited for."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds, self.began = device, [], 0.0
        self.optimiser_bytes = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        synchronise(self.device)
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Stop it."""
        synchronise(self.device)
        self.seconds.append(time.perf_counter() - self.began)
        self.optimiser_bytes = optimiser_bytes(getattr(optimizer, "optimizer", optimizer))


def measured(case: Case, device: str, steps: int, vocabulary: int, shape: dict[str, int]) -> str:
    """One line of the table."""
    settings = case.settings(steps)
    config = LlamaConfig(vocab_size=vocabulary, num_attention_heads=32 if vocabulary > 1000 else 4, **shape)
    config.use_cache = False
    torch.manual_seed(0)
    with torch.device(device):
        made = LlamaForCausalLM(config)
    parameters = sum(parameter.numel() for parameter in made.parameters())
    model = attach(made, settings, "CAUSAL_LM")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    start_peak_memory()
    drawn = torch.randint(0, vocabulary, (case.batch * steps, case.length), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row, "attention_mask": torch.ones_like(row)} for row in drawn]
    clock = Clock(device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PairedTrainer(
            model=model,
            settings=settings,
            family=FAMILIES["causal-lm"],
            args=training_arguments(settings, Path(folder)),
            train_dataset=rows,
            data_collator=default_data_collator,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    warm = sorted(clock.seconds[len(clock.seconds) // 3 :])
    seconds = warm[len(warm) // 2]
    return (
        f"| {case.model} | {parameters / 1e9:.2f}e9 | {METHODS[case.method].label(settings)} "
        f"| {trainable_parameters(model) / 1e6:.1f}e6 | {case.optimiser} | {case.batch} x {case.length} "
        f"| {seconds:.3f} | {case.batch * case.length / seconds:,.0f} | {peak_memory_bytes() / GIB:.1f} "
        f"| {clock.optimiser_bytes / GIB:.2f} |"
    )


def lines(asked: argparse.Namespace) -> Iterator[str]:
    """The table, line by line; a case that does not fit says so."""
    yield HEADER
    for case in CASES:
        if asked.only and case.model not in asked.only.split(","):
            continue
        shape, vocabulary = (TINY, 512) if asked.tiny else (SHAPES[case.model], 32000)
        small = Case(case.model, case.method, case.optimiser, 2, 32, case.checkpointing) if asked.tiny else case
        try:
            yield measured(small, asked.device, asked.steps, vocabulary, shape)
        except torch.OutOfMemoryError:
            yield f"| {case.model} | | {case.method} | | {case.optimiser} | | out of memory | | | |"
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def main() -> None:
    """Print the table as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="the Trainer takes the GPU that there is")
    parser.add_argument("--only", help="models, such as 1B,7B")
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps per case; the first third warms up")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to see the script run")
    parser.add_argument("-o", "--out", type=Path, help="also write the table here")
    asked = parser.parse_args()
    told = []
    foot = f"\nDevice {asked.device}, torch {versions()['torch']}, commit {commit()}."
    foot += f" Command: {shlex.join(['python', *sys.argv])}"
    for line in itertools.chain(lines(asked), [foot]):
        told.append(line)
        print(line, flush=True)
    if asked.out:
        asked.out.write_text("\n".join(told) + "\n")


if __name__ == "__main__":
    main()
