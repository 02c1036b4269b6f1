"""Label likelihood and ROUGE-L: against plain computations, for causal and encoder-decoder models."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import small_models as small
import torch

from spectra.errors import DataError, ModelError
from spectra.forgetting import measure
from spectra.forgetting.answers import prompts


def test_the_instruction_survives_the_cut() -> None:
    ids, cut = prompts(small.tokenizer(), ["w1 w2 w3 w4", "w5"], " answer:", 2, seq2seq=False)
    assert small.tokenizer().batch_decode(ids) == ["w1 w4 answer:", "w5 answer:"]
    assert (cut.cut, cut.texts, cut.lost) == (1, 2, 2)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_causal_model_chooses_the_label_it_finds_likeliest(batch_size: int) -> None:
    model, words = small.llama(), small.tokenizer()
    task = small.sentiment("label-likelihood", instruction=" answer:")
    scores = measure(model, words, task, batch_size=batch_size)
    rows = task.test_rows()
    expected = []
    for text, label in zip(rows["text"], rows["label"], strict=True):
        ids = words(f"{text} answer:")["input_ids"]
        with torch.no_grad():
            last = model(input_ids=torch.tensor([ids])).logits[0, -1]
        names = words.convert_tokens_to_ids(["bad", "good"])
        expected.append(float(int(last[names].argmax()) != label))
    assert scores.values.tolist() == expected
    assert 0 < sum(expected) < len(expected)  # both outcomes occur, or this test could not fail


def test_both_texts_of_a_pair_stand_in_the_prompt() -> None:
    task = small.sentiment("label-likelihood", n=6, instruction=" answer:")
    data = task.task_data()
    pairs = data.test.add_column("text_pair", [f"w{number} w7" for number in range(6)])
    joined = data.test.map(lambda row, number: {"text": f"{row['text']} w{number} w7"}, with_indices=True)
    asked, plain = (replace(task, data=replace(data, test=rows)) for rows in (pairs, joined))
    assert asked.test_texts()[1] == f"{data.test['text'][1]}\nw1 w7"
    assert measure(small.llama(), small.tokenizer(), asked).details == pytest.approx(
        measure(small.llama(), small.tokenizer(), plain).details  # this tokenizer takes a new line for a space
    )


def test_an_encoder_decoder_writes_the_label() -> None:
    model, words = small.t5(), small.tokenizer()
    task = small.sentiment("label-likelihood", instruction=" answer:")
    scores = measure(model, words, task, batch_size=8)
    rows = task.test_rows()
    expected = []
    for text, label in zip(rows["text"], rows["label"], strict=True):
        ids = torch.tensor([words(f"{text} answer:")["input_ids"]])
        with torch.no_grad():
            first = model(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
        expected.append(float(int(first[words.convert_tokens_to_ids(["bad", "good"])].argmax()) != label))
    assert scores.values.tolist() == expected


@pytest.mark.parametrize("build", [small.llama, small.t5])
def test_labels_of_several_words_are_scored_word_by_word(build: Any) -> None:
    model, words = build(), small.tokenizer()
    task = small.sentiment("label-likelihood", instruction=" answer:")
    names = ("w1_w2", "w1_w3_w4", "w5")
    named = replace(task, data=replace(task.task_data(), label_names=names))
    expected = []
    for row in named.test_rows():
        context = words(f"{row['text']} answer:")["input_ids"]  # type: ignore[call-overload,index]
        sums = []
        for name in names:
            answer, total = words(name.replace("_", " "))["input_ids"], 0.0
            for t, token in enumerate(answer):
                with torch.no_grad():
                    if model.config.is_encoder_decoder:
                        before = torch.tensor([[0, *answer[:t]]])
                        logits = model(input_ids=torch.tensor([context]), decoder_input_ids=before).logits
                    else:
                        logits = model(input_ids=torch.tensor([[*context, *answer[:t]]])).logits
                total += float(logits[0, -1].log_softmax(0)[token])
            sums.append(total)
        expected.append(float(int(np.argmax(sums)) != row["label"]))  # type: ignore[call-overload,index]
        last = sums[row["label"]]  # type: ignore[call-overload,index]
    scores = measure(model, words, named, batch_size=4)
    assert scores.values.tolist() == expected
    only = replace(named, data=replace(named.task_data(), test=named.test_rows().select([len(expected) - 1])))
    assert measure(model, words, only).details["nats_per_true_label"] == pytest.approx(-last, rel=1e-4)


@pytest.mark.parametrize("build", [small.llama, small.t5])
def test_rouge_compares_greedy_generations_with_the_references(build: Any) -> None:
    model, words = build(), small.tokenizer()
    written = [_greedy(model, words, text) for text in small.texts(6)]
    task = small.summaries(
        max_new_tokens=6, instruction=" answer:", targets=[f"{text} and one two" for text in written]
    )
    scores = measure(model, words, task, batch_size=4)
    assert any(written)
    for value, text in zip(scores.values, written, strict=True):
        n = len(text.split())  # all n words are found in a reference of n + 3:  P = 1, R = n / (n + 3)
        assert value == pytest.approx(1 - 2 * n / (2 * n + 3))
    assert scores.score == pytest.approx(1 - scores.loss)


def _greedy(model: Any, words: Any, source: str) -> str:
    """Six steps of argmax on one text, without cache or padding."""
    seq2seq = model.config.is_encoder_decoder
    context = words(source if seq2seq else f"{source} answer:")["input_ids"]
    output = [0] if seq2seq else list(context)
    start = len(output)
    for _ in range(6):
        with torch.no_grad():
            if seq2seq:
                logits = model(input_ids=torch.tensor([context]), decoder_input_ids=torch.tensor([output])).logits
            else:
                logits = model(input_ids=torch.tensor([output])).logits
        output.append(int(logits[0, -1].argmax()))
        if output[-1] == 5:
            break
    return cast(str, words.decode(output[start:], skip_special_tokens=True))


def test_an_encoder_cannot_generate() -> None:
    with pytest.raises(ModelError, match="needs a generative model, but BertForSequenceClassification has no"):
        measure(small.classifying_bert(), small.tokenizer(), small.sentiment("label-likelihood"))


def test_rouge_needs_references() -> None:
    with pytest.raises(DataError, match="of kind causal-lm, which 'rouge-l' cannot score"):
        measure(small.llama(), small.tokenizer(), small.prose(measure="rouge-l"))


def test_generations_repeat_themselves() -> None:
    model, words, task = small.t5(), small.tokenizer(), small.summaries(max_new_tokens=4)
    first, second = (measure(model, words, task) for _ in range(2))
    assert np.array_equal(first.values, second.values)
