"""The card of a pre-trained model: `card.json` for programs and README.md for people, from the same figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spectra.assets import asset
from spectra.pretraining.recipe import Recipe
from spectra.storage.atomic import write_json, write_text


@dataclass(frozen=True)
class Card:
    """What a model is made of and how well it predicts.

    Attributes:
        recipe: How it was trained.
        parameters: Numbers of the model, tied ones counted once.
        texts: Texts that it learnt from.
        fingerprints: SHA-256 of each source's rows.
        tokens: Tokens that it was trained on, repetitions counted.
        seconds: Time in optimiser steps, over all resumptions.
        threads: Of the process; another number may give other roundings.
        history: The loss curve: step, learning rate, training loss, validation score (the negative loss).
        held_out: Loss in nats per token on texts that were kept apart, by source.
        versions: Of the packages.
        hardware: Of the machine.
        commit: Of the code, where it is known.
    """

    recipe: Recipe
    parameters: int
    texts: int
    fingerprints: Mapping[str, str]
    tokens: int
    seconds: float
    threads: int
    history: Sequence[Mapping[str, Any]]
    held_out: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    commit: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "command": self.command, "licences": self.licences}

    @property
    def command(self) -> str:
        """The command that makes the model again."""
        return f"spectra assets make {self.recipe.name}" + (
            "" if asset(self.recipe.name).source == "made" else " --out FOLDER"
        )

    @property
    def licences(self) -> dict[str, str]:
        """Of the texts, by source."""
        return {source.task: source.licence for source in self.recipe.sources}


def write_card(card: Card, folder: Path) -> None:
    """Write `card.json`, README.md and `origin.json` beside the model."""
    entry = asset(card.recipe.name)
    write_text(folder / "README.md", readme(card))
    write_json(
        folder / "origin.json",
        {
            "asset": entry.name,
            "package": entry.package,
            "version": entry.version,
            "sha256": None,
            "licence": entry.licence,
            "description": entry.description,
        },
    )
    write_json(folder / "card.json", card.to_dict())


def readme(card: Card) -> str:
    """The card as Markdown."""
    recipe = card.recipe
    sources = [
        f"| {source.task} | {card.licences[source.task]} | {card.held_out[source.task]['loss']:.3f} "
        f"| {card.held_out[source.task]['texts']} |"
        for source in recipe.sources
    ]
    curve = [
        f"| {row['step']} | {_figure(row, 'loss')} | {_figure(row, 'validation_score', -1)} |" for row in card.history
    ]
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            f"A Llama of {card.parameters / 1e6:.1f} M parameters ({recipe.layers} layers, {recipe.hidden_size} wide, "
            f"{recipe.vocabulary} tokens, tied embeddings), pre-trained for {recipe.steps} steps of "
            f"{recipe.batch_size} x {recipe.max_length} tokens ({card.tokens / 1e6:.1f} M) on {card.texts:,} texts: "
            "the train splits of the tasks below. It is a base for experiments on fine-tuning and writes no useful "
            "text.",
            "",
            "| texts | licence | loss on its test split (nats per token) | texts measured |",
            "|---|---|---|---|",
            *sources,
            "",
            f"Made by `{card.command}` with {card.threads} thread(s) in {card.seconds / 60:.0f} minutes of optimiser "
            "steps. Recipe, versions, machine and fingerprints of the texts: `card.json`.",
            "",
            "| step | training loss | validation loss |",
            "|---|---|---|",
            *curve,
            "",
        ]
    )


def _figure(row: Mapping[str, Any], name: str, sign: int = 1) -> str:
    return f"{sign * row[name]:.3f}" if row.get(name) is not None else ""
