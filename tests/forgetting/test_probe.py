"""Probes: mean pooling against a plain computation, and what a probe must and must not see."""

import numpy as np
import pytest
import small_models as small
import torch

from spectra.errors import DataError
from spectra.forgetting import measure, measure_all
from spectra.forgetting.probe import mean_pooled


def test_features_are_the_mean_over_real_tokens_whatever_the_padding() -> None:
    model, words = small.classifying_bert(), small.tokenizer(framed=True)
    ids = words(small.texts(6))["input_ids"]
    expected = []
    for tokens in ids:
        with torch.no_grad():
            expected.append(model.bert(input_ids=torch.tensor([tokens]))[0][0].numpy().mean(0))
    with torch.no_grad():
        found = mean_pooled(model, words, ids, batch_size=4)
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32 in another order


def test_features_do_not_depend_on_the_head() -> None:
    words, ids = small.tokenizer(framed=True), [[2, 9, 8, 3], [2, 7, 3]]
    model, other = small.classifying_bert(), small.masked_bert(seed=7)
    other.bert.load_state_dict(model.bert.state_dict(), strict=False)
    with torch.no_grad():
        assert np.array_equal(
            mean_pooled(model, words, ids, batch_size=2), mean_pooled(other, words, ids, batch_size=2)
        )


def test_an_encoder_decoder_is_probed_at_its_encoder() -> None:
    model, ids = small.t5(), [[9, 8, 5], [7, 5]]
    with torch.no_grad():
        found = mean_pooled(model, small.tokenizer(), ids, batch_size=1)
        expected = model.get_encoder()(input_ids=torch.tensor([ids[0]]))[0][0].mean(0)
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["linear-probe", "nearest-neighbour"])
def test_a_probe_finds_a_label_that_stands_in_the_text(kind: str) -> None:
    task = small.sentiment(kind, n=120)
    scores = measure(small.classifying_bert(), small.tokenizer(framed=True), task)
    assert scores.score > 0.8  # chance is 0.5; the label stands in the text four times
    assert scores.score == pytest.approx(1 - scores.values.mean())
    assert set(np.unique(scores.values)) <= {0.0, 1.0}


def test_labels_drawn_at_random_cannot_be_found() -> None:
    task = small.sentiment("linear-probe", n=200)
    data = task.task_data()
    drawn = np.random.default_rng(0).integers(0, 2, 200).tolist()
    blind = small.HeldOut(
        name=task.name,
        measure="linear-probe",
        data=small.TaskData(
            "blind", "classification", data.train.remove_columns("label").add_column("label", drawn),
            data.validation, data.test, data.label_names, "blind", "test",
        ),
    )  # fmt: skip
    scores = measure(small.classifying_bert(), small.tokenizer(framed=True), blind)
    assert 0.35 < scores.score < 0.65  # 200 fair coins: 0.5 +- 4 standard errors of 0.035


def test_two_probes_of_one_task_share_the_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, words = small.classifying_bert(), small.tokenizer(framed=True)
    tasks = [small.sentiment(kind) for kind in ("linear-probe", "nearest-neighbour")]
    apart = [measure(model, words, task) for task in tasks]
    passes = []
    model.bert.register_forward_hook(lambda *_: passes.append(1))
    together = measure_all(model, words, tasks)
    assert len(passes) == 4  # 60 texts in batches of 16, once
    for one, other in zip(apart, together, strict=True):
        assert np.array_equal(one.values, other.values)


def test_a_task_without_labels_is_answered_with_the_measure_that_fits() -> None:
    with pytest.raises(
        DataError, match=r"Task 'prose' is of kind causal-lm, which 'linear-probe' .*Use 'prose:lm-loss'"
    ):
        measure(small.masked_bert(), small.tokenizer(), small.prose(measure="linear-probe"))
