"""Results of the lm-evaluation-harness, read from samples files written after its own."""

import importlib.util
import json
from pathlib import Path

import pytest
import small_models as small

from spectra.errors import DataError
from spectra.forgetting import forgetting, measure
from spectra.forgetting.held_out import HeldOut
from spectra.forgetting.lm_eval import read_lm_eval


def write_samples(folder: Path, right: list[float], *, date: str = "2025-01-01T00-00-00.0", prompt: str = "p") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "doc_id": i,
            "doc_hash": f"d{i}",
            "prompt_hash": f"{prompt}{i}",
            "filter": "none",
            "metrics": ["acc"],
            "acc": a,
        }
        for i, a in reversed(list(enumerate(right)))
    ]
    file = folder / f"samples_hellaswag_{date}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_samples_are_paired_document_by_document(tmp_path: Path) -> None:
    write_samples(tmp_path / "base" / "model", [1.0, 1.0, 0.0, 1.0])
    write_samples(tmp_path / "tuned" / "model", [1.0, 0.0, 0.0, 0.0])
    base, tuned = (read_lm_eval(tmp_path / name, task="hellaswag") for name in ("base", "tuned"))
    assert (base.score, base.values.tolist()) == (0.75, [0.0, 0.0, 1.0, 0.0])
    result = forgetting(base, tuned)
    assert (result.forgetting, result.base_score, result.tuned_score) == (0.5, 0.75, 0.25)


def test_the_last_run_in_a_folder_counts(tmp_path: Path) -> None:
    write_samples(tmp_path, [0.0])
    write_samples(tmp_path, [1.0], date="2025-02-01T00-00-00.0")
    assert read_lm_eval(tmp_path, task="hellaswag").score == 1.0


def test_runs_with_other_prompts_are_not_paired(tmp_path: Path) -> None:
    files = [write_samples(tmp_path / prompt, [1.0], prompt=prompt) for prompt in ("a", "b")]
    with pytest.raises(DataError, match="different examples, truncation or settings"):
        forgetting(*(read_lm_eval(file, task="hellaswag") for file in files))


def test_totals_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results_2025.json").write_text('{"results": {"hellaswag": {"acc,none": 0.5}}}')
    with pytest.raises(DataError, match=r"holds no samples_hellaswag_\*\.jsonl; totals alone cannot be paired"):
        read_lm_eval(tmp_path, task="hellaswag")


def test_an_absent_metric_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"have no number 'exact_match' \(they have acc\)\. Name another metric\."):
        read_lm_eval(write_samples(tmp_path, [1.0]), task="hellaswag", metric="exact_match")


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="the harness is installed")
def test_running_without_the_harness_says_how_to_get_it() -> None:
    task = HeldOut(name="lm-eval:hellaswag", measure="lm-eval", lm_eval_task="hellaswag")
    with pytest.raises(DataError, match=r"which is not installed\. Run `pip install 'lora-spectra\[lm-eval\]'`\."):
        measure(small.llama(), small.tokenizer(), task)


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="the harness is not installed")
def test_a_local_task_of_the_harness_runs_on_a_loaded_model(tmp_path: Path) -> None:
    rows = [{"text": text, "gold": i % 2} for i, text in enumerate(small.texts(8))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mood.yaml").write_text(
        f"task: mood\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{text}}'\ndoc_to_target: gold\n"
        "doc_to_choice: [bad, good]\nmetric_list:\n  - metric: acc\n"
    )
    path = str(tmp_path / "mood.yaml")
    task = HeldOut(name="lm-eval:mood", measure="lm-eval", lm_eval_task=path)
    first, second = (measure(small.llama(), small.tokenizer(), task) for _ in range(2))
    assert len(first.values) == 8 and set(first.values) <= {0.0, 1.0}
    assert forgetting(first, second).forgetting == 0.0
