"""Readers of the assets' own file formats: plain rows out, nothing decided about tasks."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from spectra.data.rows import Row

# Brown writes quotation marks as in TeX and separates punctuation by spaces.
_NO_SPACE_BEFORE = re.compile(r" (?=[.,;:?!)\]%]|''|'s\b)")
_NO_SPACE_AFTER = re.compile(r"(?<=[(\[$]) |(?<=``) ")


def rated_sentences(folder: Path) -> Iterator[Row]:
    """Sentences with a mean rating: lines of id, rating and text, separated by tabs, in Latin-1."""
    (file,) = folder.glob("*_GroundTruth.txt")
    for line in filter(None, file.read_text(encoding="latin-1").split("\n")):
        _, rating, text = line.split("\t", 2)
        yield {"text": text.strip(), "rating": float(rating)}


def news_articles(folder: Path) -> Iterator[Row]:
    """BBC articles: topic (the folder's name), headline (the first line) and body."""
    for path in sorted(folder.glob("*/*.txt")):
        content = path.read_bytes()
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:  # one article of 2,225 is in Latin-1
            text = content.decode("latin-1")
        headline, _, body = text.strip().partition("\n")
        yield {"topic": path.parent.name, "headline": headline.strip(), "body": _paragraphs(body)}


def labelled_lines(file: Path) -> Iterator[Row]:
    """Orange's tab files: three header rows, then class and text."""
    for line in file.read_text(encoding="utf-8").split("\n")[3:]:
        label, _, text = line.partition("\t")
        if text.strip():
            yield {"text": text.strip(), "label": label}


def brown_documents(folder: Path) -> Iterator[Row]:
    """Brown's documents as running prose: tags dropped, quotation marks and spacing restored."""
    for path in sorted(folder.glob("c[a-r][0-9][0-9]")):
        paragraphs = []
        for line in path.read_text(encoding="utf-8").split("\n"):
            words = [token.rpartition("/")[0] for token in line.split()]
            if words:
                sentence = _NO_SPACE_AFTER.sub("", _NO_SPACE_BEFORE.sub("", " ".join(words)))
                paragraphs.append(sentence.replace("``", '"').replace("''", '"'))
        yield {"text": " ".join(paragraphs)}


def glosses(folder: Path) -> Iterator[Row]:
    """WordNet's definitions, each after the words it defines: "abstraction, abstract entity: a general concept ..."."""
    for name in ("data.noun", "data.verb", "data.adj", "data.adv"):
        for line in (folder / name).read_text(encoding="latin-1").split("\n"):
            if line and not line.startswith("  "):  # the licence stands in indented lines
                facts, _, gloss = line.partition(" | ")
                yield {"text": f"{', '.join(_lemmas(facts))}: {gloss.strip()}"}


def json_lines(folder: Path) -> Iterator[Row]:
    """The standard library's texts."""
    with (folder / "texts.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            yield {"text": json.loads(line)["text"]}


def _lemmas(facts: str) -> list[str]:
    # offset, file number, type, number of words in hexadecimal, then pairs of word and sense; adjectives add "(a)"
    fields = facts.split()
    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    return [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words]


def _paragraphs(text: str) -> str:
    return "\n".join(line.strip() for line in text.split("\n") if line.strip())
