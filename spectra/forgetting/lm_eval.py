"""Tasks of the lm-evaluation-harness: run on a loaded model, or read from the samples of an earlier run."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from spectra.errors import DataError, needs
from spectra.forgetting.held_out import HeldOut
from spectra.models import Model
from spectra.statistics.scores import Scores, fingerprint


def lm_eval_scores(model: Model, tokenizer: PreTrainedTokenizerBase, held_out: HeldOut, *, batch_size: int) -> Scores:
    """1 - metric of each document of a harness task, zero-shot unless the task says otherwise.

    The task is a name that the installed harness knows, or the path of a task's YAML file (named after the task),
    whose data may be local.

    Raises:
        DataError: If the harness is not installed, or the task lacks the metric.

    Source: the lm-evaluation-harness (Gao et al., zenodo.10256836), `simple_evaluate`.
        Difference: its per-document values are kept, so that models are paired document by document.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise DataError(needs(f"Task '{held_out.name}'", "lm-eval", "lm-eval")) from error
    path = Path(held_out.lm_eval_task)
    is_file = path.suffix in {".yaml", ".yml"}
    task = path.stem if is_file else held_out.lm_eval_task
    plain = model.get_base_model() if isinstance(model, PeftModel) else model  # adapter layers stay inside
    outcome = simple_evaluate(
        model=HFLM(pretrained=plain, tokenizer=tokenizer, batch_size=batch_size),
        tasks=[task],
        task_manager=TaskManager(include_path=str(path.parent) if is_file else None),
        limit=held_out.limit,
        log_samples=True,
        bootstrap_iters=0,
    )
    return scores_of_samples(outcome["samples"][task], held_out.name, held_out.lm_eval_metric)


def read_lm_eval(path: Path, *, task: str, metric: str = "acc") -> Scores:
    """The scores of an earlier run of the harness with `--log_samples`.

    Args:
        path: Its output folder, or one `samples_TASK_*.jsonl` file; of several runs in a folder the last counts.
        task: Name of the task.
        metric: Name of a per-document metric that is better when larger, such as "acc" or "exact_match".

    Raises:
        DataError: If there are no samples of the task: totals alone cannot be paired.

    Source: the lm-evaluation-harness (Gao et al., zenodo.10256836), its samples files.
        Difference: none.
    """
    files = [path] if path.is_file() else sorted(path.rglob(f"samples_{task}_[0-9]*.jsonl"), key=lambda file: file.name)
    if not files:
        raise DataError(
            f"'{path}' holds no samples_{task}_*.jsonl; totals alone cannot be paired. "
            "Run the harness again with --log_samples."
        )
    samples = []
    for number, line in enumerate(files[-1].read_text(encoding="utf-8").splitlines(), start=1):
        try:
            samples.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(f"'{files[-1]}', line {number} is no JSON: {error.msg}. Run the harness again.") from error
    return scores_of_samples(samples, f"lm-eval:{task}", metric)


def scores_of_samples(samples: Iterable[Mapping[str, Any]], name: str, metric: str) -> Scores:
    """Per-document losses of a task, ordered by document; of several filters the first counts."""
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    first_filter = [sample for sample in ordered if sample.get("filter") == ordered[0].get("filter")]
    if not ordered or not all(isinstance(sample.get(metric), int | float) for sample in first_filter):
        offered = ", ".join(ordered[0].get("metrics", ())) if ordered else "no documents"
        raise DataError(
            f"The samples of '{name}' have no number '{metric}' (they have {offered}). Name another metric."
        )
    values = 1 - np.array([float(sample[metric]) for sample in first_filter])
    identities = [[sample["doc_id"], sample.get("doc_hash"), sample.get("prompt_hash")] for sample in first_filter]
    return Scores(
        task=name,
        metric="lm-eval",
        unit=f"1 - {metric}",
        values=values,
        weights=np.ones_like(values),
        score_name=metric,
        score=float(1 - values.mean()),
        fingerprint=fingerprint({"measure": "lm-eval", "metric": metric}, identities),
    )
