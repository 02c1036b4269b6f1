"""One of everything that can be added to spectra, each in one file; as a plugin, all of them."""

from spectra_example.gaussian_lora import GAUSSIAN_LORA
from spectra_example.last_token import LAST_TOKEN
from spectra_example.npz_file import NPZ
from spectra_example.nuclear_norm import NUCLEAR
from spectra_example.small_b import SMALL_B
from spectra_example.weather import WEATHER

__all__ = ["GAUSSIAN_LORA", "LAST_TOKEN", "NPZ", "NUCLEAR", "SMALL_B", "WEATHER"]
