"""Adapters made from other checkpoints: extracted, made smaller, merged, converted; each with what it leaves out."""

from spectra.surgery.convert import Conversion, convert
from spectra.surgery.extract import extract
from spectra.surgery.merge import merge
from spectra.surgery.resize import resize

__all__ = ["Conversion", "convert", "extract", "merge", "resize"]
