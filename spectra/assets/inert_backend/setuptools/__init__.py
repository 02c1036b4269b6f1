"""Stands in for setuptools while pip saves a source package, so that no `setup.py` is ever run."""
