"""A plugin that fills the disk under a sweep's worker: at its n-th change to files, for itself and for the driver."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.hostile.strikes import Strikes

FOLDER, MOMENT, FULL = (f"SPECTRA_TEST_{name}" for name in ("FOLDER", "MOMENT", "FULL"))

# Held for as long as the worker lives.
STRUCK = ExitStack()
if FOLDER in os.environ and Path(sys.argv[0]).name == "worker.py":
    given = Path(os.environ[FOLDER]), int(os.environ[MOMENT])
    STRUCK.enter_context(Strikes().at(*given, kill=False, full=Path(os.environ[FULL])))
