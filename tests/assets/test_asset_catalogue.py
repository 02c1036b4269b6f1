import pytest

from spectra.assets import asset, catalogue
from spectra.errors import AssetError


def test_names_are_unique_and_every_package_file_has_a_checksum() -> None:
    names = [entry.name for entry in catalogue()]
    assert len(set(names)) == len(names)
    for entry in catalogue():
        assert (entry.sha256 is None) == (entry.source in ("standard library", "made", "shipped"))
        assert entry.licence and entry.description


def test_the_catalogue_says_that_smollm2_is_dequantised() -> None:
    assert "dequantised" in asset("SmolLM2-135M-Instruct").description


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(AssetError, match=r"There is no asset 'bbc-new' in the catalogue\. Did you mean 'bbc-news'\?"):
        asset("bbc-new")
