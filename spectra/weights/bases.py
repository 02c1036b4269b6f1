"""Is this the base that the checkpoint was tuned from? What can be told, and the sentence when it is not."""

from collections.abc import Iterable
from pathlib import Path

from spectra.errors import CheckpointError
from spectra.weights.fingerprint import fingerprint, first_values, resemblance, same_base
from spectra.weights.formats.checkpoint import open_checkpoint
from spectra.weights.formats.hub import locate_locally
from spectra.weights.matching.catalogue import Catalogue, catalogue
from spectra.weights.matching.matching import Match
from spectra.weights.methods.adapter import Adapter
from spectra.weights.methods.changes import Replaced
from spectra.weights.origin import read_origin

# Far below what tuning leaves (above 0.99) and far above what 64 numbers of strangers reach by chance.
UNRELATED = 0.5


def wrong_base_warnings(adapter: Adapter, book: Catalogue, named: str) -> list[str]:
    """A warning when the base differs from the one that the adapter was trained from, as far as that is known.

    The origin is known when this package recorded it, or when the base that the configuration names lies on this
    machine. A dequantised base differs from its original by its rounding and cannot be told apart.
    """
    if book.checkpoint.dequantised:
        return []
    recorded = read_origin(adapter.path)
    if recorded is not None:
        origin, values = recorded.base, recorded.fingerprint
    else:
        if adapter.base is None or adapter.base == named:
            return []
        folder = locate_locally(adapter.base, adapter.revision)
        if folder is None:
            same_name = Path(adapter.base).name == Path(named).name
            told = f"The adapter names '{adapter.base}' as its base; '{named}' could not be checked against it."
            return [] if same_name else [told]
        try:
            other = catalogue(open_checkpoint(folder))
        except CheckpointError:
            return [f"The adapter's own base '{adapter.base}' cannot be read; '{named}' is not checked against it."]
        if other.checkpoint.dequantised:
            return []
        origin, values = adapter.base, fingerprint(other)
    if same_base(values, fingerprint(book)):
        return []
    return [f"The adapter was trained from '{origin}', whose weights differ from those of '{named}'."]


def unrelated_warnings(matches: Iterable[Match], base: str, tuned: str) -> list[str]:
    """A warning when a full checkpoint hardly resembles the base that it is compared with."""
    pairs = [(match.W0, match.change.W_tuned) for match in matches if isinstance(match.change, Replaced)]
    if not pairs:
        return []
    cosine = resemblance(first_values([W0 for W0, _ in pairs]), first_values([tuned for _, tuned in pairs]))
    if cosine >= UNRELATED:
        return []
    return [f"'{tuned}' hardly resembles '{base}' (cosine of sampled weights {cosine:.2f}): was it tuned from it?"]
