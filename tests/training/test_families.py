from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import processors
from torch.nn.functional import cross_entropy

from spectra.data import load_task
from spectra.errors import DataError, ModelError
from spectra.models import load_base
from spectra.training.driver import evaluate
from spectra.training.encoding import IGNORED
from spectra.training.families import FAMILIES, collator, encode, examples, family_of
from spectra.training.settings import TrainingSettings
from tests import tiny

CHAT = "{% for m in messages %}w0 {{ m['content'] }} w1{% endfor %}{% if add_generation_prompt %} w2{% endif %}"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {family: tiny.save_model(folder / family, family) for family in ("bert", "llama", "t5")}


def rows(*values: dict[str, Any]) -> Dataset:
    return Dataset.from_list(list(values))


def words(ids: list[int]) -> str:
    return tiny.tokenizer().decode(ids)


def test_the_model_decides_what_sources_and_targets_mean(models: dict[str, str]) -> None:
    assert family_of("seq2seq", models["t5"]) == "seq2seq"
    assert family_of("seq2seq", models["llama"]) == "instruction"
    assert family_of("causal-lm", models["llama"]) == "causal-lm"
    assert family_of("classification", models["llama"]) == "classification"


def test_an_encoder_decoder_is_not_trained_on_plain_texts(models: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="A t5 model is an encoder-decoder and cannot be trained on plain texts"):
        family_of("causal-lm", models["t5"])


def test_texts_are_joined_by_the_end_token_and_cut_into_blocks() -> None:
    encoded = examples(rows({"text": "good w1 w2"}, {"text": "bad w3 w4"}), "causal-lm", tiny.tokenizer(), 3)
    assert [words(row["input_ids"]) for row in encoded] == ["good w1 w2", "[EOS] bad w3", "w4 [EOS]"]
    assert encoded[0]["labels"] == encoded[0]["input_ids"]


def test_too_little_text_for_one_block_is_an_error() -> None:
    with pytest.raises(DataError, match=r"1 texts give no block of two tokens\. Give more text"):
        endless = tiny.tokenizer()
        endless.eos_token = None
        examples(rows({"text": "good"}), "causal-lm", endless, 8)


def test_the_loss_of_an_instruction_is_on_the_answer_alone() -> None:
    (row,) = examples(rows({"source": "w1 w2", "target": "good w3"}), "instruction", tiny.tokenizer(), 16)
    learned = [token for token in row["labels"] if token != IGNORED]
    assert words(learned) == "good w3 [EOS]"
    assert row["input_ids"][-3:] == learned
    assert row["labels"][:-3] == [IGNORED] * (len(row["labels"]) - 3)


def test_a_long_prompt_is_cut_and_the_answer_is_not() -> None:
    (row,) = examples(rows({"source": "w1 w2 w3 w4 w5 w6", "target": "good"}), "instruction", tiny.tokenizer(), 5)
    assert len(row["input_ids"]) == 5
    assert words([token for token in row["labels"] if token != IGNORED]) == "good [EOS]"
    assert words(row["input_ids"]).startswith("w1 w2 w6")


def test_a_chat_template_frames_the_prompt_even_when_it_is_cut() -> None:
    chatting = tiny.tokenizer()
    chatting.chat_template = CHAT
    whole, cut = (
        words(examples(rows({"source": "w5 w6 w7", "target": "good"}), "instruction", chatting, length)[0]["input_ids"])
        for length in (32, 7)
    )
    assert whole == "w0 w5 w6 w7 w1 w2 good [EOS]"
    assert cut == "w0 w5 w7 w1 w2 good [EOS]"


@pytest.mark.parametrize(
    ("source", "target", "length", "prompt", "answer", "lost"),
    [
        ("w1 w2 w3 w4 w5 w6", "good", 20, "w1 w2 w3 w4 w5 w6", "good [EOS]", 0),
        ("w1 w2 w3 w4 w5 w6", "good", 6, "w1 w2 w5 w6", "good [EOS]", 2),  # the answer is short: the prompt gives way
        ("w1", "w2 w3 w4 w5 w6 w7", 6, "w1", "w2 w3 w4 w5 w6", 2),  # the prompt is short: the answer does
        ("w1 w2 w3 w4 w5", "w6 w7 w8 w9 w10", 6, "w1 w2 w5", "w6 w7 w8", 5),  # each keeps half
    ],
)
def test_prompt_and_answer_each_keep_half_or_what_the_other_leaves(
    source: str, target: str, length: int, prompt: str, answer: str, lost: int
) -> None:
    encoded = encode(rows({"source": source, "target": target}), "instruction", tiny.tokenizer(), length)
    (row,) = encoded.examples
    learned = [token for token in row["labels"] if token != IGNORED]
    assert words(learned) == answer
    assert words(row["input_ids"]) == f"{prompt} {answer}"
    assert (encoded.cut.lost, encoded.cut.cut, encoded.cut.texts) == (lost, int(lost > 0), 1)


def test_a_token_that_closes_texts_stays_out_of_the_prompt() -> None:
    closing = tiny.tokenizer()
    closing.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [EOS]", special_tokens=[("[CLS]", 2), ("[EOS]", 4)]
    )
    (row,) = examples(rows({"source": "w1 w2", "target": "good"}), "instruction", closing, 16)
    assert words(row["input_ids"]) == "[CLS] w1 w2 good [EOS]"
    (pair,) = encode(rows({"source": "w1 w2 w3 w4 w5 w6", "target": "good"}), "seq2seq", closing, 6).examples
    assert words(pair["input_ids"]) == "[CLS] w1 w2 w5 w6 [EOS]"


def test_an_encoder_is_not_trained_on_next_tokens(models: dict[str, str]) -> None:
    for kind in ("causal-lm", "seq2seq"):
        with pytest.raises(ModelError, match="is a bert model, which reads a text in both directions"):
            family_of(kind, models["bert"])  # type: ignore[arg-type]


def test_what_is_cut_of_texts_is_counted() -> None:
    texts = rows({"text": "w1 w2 w3 w4", "label": 0}, {"text": "w1", "label": 1})
    cut = encode(texts, "classification", tiny.tokenizer(), 3).cut
    assert (cut.texts, cut.cut, cut.tokens, cut.lost) == (2, 1, 5, 1)
    assert cut.warnings("Task 't'") == [
        "Task 't': 1 of 2 texts (50.0%) do not fit into 3 tokens and were cut; 20.0% of all tokens are lost."
    ]


def test_the_score_of_a_language_model_is_the_mean_loss_of_its_tokens(models: dict[str, str], tmp_path: Path) -> None:
    task = load_task(tiny.save_answers(tmp_path / "answers.jsonl"))
    loaded = load_base(models["llama"], "causal-lm")
    given = TrainingSettings(models["llama"], "full", 1e-3, 0, steps=1, batch_size=3, max_length=16)
    measured = evaluate(loaded.model, loaded.tokenizer, task, "test", given)
    total = count = 0.0
    for row in examples(task.test, "instruction", loaded.tokenizer, 16):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        with torch.no_grad():
            logits = loaded.model(input_ids=ids).logits[0]
        kept = labels[1:] != IGNORED
        total += float(cross_entropy(logits[:-1][kept], labels[1:][kept], reduction="sum"))
        count += int(kept.sum())
    assert measured.metric == "negative loss"
    assert measured.score == pytest.approx(-total / count, rel=1e-5)
    assert measured.examples == len(task.test)


def test_the_score_of_an_encoder_decoder_is_that_of_its_own_loss(models: dict[str, str], tmp_path: Path) -> None:
    loaded = load_base(models["t5"], "seq2seq")
    encoded = examples(rows({"source": "w1 w2", "target": "good bad"}), "seq2seq", loaded.tokenizer, 16)
    batch = collator("seq2seq", loaded.tokenizer, loaded.model)(list(encoded))
    with torch.no_grad():
        output = loaded.model(**batch)
    ((likelihood, tokens),) = FAMILIES["seq2seq"].reduce(output.logits, batch["labels"]).tolist()
    assert -likelihood / tokens == pytest.approx(float(output.loss), rel=1e-5)


def test_pairs_of_texts_are_read_together() -> None:
    (row,) = examples(rows({"text": "good", "text_pair": "bad", "label": 1}), "classification", tiny.tokenizer(), 16)
    assert words(row["input_ids"]) == "good bad"
    assert row["labels"] == 1


@pytest.mark.parametrize(("family", "shift"), [("causal-lm", 1), ("seq2seq", 0)])
def test_the_likelihood_of_a_batch_is_that_of_all_probabilities_at_once(family: Any, shift: int) -> None:
    generator = torch.Generator().manual_seed(5)
    logits = 4 * torch.randn(7, 13, 301, generator=generator)
    labels = torch.randint(301, (7, 13), generator=generator)
    labels[2], labels[4, 5:] = IGNORED, IGNORED
    logits[1, 3] = -torch.inf
    logits[1, 3, labels[1, 3 + shift]] = 0.0
    ahead, truth = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
    probabilities = ahead.log_softmax(-1).gather(-1, truth.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    expected = torch.where(truth == IGNORED, 0.0, probabilities).sum(-1)
    found = FAMILIES[family].reduce(logits, labels)
    assert torch.equal(found[:, 0], expected)
    assert found[:, 1].tolist() == (truth != IGNORED).sum(-1).tolist() and found[2].tolist() == [0.0, 0.0]
