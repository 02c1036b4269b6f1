"""A step is what its examples make it, however they are batched; the loss is the one that is written down."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from spectra.data import TaskData, load_task, task_from_rows
from spectra.models import load_base
from spectra.training.driver import train
from spectra.training.families import FAMILIES
from spectra.training.settings import TrainingSettings
from tests import tiny


def without_dropout(folder: Path, family: str) -> str:
    tiny.save_model(folder, family)
    config = json.loads((folder / "config.json").read_text())
    silent = {name: 0.0 for name in config if "dropout" in name and isinstance(config[name], float)}
    (folder / "config.json").write_text(json.dumps(config | silent))
    return str(folder)


def answers(rows: int, seed: int) -> list[dict[str, Any]]:
    """Targets of 1 to 9 words."""
    drawn = random.Random(seed)
    words = [*tiny.GOOD, *tiny.BAD, *tiny.OTHER]
    return [
        {
            "source": f"w{i % 30} " * (i % 7 + 1) + f"w{i // 30} " + tiny.GOOD[seed],
            "target": " ".join(drawn.choices(words, k=i % 9 + 1)),
        }
        for i in range(rows)
    ]


def scored(rows: int, seed: int) -> list[dict[str, Any]]:
    drawn = random.Random(seed)
    return [{"text": f"w{i % 30} w{i // 30} w{seed}", "label": drawn.random()} for i in range(rows)]


def labelled(rows: int, seed: int) -> list[dict[str, Any]]:
    return [{**row, "label": [name for name in ("a", "b", "c") if random.Random(f"{i}{name}").random() < 0.5]}
            for i, row in enumerate(scored(rows, seed))]  # fmt: skip


MAKE = {"seq2seq": answers, "regression": scored, "multi-label": labelled}


def task_of(kind: str, folder: Path) -> TaskData:
    if kind == "classification":
        return load_task(tiny.save_sentiment(folder / "task.jsonl"))
    parts = {
        split: MAKE[kind](rows, seed)
        for seed, (split, rows) in enumerate((("train", 90), ("validation", 20), ("test", 20)))
    }
    names = ("a", "b", "c") if kind == "multi-label" else ()
    return task_from_rows(kind, kind, label_names=names, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "kind", "method"),
    [
        ("t5", "seq2seq", "full"),
        ("llama", "seq2seq", "full"),
        ("bert", "classification", "full"),
        ("bert", "regression", "full"),
        ("t5", "seq2seq", "adalora"),
    ],
)
def test_one_batch_of_eight_and_eight_batches_of_one_are_the_same_step(
    family: str, kind: str, method: str, tmp_path: Path
) -> None:
    task, base = task_of(kind, tmp_path), without_dropout(tmp_path / "model", family)
    own = {"rank": 2, "alpha": 4.0} if method != "full" else {}
    runs = []
    for batch, times in ((8, 1), (1, 8)):
        settings = TrainingSettings(
            base, method, 1e-3, 0, steps=6, batch_size=batch, gradient_accumulation=times, max_length=24, **own
        )  # fmt: skip
        runs.append(train(settings, task, tmp_path / f"by-{batch}"))
    one, eight = ([row["loss"] for row in run.history if "loss" in row] for run in runs)
    assert one == pytest.approx(eight, rel=1e-3)
    assert runs[0].validation.score == pytest.approx(runs[1].validation.score, rel=1e-3)


def test_the_losses_are_those_of_torch() -> None:
    torch.manual_seed(0)
    logits, classes = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    several = torch.tensor([[1.0, 0.0, 1.0]] * 5)
    assert float(FAMILIES["classification"].loss(logits, classes)) == pytest.approx(
        5 * float(cross_entropy(logits, classes)), rel=1e-6
    )
    assert float(FAMILIES["multi-label"].loss(logits, several)) == pytest.approx(
        15 * float(binary_cross_entropy_with_logits(logits, several)), rel=1e-6
    )
    assert float(FAMILIES["regression"].loss(logits[:, :1], several[:, 0])) == pytest.approx(
        5 * float(mse_loss(logits[:, 0], several[:, 0])), rel=1e-6
    )


@pytest.mark.parametrize(("kind", "metric"), [("regression", "spearman"), ("multi-label", "f1-micro")])
def test_scores_and_several_labels_are_learned(kind: str, metric: str, tmp_path: Path) -> None:
    """A text of good words has a high score, or the labels that it names."""

    def rows(count: int, seed: int) -> list[dict[str, Any]]:
        drawn = random.Random(seed)
        made = []
        for _ in range(count):
            good = drawn.randint(0, 4)
            words = [*drawn.choices(tiny.GOOD, k=good), *drawn.choices(tiny.OTHER, k=8 - good)]
            label = good / 4 if kind == "regression" else ["good"] * (good > 1) + ["very"] * (good > 2)
            made.append({"text": " ".join(words), "label": label})
        return made

    names = ("good", "very") if kind == "multi-label" else ()
    task = task_from_rows("made", kind, train=rows(300, 0), validation=rows(60, 1), test=rows(60, 2), label_names=names)  # type: ignore[arg-type]
    base = without_dropout(tmp_path / "model", "bert")
    settings = TrainingSettings(
        base, "lora", 2e-2, 0, rank=4, alpha=8.0, steps=60, batch_size=16, max_length=24, validation_metric=metric
    )
    trained = train(settings, task, tmp_path / "training")
    assert trained.validation.metric == metric and trained.validation.score > 0.7
    wanted = {"regression": "regression", "multi-label": "multi_label_classification"}[kind]
    assert trained.model.config.problem_type == wanted


def test_a_base_that_sees_what_it_predicts_is_refused_by_trying(tmp_path: Path) -> None:
    from spectra.errors import ModelError
    from spectra.models.causal import require_causal

    causal = load_base(tiny.save_model(tmp_path / "llama", "llama"), "causal-lm")
    require_causal(causal.model, "llama")
    backwards = load_base(tiny.save_model(tmp_path / "llama2", "llama"), "causal-lm").model
    for module in backwards.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False
    import transformers.models.llama.modeling_llama as llama

    kept = llama.create_causal_mask
    llama.create_causal_mask = lambda *args, **kwargs: None  # type: ignore[assignment]
    try:
        with pytest.raises(ModelError, match="predicts a token from later ones"):
            require_causal(backwards, "llama2")
    finally:
        llama.create_causal_mask = kept
