"""The PEP 517 backend of that stand-in: it copies the PKG-INFO that every source package carries.

pip asks for metadata even when it only saves an archive; real setuptools would answer by executing `setup.py`.
There is no `build_wheel` here, so pip could not build or install the package through this backend either.
"""

from email.parser import HeaderParser
from pathlib import Path
from typing import Any


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """Write NAME-VERSION.dist-info/METADATA from the PKG-INFO in the current folder; return the folder's name."""
    text = Path("PKG-INFO").read_text(encoding="utf-8")
    headers = HeaderParser().parsestr(text)
    folder = f"{headers['Name'].replace('-', '_')}-{headers['Version']}.dist-info"
    target = Path(metadata_directory) / folder
    target.mkdir()
    (target / "METADATA").write_text(text, encoding="utf-8")
    return folder


class _Legacy:
    """What pip uses for a source package without pyproject.toml: `setuptools.build_meta:__legacy__`."""

    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)


__legacy__ = _Legacy()
