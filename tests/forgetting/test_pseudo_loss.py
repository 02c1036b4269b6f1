"""Pseudo-loss against an independent computation, and the graft of a tuned body under a pre-trained head."""

import numpy as np
import pytest
import small_models as small
import torch

from spectra.errors import ModelError
from spectra.forgetting import measure, under_pretrained_head


def reference_losses(model: torch.nn.Module, text: str) -> list[float]:
    """-ln p of each word, from a text of its own in which it is masked."""
    ids = small.tokenizer(framed=True)(text)["input_ids"]
    losses = []
    for t in range(1, len(ids) - 1):
        masked = [*ids[:t], 4, *ids[t + 1 :]]
        with torch.no_grad():
            probabilities = model(input_ids=torch.tensor([masked])).logits[0, t].double().softmax(0)
        losses.append(-float(probabilities[ids[t]].log()))
    return losses


def test_the_loss_equals_an_independent_computation_word_by_word() -> None:
    model, task = small.masked_bert(), small.prose(8, measure="pseudo-loss")
    scores = measure(model, small.tokenizer(framed=True), task, batch_size=7)
    expected = [reference_losses(model, text) for text in task.test_texts()]
    np.testing.assert_allclose(scores.values, [np.mean(losses) for losses in expected], rtol=1e-5)
    assert scores.weights.tolist() == [len(losses) for losses in expected]
    assert scores.loss == pytest.approx(np.mean(np.concatenate(expected)), rel=1e-5)


def test_a_grafted_body_is_judged_by_the_pretrained_head_and_taken_back() -> None:
    pretrained, tuned = small.masked_bert(), small.classifying_bert(seed=3)
    own, decoder = pretrained.bert, pretrained.cls.predictions.decoder.weight
    ids = torch.tensor([[2, 10, 4, 12, 3]])
    with torch.no_grad(), under_pretrained_head(pretrained, tuned) as grafted:
        logits = grafted(input_ids=ids).logits
        expected = pretrained.cls(tuned.bert(input_ids=ids)[0])
    assert torch.equal(logits, expected)
    assert pretrained.bert is own and pretrained.cls.predictions.decoder.weight is decoder


def test_an_adapter_stays_on_the_body_that_is_grafted() -> None:
    task, words = small.prose(4, measure="pseudo-loss"), small.tokenizer(framed=True)
    pretrained = small.masked_bert()
    tuned = small.classifying_bert()
    tuned.bert.load_state_dict(pretrained.bert.state_dict(), strict=False)
    adapted = small.with_lora(tuned, targets=["query", "value"], task_type="SEQ_CLS")
    base = measure(pretrained, words, task)
    with under_pretrained_head(pretrained, adapted) as grafted:
        switched_on = measure(grafted, words, task)
        with adapted.disable_adapter():
            switched_off = measure(grafted, words, task)
    assert switched_on.adapters == ("default",) and switched_off.adapters == ()
    assert np.abs(switched_on.values - base.values).max() > 1e-3
    assert np.array_equal(switched_off.values, base.values)


def test_a_body_of_another_family_is_refused() -> None:
    with (
        pytest.raises(ModelError, match="does not fit under BertForMaskedLM"),
        under_pretrained_head(small.masked_bert(), small.llama()),
    ):
        pass


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    words = small.tokenizer()
    words.mask_token = None
    with pytest.raises(ModelError, match=r"has no mask token\. Use lm-loss"):
        measure(small.masked_bert(), words, small.prose(measure="pseudo-loss"))
