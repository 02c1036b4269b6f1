"""Every error that `spectra` raises on purpose.

A message says what is wrong, with the values; where; and ends in one imperative sentence that says what to do.
The command line turns any `SpectraError` into one line on stderr and exit code 1; a bug keeps its traceback.
"""

import contextlib
import logging
import re
from collections.abc import Sequence
from typing import Any

# Control characters but tab and line feed, marks that turn the direction of text or show nothing, lone surrogates.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

# The login and the query of an address: a password and a signature may stand there.
LOGIN = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s/?#'\"<>]*@", re.IGNORECASE)
QUERY = re.compile(r"(?P<place>\b[a-z][a-z0-9+.-]*://[^\s?#'\"<>]*)\?[^\s'\"<>]*", re.IGNORECASE)

LONGEST = 3000  # characters of a message: a name or a value in a file of others may have millions


def visible(text: str) -> str:
    r"""A text with escape sequences made harmless: \x1b becomes the six characters \u001b.

    Names in files of others end on terminals, where such characters move the cursor, recolour and overwrite. The
    spelling is that of JSON, so a JSON text stays the same value.
    """
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def without_secrets(text: str) -> str:
    """A text without the logins and the queries of the addresses in it: messages and commands end up in files."""
    return QUERY.sub(r"\g<place>", LOGIN.sub(r"\g<scheme>", text))


def told(text: str) -> str:
    """A message as it is shown: what it quotes is cut short, shows its escape sequences, and holds no secrets."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
    return visible(without_secrets(text))


def log_without_secrets() -> None:
    """Take the secrets out of the addresses in what this process logs: the hub client logs its requests."""
    made = logging.getLogRecordFactory()

    def record(*arguments: Any, **named: Any) -> logging.LogRecord:
        found = made(*arguments, **named)
        with contextlib.suppress(TypeError, ValueError):  # a message that cannot be formatted is told by logging itself
            if "://" in (text := found.getMessage()):
                found.msg, found.args = without_secrets(text), ()
        return found

    logging.setLogRecordFactory(record)


def needs(what: str, package: str, extra: str) -> str:
    """The sentence about an optional package that is absent: what needs it, and the command that installs it.

    Args:
        what: The subject of the sentence, such as "The heavy-tail fit".
        package: The package as its users know it.
        extra: The extra of this distribution that brings it.
    """
    return f"{what} needs the package {package}, which is not installed. Run `pip install 'lora-spectra[{extra}]'`."


class SpectraError(Exception):
    """Something that the user can mend: the base of all errors raised on purpose."""

    def __str__(self) -> str:
        """The message, see `told`."""
        return told(super().__str__())


class CheckpointError(SpectraError):
    """A checkpoint or one of its tensors cannot be read, or does not fit its base."""


class AdapterError(CheckpointError):
    """An adapter is incomplete, inconsistent with its configuration, or of an unknown kind."""


class PluginError(SpectraError):
    """A plugin cannot be loaded, or two entries of a table have one name."""


class SpectrumError(SpectraError):
    """A spectral quantity is undefined for this input, or a factorisation failed."""


class DestinationError(SpectraError):
    """What stands at a destination must not be replaced, or nothing can be written there."""


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


def first_and_more(names: Sequence[str]) -> str:
    """The first of some names, and how many there are beside it."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def first_five(offenders: Sequence[object]) -> str:
    """List offenders in an error message: the first five, then how many more."""
    shown = ", ".join(str(offender) for offender in offenders[:5])
    more = len(offenders) - 5
    return f"{shown} and {more} more" if more > 0 else shown
