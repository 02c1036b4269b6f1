"""`spectra.plugins`: every table that can be extended, with its entries and where they come from."""

from dataclasses import dataclass
from typing import ClassVar

from spectra.records.listing import Listing


@dataclass(frozen=True)
class PluginList(Listing):
    """The entries of every table that can be extended: table, name, from, documentation."""

    caption: ClassVar[str] = "What can be extended"


def plugins() -> PluginList:
    """List what can be extended, and what an installed package or a plugin has added.

    Example:
        >>> table = spectra.plugins().to_dataframe()
        >>> table[table["name"] == "safetensors"][["table", "from"]].values.tolist()
        [['spectra.checkpoint_formats', 'spectra']]
    """
    from spectra.data.load import TASKS
    from spectra.forgetting.catalogue import HELD_OUT_MEASURES
    from spectra.records.catalogue import GROUPS, choices
    from spectra.training.adapt import METHODS
    from spectra.weights.formats.table import FORMATS

    tables = (GROUPS, HELD_OUT_MEASURES, METHODS, FORMATS, TASKS)
    return PluginList(
        [
            {"table": table.group, "name": name, "from": table.origins[name], "documentation": entry.documentation}
            for table in tables
            for name, entry in table.items()
            if table is not GROUPS or name in choices()
        ]
    )
