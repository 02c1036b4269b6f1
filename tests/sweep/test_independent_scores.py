"""The figures of a sweep against other code: csv, json, transformers, peft, scikit-learn and a few lines of NumPy.

The files hold what real ones hold: a byte order mark, quotes, line breaks and separators inside cells, repeated rows,
letters of several bytes, texts beyond the limit. Models are small and each text is read alone, without padding.
"""

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from spectra.runs import Run
from spectra.sweep import run_sweep
from tests import tiny

LIMIT = 12  # tokens of an example
ODD = ('w1 "w2, w3" w4', "w5\nw6 good", "w7\u2028w8 bad", "w9\x85w10", "naïve w11 \U0001f600 good", "w12 " * 30 + "bad")
LORA = {"method": "lora", "rank": 4, "learning_rate": 1e-2}
FULL = {"method": "full", "learning_rate": 3e-3}
METRIC_OF = {
    "accuracy": (FULL, accuracy_score),
    "f1": (LORA, lambda truth, found: f1_score(truth, found, pos_label=1)),
}


def labelled(rows: int, seed: int) -> list[dict[str, str]]:
    drawn = random.Random(seed)
    found = [{"text": f"{text} w{seed}", "label": drawn.choice(["no", "yes"])} for text in ODD]
    for _ in range(rows):
        label, words = drawn.choice([("yes", tiny.GOOD), ("no", tiny.BAD)])
        found.append({"text": " ".join([*drawn.choices(tiny.OTHER, k=drawn.randint(1, 9)), *drawn.choices(words, k=2)]),
                      "label": label})  # fmt: skip
    return [*found, *found[-3:]]  # the last three once more


def save_csv(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, ["label", "text"], quoting=csv.QUOTE_MINIMAL)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def distinct(path: str) -> list[dict[str, str]]:
    """Rows of a file as the standard library reads them, each input once."""
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return list({" ".join(row["text"].split()).casefold(): row for row in reversed(rows)}.values())


def tuned(run: Run, trial: str, kind: Any, base: str) -> tuple[Any, Any]:
    """A trial's model as transformers and peft load it, and its tokenizer."""
    folder = run.trial(trial)
    if folder.adapter.is_dir():
        plain = kind.from_pretrained(base, **({"num_labels": 2} if "SequenceClassification" in kind.__name__ else {}))
        return PeftModel.from_pretrained(plain, folder.adapter).eval(), AutoTokenizer.from_pretrained(base)
    return kind.from_pretrained(folder.checkpoint).eval(), AutoTokenizer.from_pretrained(base)


@pytest.mark.parametrize("metric", METRIC_OF)
def test_scores_of_a_classification_are_those_of_scikit_learn(metric: str, tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "bert", "bert")
    files = {name: save_csv(tmp_path / f"{name}.csv", labelled(rows, seed))
             for name, rows, seed in (("train", 90, 1), ("validation", 41, 2), ("test", 67, 3))}  # fmt: skip
    task = {"path": files["train"], "validation": files["validation"], "test": files["test"]}
    run = run_sweep(
        {
            "base": base,
            "task": {**task, "label_names": ["no", "yes"]},
            "methods": [METRIC_OF[metric][0]],
            "steps": 40,
            "batch_size": 7,
            "max_length": LIMIT,
            "validation_metric": metric,
            "trajectory": 0,
            "controls": False,
            "keep": "all",
        },
        tmp_path / "run",
        executor="inline",
    )
    [trial] = run.table("trials").to_dict("records")
    model, tokenizer = tuned(run, trial["trial"], AutoModelForSequenceClassification, base)
    for split, column in (("validation", "validation_score"), ("test", "task_score")):
        rows = distinct(files[split])
        found = []
        for row in rows:
            ids = tokenizer(row["text"], truncation=True, max_length=LIMIT, return_tensors="pt")
            with torch.no_grad():
                found.append(int(model(**ids).logits.argmax()))
        truth = [["no", "yes"].index(row["label"]) for row in rows]
        assert set(found) == {0, 1} and found != truth  # or this test could not fail
        assert trial[column] == pytest.approx(METRIC_OF[metric][1](truth, found), abs=1e-12)
    assert trial["task_examples"] == len(rows) > 60


def test_the_loss_of_a_language_model_is_that_of_transformers(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "llama", "llama")
    prose = tiny.save_prose(tmp_path / "prose.jsonl", 80)
    more = Path(tiny.save_prose(tmp_path / "more.jsonl", 30, seed=9)).read_text().splitlines()
    texts = [*ODD, *(json.loads(line)["text"] for line in more)]
    held = tmp_path / "held.jsonl"
    held.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    run = run_sweep(
        {
            "base": base,
            "task": {"path": prose, "kind": "causal-lm"},
            "heldout": [{"task": {"path": str(held), "kind": "causal-lm"}, "measure": "lm-loss", "max_length": LIMIT}],
            "methods": [FULL, LORA],
            "steps": 10,
            "batch_size": 4,
            "max_length": LIMIT,
            "trajectory": 0,
            "controls": False,
            "keep": "all",
        },
        tmp_path / "run",
        executor="inline",
    )

    def loss(model: Any, tokenizer: Any) -> float:
        nats, tokens = 0.0, 0
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=LIMIT, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                nats += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
        return nats / tokens

    before = loss(AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base))
    for _, row in run.table("forgetting").iterrows():
        after = loss(*tuned(run, row["trial"], AutoModelForCausalLM, base))
        assert (row["base_score"], row["tuned_score"]) == pytest.approx((before, after), rel=1e-5)
        assert row["forgetting"] == pytest.approx(after - before, abs=1e-5)
        assert abs(after - before) > 2e-3 and row["n"] == len(texts)


def rouge_l(reference: str, written: str) -> float:
    """F1 of the longest common subsequence of words; these words are too short to be stemmed, or are their own stem."""
    a, b = (re.sub(r"[^a-z0-9]+", " ", text.lower()).split() for text in (reference, written))
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    common = table[-1][-1]
    return 2 * common / (len(a) + len(b)) if common else 0.0


def test_rouge_is_that_of_a_plain_longest_common_subsequence(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "t5", "t5")
    drawn = random.Random(4)
    rows = [{"source": " ".join(drawn.choices(tiny.OTHER, k=drawn.randint(2, 9))),
             "target": " ".join(drawn.choices(tiny.OTHER[:6], k=drawn.randint(1, 6)))} for _ in range(60)]  # fmt: skip
    odd = [{"source": text, "target": 'W1, "w2" - w3!'} for text in ODD]
    files = {}
    for name, part in (("train", rows[:36]), ("validation", rows[36:42]), ("test", [*odd, *rows[42:]])):
        files[name] = str(tmp_path / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in part))
    task = {"path": files["train"], "validation": files["validation"], "test": files["test"]}
    run = run_sweep(
        {
            "base": base,
            "task": task,
            "heldout": [{"task": task, "measure": "rouge-l", "max_length": LIMIT, "max_new_tokens": 8}],
            "methods": [{"method": "full", "learning_rate": 2e-2}],
            "steps": 30,
            "batch_size": 6,
            "max_length": LIMIT,
            "trajectory": 0,
            "controls": False,
            "keep": "all",
        },
        tmp_path / "run",
        executor="inline",
    )
    [row] = run.table("forgetting").to_dict("records")
    model, tokenizer = tuned(run, row["trial"], AutoModelForSeq2SeqLM, base)
    scores = []
    for one in [*odd, *rows[42:]]:
        ids = tokenizer(one["source"])["input_ids"]
        if len(ids) > LIMIT:  # a prompt loses its middle
            ids = [*ids[: LIMIT - LIMIT // 2], *ids[-(LIMIT // 2) :]]
        written = model.generate(input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, num_beams=1)
        scores.append(rouge_l(one["target"], tokenizer.decode(written[0], skip_special_tokens=True)))
    assert 0.05 < sum(scores) / len(scores) < 0.95
    assert row["tuned_score"] == pytest.approx(sum(scores) / len(scores), abs=1e-9)
    assert row["n"] == len(scores)
