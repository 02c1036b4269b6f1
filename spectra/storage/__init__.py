"""Atomic files and JSON: below everything that writes."""
