"""Bytes to named tensors, lazily."""
