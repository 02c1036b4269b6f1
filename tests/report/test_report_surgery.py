"""The page of an adapter that was cut or merged: its first screen agrees with its record and its tables."""

from pathlib import Path

import pytest
from document import Document
from fabricated_surgery import FOLDER, merge, reduction

from spectra.report.surgery_page import write_surgery_report


def test_the_page_of_a_smaller_adapter_opens_on_what_it_keeps(tmp_path: Path) -> None:
    document = Document(write_surgery_report(reduction(), tmp_path / "page.html"))
    # 1 - (1.5² + 1² + .6² + .3² + .1²) / (4² + 3² + 2² + 1.5² + 1² + .6² + .3² + .1²)
    for tile in ("Rank 3 in 4 matrices", "Energy kept 88.7 %", "Left out 0.337", "original 12", "written 6"):
        assert tile in " ".join(document.text.split())
    assert [text for text, _ in document.column("reduced", "Energy kept")] == ["88.7 %"] * 4
    assert "my-adapter → smaller" in document.text and f"{FOLDER}/my-adapter → " not in document.text
    assert "Spearman" not in document.text  # a definition that this page does not need


@pytest.mark.parametrize(("reinforced", "tile"), [(False, "Energy cancelled 56.7 %"), (True, "Energy added 49.7 %")])
def test_the_page_of_a_merge_opens_on_its_intruders_and_energy(tmp_path: Path, reinforced: bool, tile: str) -> None:
    document = Document(write_surgery_report(merge(reinforced=reinforced), tmp_path / "page.html"))
    assert "Merge of first and second" in document.text
    words = " ".join(document.text.split())
    assert "Intruder dimensions of the merge 18 6 and 12 in the single adapters" in words and tile in words
    shares = [text for text, _ in document.column("merged", "Cancelled")]
    assert all(text.startswith("−" if reinforced else ("5", "6")) for text in shares)
