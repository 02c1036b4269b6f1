"""Model folders whose files transformers would read for ever, or for long: refused before it does."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spectra.errors import SpectraError
from spectra.models import load_base
from spectra.models.base import load_config, load_tokenizer
from tests import tiny


def _emptied(folder: Path, name: str) -> Path:
    (folder / name).unlink(missing_ok=True)
    return folder / name


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "huge": (lambda f: (f / "config.json").write_text('{"a": "' + "x" * 10_000_001 + '"}'), "that are read"),
    "deep": (lambda f: (f / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000), "nested too deeply"),
    "list": (lambda f: (f / "config.json").write_text("[1]"), "holds a list"),
    "twice": (lambda f: (f / "config.json").write_text('{"a": 1, "a": 2}'), "stands in it twice"),
    "FIFO": (lambda f: os.mkfifo(_emptied(f, "config.json")), "is a FIFO"),
    "FIFO of a tokenizer": (lambda f: os.mkfifo(_emptied(f, "tokenizer.json")), "is a FIFO"),
    "FIFO of generation": (lambda f: os.mkfifo(_emptied(f, "generation_config.json")), "is a FIFO"),
    "file of the kernel": (lambda f: _emptied(f, "config.json").symlink_to("/proc/kmsg"), "no regular file"),
    "endless device": (lambda f: _emptied(f, "vocab.txt").symlink_to("/dev/zero"), "is a device"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_model_folder_that_would_not_be_read_to_an_end_is_refused(kind: str, tmp_path: Path) -> None:
    folder = Path(tiny.save_model(tmp_path, "llama"))
    change, told = HOSTILE[kind]
    change(folder)
    reads = [load_config, lambda reference: load_base(reference, "causal-lm")]
    if kind.startswith(("FIFO", "endless")):
        reads.append(load_tokenizer)
    for read in reads:
        with pytest.raises(SpectraError, match=told) as refusal:
            read(str(folder))
        assert "\n" not in str(refusal.value)
