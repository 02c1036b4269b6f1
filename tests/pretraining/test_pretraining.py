"""Recipes on made-up languages: from random weights to a model that resolves by its name, in seconds."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import torch

from spectra.assets import asset, fetch, fetched
from spectra.data import TASKS, load_task, register_task, task_from_rows
from spectra.errors import AssetError, DestinationError
from spectra.models import load_base
from spectra.pretraining import RECIPES, Recipe, Source, make, recipe_of
from spectra.pretraining.start import byte_level_tokenizer
from spectra.pretraining.texts import joined

WORDS = [f"word{number}" for number in range(30)]


def sentences(seed: int, rows: int) -> list[dict[str, str]]:
    drawn = random.Random(seed)
    return [{"text": " ".join(drawn.choices(WORDS[seed : seed + 6], k=12)) + f" {row}"} for row in range(rows)]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    for name, seed in (("first language", 0), ("second language", 10)):
        if name not in TASKS:
            rows = sentences(seed, 90)
            register_task(
                name,
                lambda rows=rows, name=name: task_from_rows(
                    name, "causal-lm", train=rows[:60], validation=rows[60:70], test=rows[70:]
                ),
            )
    return Recipe(
        "tiny-lm",
        (Source("first language", 5, 10), Source("second language", 5, 10)),
        vocabulary=300,
        hidden_size=16,
        intermediate_size=32,
        layers=1,
        heads=2,
        steps=10,
        batch_size=4,
        max_length=32,
        learning_rate=1e-2,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_base(str(folder), "causal-lm").model.state_dict()


def test_a_model_that_was_made_resolves_by_its_name_and_has_a_card(recipe: Recipe) -> None:
    assert fetched("tiny-lm") is None
    folder = make("tiny-lm", recipe=recipe)
    assert fetch("tiny-lm") == folder
    assert load_base("tiny-lm", "causal-lm").model.num_parameters() < 10_000
    card = json.loads((folder / "card.json").read_text())
    assert card["command"] == "spectra assets make tiny-lm"
    assert card["texts"] == 120 and set(card["held_out"]) == {"first language", "second language"}
    curve = [row["loss"] for row in card["history"] if "loss" in row]
    assert curve[-1] < curve[0]
    assert [row["validation_score"] for row in card["history"] if "validation_score" in row]
    text = (folder / "README.md").read_text()
    for source in recipe.sources:
        assert f"{card['held_out'][source.task]['loss']:.3f}" in text
    assert make("tiny-lm", recipe=recipe, on_step=lambda step, steps: pytest.fail("it was there already")) == folder


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights(make("tiny-lm", tmp_path / "whole", recipe=recipe))
    monkeypatch.setattr("spectra.pretraining.pretrain.SAVE_SECONDS", 0.0)
    seen: list[int] = []

    def cut_off(step: int, steps: int) -> None:
        seen.append(step)
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("tiny-lm", tmp_path / "resumed", recipe=recipe, on_step=cut_off)
    assert not (tmp_path / "resumed").exists()
    resumed = make("tiny-lm", tmp_path / "resumed", recipe=recipe, on_step=lambda step, steps: seen.append(step))
    assert seen == [*range(1, 7), *range(6, 11)]
    for name, value in weights(resumed).items():
        assert torch.equal(value, whole[name]), name


def test_another_recipe_does_not_go_on_with_the_checkpoints_of_this_one(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra.pretraining.pretrain.SAVE_SECONDS", 0.0)

    def cut_off(step: int, steps: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("tiny-lm", recipe=recipe, on_step=cut_off)
    seen: list[int] = []
    wider = dataclasses.replace(recipe, hidden_size=20)
    make("tiny-lm", recipe=wider, on_step=lambda step, steps: seen.append(step))
    assert seen == [*range(1, 11)]


def test_a_folder_with_something_else_in_it_is_not_replaced(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years")
    with pytest.raises(DestinationError, match="is no base model that spectra wrote"):
        make("tiny-lm", tmp_path / "mine", recipe=recipe, force=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "three years"


def test_nothing_that_is_measured_on_is_learnt(recipe: Recipe) -> None:
    tasks = {source.task: load_task(source.task) for source in recipe.sources}
    learnt = set(joined(recipe, tasks).train["text"])
    for task in tasks.values():
        assert not learnt & {*task.validation["text"], *task.test["text"]}


def test_the_tokenizer_is_the_same_twice_and_writes_any_text() -> None:
    texts = [row["text"] for row in sentences(0, 60)]
    one, two = (byte_level_tokenizer(texts, 290) for _ in range(2))
    assert one.get_vocab() == two.get_vocab()
    strange = "def f(x):\n\treturn 'naïve – 数' # word3"
    assert one.decode(one(strange)["input_ids"]) == strange


def test_too_few_texts_for_the_vocabulary_are_refused(recipe: Recipe) -> None:
    with pytest.raises(AssetError, match=r"give \d+ tokens of the 4000 .* smaller vocabulary"):
        make("tiny-lm", recipe=dataclasses.replace(recipe, vocabulary=4000))


def test_what_has_no_recipe_is_refused() -> None:
    with pytest.raises(AssetError, match="Run `spectra assets fetch bbc-news`"):
        make("bbc-news")
    with pytest.raises(AssetError, match=r"There is no asset 'tiny-ml'.*Did you mean 'tiny-lm'"):
        make("tiny-ml")
    with pytest.raises(AssetError, match=r"comes with this package\. Name a folder with --out"):
        make("demo-lm")


def test_a_model_that_was_not_made_yet_says_how() -> None:
    with pytest.raises(AssetError, match="Run `spectra assets make tiny-lm`"):
        fetch("tiny-lm")


def test_the_model_that_comes_with_the_package_is_small_and_was_made_by_its_recipe() -> None:
    folder = fetch("demo-lm")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10_000_000
    card = json.loads((folder / "card.json").read_text())
    assert card["recipe"] == json.loads(json.dumps(dataclasses.asdict(recipe_of("demo-lm"))))
    assert set(card["licences"].values()) == {"WordNet licence", "PSF-2.0"}


def test_every_recipe_is_an_asset_that_is_made_or_shipped() -> None:
    assert {asset(name).source for name in RECIPES} == {"made", "shipped"}
