"""The assets' file formats, on a few lines written after them."""

from pathlib import Path

from spectra.data import asset_texts


def test_rated_sentences_are_read_from_latin_1(tmp_path: Path) -> None:
    (tmp_path / "movie_GroundTruth.txt").write_bytes(b"1\t2.25\tA caf\xe9 scene.\n2\t-0.5\tDull.\n")
    assert list(asset_texts.rated_sentences(tmp_path)) == [
        {"text": "A café scene.", "rating": 2.25},
        {"text": "Dull.", "rating": -0.5},
    ]


def test_articles_have_topic_headline_and_body(tmp_path: Path) -> None:
    (tmp_path / "tech").mkdir()
    (tmp_path / "tech" / "001.txt").write_bytes(b"Ink helps\n\nFirst.\n\nCost: \xa31.\n")
    assert list(asset_texts.news_articles(tmp_path)) == [
        {"topic": "tech", "headline": "Ink helps", "body": "First.\nCost: £1."}
    ]


def test_three_header_rows_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "r8.tab"
    file.write_text('Category\tText\nd\tstring\nclass\t\ntrade\tasian "exporters\n\n')
    assert list(asset_texts.labelled_lines(file)) == [{"text": 'asian "exporters', "label": "trade"}]


def test_brown_reads_as_prose_again(tmp_path: Path) -> None:
    (tmp_path / "ca01").write_text(
        "\n\tThe/at jury/nn said/vbd ``/`` no/at evidence/nn ''/'' (/( or/cc little/ap )/) ,/, 1//cd 2/cd ./.\n\n"
    )
    assert [row["text"] for row in asset_texts.brown_documents(tmp_path)] == [
        'The jury said "no evidence" (or little), 1/ 2.'
    ]


def test_glosses_follow_the_words_they_define(tmp_path: Path) -> None:
    licence = "  1 This software and database\n"
    noun = "00002137 03 n 02 abstraction 0 abstract_entity 0 002 @ 00001740 n 0000 + 00692347 v 0101 | a concept  \n"
    adjective = '00001740 00 a 01 galore(ip) 0 000 | in great numbers; "daisies galore"\n'
    for name, line in (("noun", noun), ("verb", ""), ("adj", adjective), ("adv", "")):
        (tmp_path / f"data.{name}").write_text(licence + line)
    assert [row["text"] for row in asset_texts.glosses(tmp_path)] == [
        "abstraction, abstract entity: a concept",
        'galore: in great numbers; "daisies galore"',
    ]
