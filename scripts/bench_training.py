"""What the training driver costs beside a bare Trainer + peft script, and what a scan of SpectraCallback costs.

    python scripts/bench_training.py [--steps 20] [--repeats 3] [--scans 3] [-o TABLE.md]

Driver: `spectra.training.driver.train` and the same work written by hand (load, tokenise, attach LoRA, train, score the
validation split) take turns on MiniLM and film reviews. Callback: on SmolLM2, every step is followed by a scan, so that
steps and scans are measured under the same load. Times are medians, in seconds of wall clock and of processor time;
on a busy machine the second is the one to read.
"""

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from spectra.data import TaskData, load_task
from spectra.models import resolve_model
from spectra.records.provenance import commit, hardware, versions
from spectra.training import SpectraCallback
from spectra.training.adapt import attach
from spectra.training.callback import EVERY, EVERY_OF_A_DENSE_UPDATE
from spectra.training.driver import train
from spectra.training.settings import TrainingSettings

Times = tuple[float, float]  # wall clock, processor
SMALL, LARGE = "all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"
LORA = TrainingSettings(
    base=SMALL, method="lora", rank=8, alpha=16.0, learning_rate=1e-3, seed=0, steps=20,
    max_length=64, train_examples=640, validation_examples=64,
)  # fmt: skip


def timed(work: Callable[[], Any]) -> Times:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def by_hand(settings: TrainingSettings, task: TaskData, folder: Path) -> None:
    """The script that somebody writes who has never heard of this package."""
    name = resolve_model(settings.base)
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=len(task.label_names))
    layers = ["query", "key", "value", "dense"]
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=layers, exclude_modules=".*pooler.*",
        modules_to_save=["classifier", "pooler"], task_type=TaskType.SEQ_CLS,
    )  # fmt: skip
    train_rows, validation_rows = (
        rows.select(range(limit)).map(
            lambda row: tokenizer(row["text"], truncation=True, max_length=settings.max_length),
            load_from_cache_file=False,
        )
        for rows, limit in ((task.train, settings.train_examples), (task.validation, settings.validation_examples))
    )
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=settings.steps, per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=2 * settings.batch_size, learning_rate=settings.learning_rate, report_to="none",
        save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        get_peft_model(model, config), arguments, train_dataset=train_rows.rename_column("label", "labels"),
        eval_dataset=validation_rows.rename_column("label", "labels"), data_collator=DataCollatorWithPadding(tokenizer),
    )  # fmt: skip
    trainer.train()
    trainer.evaluate()


def driver_rows(steps: int, repeats: int) -> Iterator[str]:
    settings = replace(LORA, steps=steps)
    task = load_task("movie-sentiment")
    ways = {"by hand": lambda out: by_hand(settings, task, out), "driver": lambda out: train(settings, task, out)}
    found: dict[str, list[Times]] = {name: [] for name in ways}
    for _ in range(repeats + 1):  # the first turn warms up
        for name, work in ways.items():
            with tempfile.TemporaryDirectory() as out:
                found[name].append(timed(lambda: work(Path(out))))  # noqa: B023 - called at once
    medians = {name: [median(column) for column in zip(*times[1:], strict=True)] for name, times in found.items()}
    for i, kind in enumerate(("wall clock", "processor")):
        bare, ours = medians["by hand"][i], medians["driver"][i]
        yield f"| {kind} | {bare:.2f} | {ours:.2f} | {100 * (ours / bare - 1):+.1f} % |"


class Steps(TrainerCallback):
    """Times every optimiser step; put before the callback, so that its scan is not counted."""

    def __init__(self) -> None:
        self.times: list[Times] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.times.append((time.perf_counter() - self.began[0], time.process_time() - self.began[1]))


class Timed(SpectraCallback):
    """The callback, each scan timed."""

    def __init__(self) -> None:
        super().__init__(every=1, warn_at=None)
        self.times: list[Times] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(timed(lambda: super(Timed, self).on_step_end(*args, **kwargs)))


def callback_row(method: str, scans: int) -> str:
    """4 x 128 tokens a step, as in ordinary use of a model of this size."""
    own = {} if method == "full" else {"rank": 8, "alpha": 16.0}
    settings = TrainingSettings(LARGE, method, 1e-4, 0, steps=1, **own)
    model = attach(AutoModelForCausalLM.from_pretrained(resolve_model(LARGE)), settings, "CAUSAL_LM")
    rows = Dataset.from_list(
        [{"input_ids": list(range(i, i + 128)), "labels": list(range(i, i + 128))} for i in range(64)]
    )
    steps, callback = Steps(), Timed()
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out, max_steps=scans + 1, per_device_train_batch_size=4, report_to="none", disable_tqdm=True,
            save_strategy="no", logging_steps=1000,
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[steps])
        callback.attach(trainer)
        trainer.train()
    every = EVERY_OF_A_DENSE_UPDATE if method == "full" else EVERY
    step, scan = (
        [median(column) for column in zip(*times[1:], strict=True)] for times in (steps.times, callback.times)
    )
    shares = [f"{100 * scan[i] / (every * step[i]):.2f} %" for i in range(2)]
    cells = [f"{step[0]:.1f} / {step[1]:.1f}", f"{scan[0]:.1f} / {scan[1]:.1f}", str(every), " / ".join(shares)]
    return f"| {method} | {' | '.join(cells)} | {callback.preparation_seconds:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    began, when = time.perf_counter(), time.process_time()
    facts = ", ".join(f"{name} {value}" for name, value in {**versions(), **hardware()}.items())
    lines = [
        "# What training costs here, and what watching it costs", "",
        f"`python {shlex.join([*sys.argv[:1], '--steps', str(given.steps), '--repeats', str(given.repeats)])}`",
        f"at commit {commit()}. {facts}.", "",
        f"## The driver beside a script by hand: {SMALL}, LoRA r = 8, {given.steps} steps of 16 reviews", "",
        "| seconds | by hand | driver | overhead |", "|---|---|---|---|",
        *driver_rows(given.steps, given.repeats), "",
        f"## SpectraCallback: {LARGE}, 210 matrices, 4 x 128 tokens a step, k = 10", "",
        "Seconds as wall clock / processor time. A scan looks at every matrix; its share is that of the steps in the",
        "default interval. Preparing W0 (wall clock) is done once per base and machine, unless it is in the cache.", "",
        "| method | step | scan | default interval | share | preparing W0 |", "|---|---|---|---|---|---|",
        *(callback_row(method, given.scans) for method in ("lora", "full")), "",
        f"The benchmark took {time.perf_counter() - began:.0f} s of wall clock and {time.process_time() - when:.0f} s",
        "of processor time: where the first is far above half the second, the machine was shared.", "",
    ]  # fmt: skip
    text = "\n".join(lines)
    print(text)
    if given.output:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
