"""Every error that `spectra` raises on purpose.

A message says what is wrong, with the values; where; and ends in one imperative sentence that says what to do.
The command line turns any `SpectraError` into one line on stderr and exit code 1; a bug keeps its traceback.
"""

from collections.abc import Sequence


class SpectraError(Exception):
    """Something that the user can mend: the base of all errors raised on purpose."""


class CheckpointError(SpectraError):
    """A checkpoint or one of its tensors cannot be read, or does not fit its base."""


class AdapterError(CheckpointError):
    """An adapter is incomplete, inconsistent with its configuration, or of an unknown kind."""


class PluginError(SpectraError):
    """A plugin cannot be loaded, or two entries of a table have one name."""


class SpectrumError(SpectraError):
    """A spectral quantity is undefined for this input, or a factorisation failed."""


class RunError(SpectraError):
    """A run folder is missing, incomplete, locked or belongs to another sweep."""


class ClusterError(SpectraError):
    """A cluster cannot be reached, is gone, or has no node for what is asked of it."""


class DataError(SpectraError):
    """A data set is missing, malformed or too small for what is asked of it."""


class AssetError(SpectraError):
    """An asset is unknown, cannot be fetched, or is not the published file."""


class SpecificationError(SpectraError):
    """A sweep specification names an unknown field or an impossible value."""


class ModelError(SpectraError):
    """A model cannot be found or is of a kind that the task at hand cannot use."""


def first_five(offenders: Sequence[object]) -> str:
    """List offenders in an error message: the first five, then how many more."""
    shown = ", ".join(str(offender) for offender in offenders[:5])
    more = len(offenders) - 5
    return f"{shown} and {more} more" if more > 0 else shown
