"""Model folders whose files transformers would read for ever, or for long: refused before it does."""

import contextlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import spectra
from spectra.errors import SpectraError
from spectra.models import load_base
from spectra.models.base import load_config, load_tokenizer
from spectra.weights.matching.proportion import require_countable
from tests import tiny


def _emptied(folder: Path, name: str) -> Path:
    (folder / name).unlink(missing_ok=True)
    return folder / name


def _setting(name: str, value: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    return change


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "huge": (lambda f: (f / "config.json").write_text('{"a": "' + "x" * 10_000_001 + '"}'), "that are read"),
    "deep": (lambda f: (f / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000), "nested too deeply"),
    "list": (lambda f: (f / "config.json").write_text("[1]"), "holds a list"),
    "twice": (lambda f: (f / "config.json").write_text('{"a": 1, "a": 2}'), "stands in it twice"),
    "FIFO": (lambda f: os.mkfifo(_emptied(f, "config.json")), "is a FIFO"),
    "FIFO of a tokenizer": (lambda f: os.mkfifo(_emptied(f, "tokenizer.json")), "is a FIFO"),
    "FIFO of generation": (lambda f: os.mkfifo(_emptied(f, "generation_config.json")), "is a FIFO"),
    "layers": (_setting("num_hidden_layers", 10**6), "num_hidden_layers to 1000000, and at most 5000 are built"),
    "heads": (_setting("num_attention_heads", 10**7), "not a multiple of the number of attention heads"),
    "labels": (_setting("num_labels", 10**9), "num_labels to 1000000000"),
    "experts of a part": (_setting("text_config", {"num_local_experts": 10**9}), "at most 50000"),
    "file of the kernel": (lambda f: _emptied(f, "config.json").symlink_to("/proc/kmsg"), "no regular file"),
    "endless device": (lambda f: _emptied(f, "vocab.txt").symlink_to("/dev/zero"), "is a device"),
}


@pytest.mark.parametrize("name", ["vocab_size", "intermediate_size", "head_dim"])
def test_a_model_far_larger_than_its_files_is_not_built(name: str, tmp_path: Path) -> None:
    folder = Path(tiny.save_model(tmp_path, "llama"))
    _setting(name, 10**7)(folder)
    for read in (lambda: load_base(str(folder), "causal-lm"), lambda: spectra.inspect(folder, folder, verify=True)):
        with pytest.raises(SpectraError, match=r"describes a model of [0-9]+ numbers, and its files hold"):
            read()


def test_what_a_configuration_calls_its_kind_is_not_logged(tmp_path: Path) -> None:
    folder = Path(tiny.save_model(tmp_path, "llama"))
    _setting("model_type", "\x1b[2Jllama")(folder)
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger, level = logging.getLogger("transformers"), logging.getLogger("transformers").level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        for read in (load_tokenizer, lambda reference: load_base(reference, "causal-lm")):
            with contextlib.suppress(SpectraError):
                read(str(folder))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert not [text for text in told if "\x1b" in text]


def test_the_name_of_a_label_is_no_setting() -> None:
    require_countable({"label2id": {"stage": 8331, "layer": 10**6}, "id2label": {"8331": "stage"}}, "a classifier")


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_model_is_not_loaded_without_some_of_its_blocks(blocks: int, tmp_path: Path) -> None:
    folder = Path(tiny.save_model(tmp_path, "llama"))
    _setting("num_hidden_layers", blocks)(folder)
    with pytest.raises(SpectraError, match=f"its configuration has {blocks} of 'model.layers'"):
        load_base(str(folder), "causal-lm")


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
