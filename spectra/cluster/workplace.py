"""Where a task stands: paths mean the same on every node only if the file system is shared."""

import os
import socket
from pathlib import Path

from spectra.errors import ClusterError


def stand_where_the_driver_stands(folder: str, *needed: str) -> None:
    """Enter the driver's working folder, so that relative paths of its inputs mean the same here.

    Args:
        folder: The driver's working folder.
        *needed: Further folders that must be there.

    Raises:
        ClusterError: If a folder does not exist on this node.
    """
    for path in (folder, *needed):
        if not Path(path).is_dir():
            raise ClusterError(
                f"Folder '{path}' does not exist on node '{socket.gethostname()}'. "
                "Put the run folder and its inputs on a file system that all nodes share."
            )
    os.chdir(folder)
