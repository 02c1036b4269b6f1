"""Kernels that a configuration names: transformers would fetch their code from a hub and run it."""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from spectra.errors import CheckpointError

# What transformers holds itself. Others are names on a hub, or fall back to one where their package is absent.
OWN = ("eager", "sdpa", "flex_attention")
INSTALLED = {"flash_attention_2": "flash_attn"}
# Ends of the settings that name one: attn_implementation, _attn_implementation_internal, experts_implementation, ...
SETTINGS = ("_implementation", "_implementation_internal")


def require_no_kernels(config: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration whose model would fetch code.

    Args:
        config: The content of a config.json.
        where: Whose it is, for the message.

    Raises:
        CheckpointError: Naming the setting.
    """
    for key, value in _foreign(config):
        raise CheckpointError(
            f"The configuration of '{where}' sets {key} to {str(value)!r}, which is code of others. It is not fetched; "
            "remove that line from its config.json, or trust it with --trust-remote-code."
        )


def without_kernels(config: Mapping[Any, Any]) -> dict[Any, Any]:
    """The configuration without any choice of kernels: shapes and names do not depend on it.

    Of a model in memory it has keys that are numbers (id2label).
    """
    return {
        key: without_kernels(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if not str(key).endswith(SETTINGS)
    }


def _foreign(config: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and not str(key).endswith(SETTINGS):
            yield from _foreign(value)
        elif str(key).endswith(SETTINGS):
            for name in value.values() if isinstance(value, Mapping) else [value]:
                if name is not None and not _is_own(name):
                    yield str(key), name


def _is_own(name: object) -> bool:
    if not isinstance(name, str):
        return False
    plain = name.removeprefix("paged|")
    return plain in OWN or (plain in INSTALLED and importlib.util.find_spec(INSTALLED[plain]) is not None)
