"""Adapters as other programs save them: which file is one, and what it does to which module."""
