"""Files of others that would hang, run, deceive or fill: each gets one sentence within seconds, and nothing happens."""

import json
import logging
import os
import pickle
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from spectra.cli.main import main
from spectra.errors import LONGEST
from spectra.models import load_base
from tests import tiny
from tests.scanning.checkpoints import Checkpoints, save

SECONDS = 5.0
FILE = "adapter_model.safetensors"
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    found = save(tmp_path_factory.mktemp("checkpoints"))
    # What is loaded on first use would be counted to the first hostile file.
    CliRunner().invoke(main, ["intruders", str(found.adapters[0]), "--no-cache", "-q"])
    return found


@pytest.fixture
def copy(saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An adapter to be made hostile."""
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in Path(saved.adapters[1]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def refused(*arguments: object) -> str:
    """The sentence that a command ends with; it has neither a traceback nor raw escape sequences, and came soon."""
    began = time.process_time()  # a machine that does other things as well must not fail this
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    seconds = time.process_time() - began
    assert result.exit_code == 1, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit), result.exception
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.stderr
    assert len(errors[0]) < 2 * LONGEST
    assert result.stdout == ""
    assert "\x1b" not in result.output
    assert seconds < SECONDS
    return errors[0]


def change_config(folder: Path, **fields: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def rename_tensors(folder: Path, rename: Callable[[str], str]) -> None:
    file = folder / FILE
    tensors = {rename(name): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file)


def header(file: Path, text: bytes) -> None:
    file.write_bytes(len(text).to_bytes(8, "little") + text)


class Payload:
    """Pickled, it touches a file when it is opened."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, ("touch owned",)


def pickled(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload()))


def replaced(name: str, by: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        by(folder / name)

    return change


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name if path.parent == Path() else os.path.relpath(path))


ADAPTERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "catastrophic rank_pattern": (
        lambda f: (
            rename_tensors(f, lambda n: n.replace("q_proj", "a" * 60 + "!")),
            change_config(f, rank_pattern={"(.*\\.)?(a+)+$": 3}),
        ),
        "regular expression",
    ),
    "catastrophic without a nested star": (
        lambda f: (
            rename_tensors(f, lambda n: n.replace("q_proj", "a" * 60 + "!")),
            change_config(f, alpha_pattern={"(a|a)" * 40 + "$": 3}),
        ),
        "regular expression",
    ),
    "an expression that is none": (
        lambda f: change_config(f, target_modules="(("),
        "regular expression '((', which is none",
    ),
    "a target that is a number": (lambda f: change_config(f, target_modules=7), "is 7, and a text or a list"),
    "more targets than modules": (
        lambda f: change_config(f, target_modules=[f"m{n}" for n in range(100_000)]),
        "has 100000 entries, more than",
    ),
    "factors without axes": (
        lambda f: save_file(
            {name: tensor.flatten()[0].clone() for name, tensor in load_file(f / FILE).items()}, f / FILE
        ),
        "no matrices where factors belong",
    ),
    "metadata of numbers": (
        lambda f: header(f / FILE, b'{"__metadata__": {"format": [1]}}'),
        "other values than texts",
    ),
    "FIFO of weights": (replaced(FILE, os.mkfifo), "is a FIFO"),
    "FIFO of a configuration": (replaced("adapter_config.json", os.mkfifo), "is a FIFO"),
    "socket": (replaced(FILE, bound), "is a socket"),
    "endless device": (replaced("adapter_config.json", lambda p: p.symlink_to("/dev/zero")), "is a device"),
    "deep JSON": (lambda f: (f / "adapter_config.json").write_text('{"a":' * 200_000), "nested too deeply"),
    "deep header": (lambda f: header(f / FILE, b'{"a":' * 200_000), "no valid safetensors"),
    "huge header": (lambda f: header(f / FILE, b" " * 30_000_000), "truncated"),
    "a name ten thousand times": (
        lambda f: header(f / FILE, b"{" + b'"a":1,' * 300_000 + b'"b":2}'),
        "stands in it twice",
    ),
    "many axes": (
        lambda f: header(
            f / FILE,
            json.dumps({"a": {"dtype": "F32", "shape": [10**4000] * 200, "data_offsets": [0, 4]}}).encode(),
        ),
        "is no shape",
    ),
    "pickle": (pickled, "is a pickle"),
    "a setting twice": (
        lambda f: (f / "adapter_config.json").write_text(
            (f / "adapter_config.json").read_text().replace("{", '{"lora_alpha": 600, ', 1)
        ),
        "'lora_alpha' stands in it twice",
    ),
    "a line feed in a tensor": (
        lambda f: rename_tensors(f, lambda n: n.replace("q_proj", "a\nb")),
        "no name of a module",
    ),
    "a tensor of a million letters": (
        lambda f: rename_tensors(f, lambda n: n.replace("q_proj", "q" * 1_000_000)),
        "no name of a module",
    ),
    "a layer beyond counting": (
        lambda f: rename_tensors(f, lambda n: n.replace("layers.1.", f"layers.{'9' * 5000}.")),
        "no name of a module",
    ),
    "a layer that is no number": (
        lambda f: rename_tensors(f, lambda n: n.replace("layers.1.", "layers.\u00b2.")),
        "no name of a module",
    ),
    "a rank beyond its tensors": (lambda f: change_config(f, r=10**9), "sets r to 1000000000"),
    "a rank of one module beyond its tensors": (
        lambda f: change_config(f, rank_pattern={"q_proj": 10**7}),
        "sets rank_pattern to 10000000",
    ),
    "layers thousands of times": (lambda f: change_config(f, layer_replication=[[0, 2]] * 3_000), "6000 layers"),
    "infinity in a setting": (lambda f: change_config(f, eva_config={"rho": [1, float("inf")]}), "the number inf"),
    "a null byte in the base": (lambda f: change_config(f, base_model_name_or_path="a\0b"), "does not exist"),
    "escapes in a tensor": (
        lambda f: rename_tensors(f, lambda n: n.replace("q_proj", f"q_{ESCAPE}_proj")),
        "u001b",
    ),
    "escapes in the base": (lambda f: change_config(f, base_model_name_or_path=f"org/{ESCAPE}"), "u001b"),
    "escapes in the kind": (lambda f: change_config(f, peft_type=f"LO{ESCAPE}"), "u001b"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_hostile_adapter_is_refused_in_one_sentence(copy: Path, saved: Checkpoints, name: str) -> None:
    change, told = ADAPTERS[name]
    change(copy)
    before = sorted(path.name for path in copy.iterdir())
    assert told.lower() in refused("intruders", copy, "--html", "report.html", "-q").lower()
    assert sorted(path.name for path in copy.iterdir()) == before
    assert not {"owned", "report.html"} & {path.name for path in copy.parent.iterdir()}


def test_an_allowed_pickle_still_runs_nothing_and_is_refused_in_our_words(copy: Path) -> None:
    pickled(copy)
    told = refused("intruders", copy, "--allow-pickle", "-q")
    assert "weights_only" not in told and "torch" not in told
    assert not (copy.parent / "owned").exists()


def test_a_pickle_in_the_name_of_safetensors_is_refused(copy: Path) -> None:
    torch.save({"a": Payload()}, copy / FILE)
    assert "cannot be opened safely" in refused("intruders", copy, "--allow-pickle", "-q")
    assert not (copy.parent / "owned").exists()


def unknown_matrices(folder: Path) -> None:
    rename_tensors(folder, lambda name: name.replace("q_proj", "=1+1"))


# What is wrong only beside a base, or in a second checkpoint: it is found before anything is written.
LATE: dict[str, tuple[str, ...]] = {
    "resize": ("resize", "{hostile}", "--rank", "2", "-q", "-o", "out"),
    "extract": ("extract", "{full}", "--base", "{base}", "--rank", "2", "--beside", "{hostile}", "-q", "-o", "out"),
    "mitigate": ("mitigate", "{hostile}", "-q", "-o", "out"),
    "merge": ("merge", "{good}", "{hostile}", "-q", "-o", "out"),
    "compare": ("compare", "{good}", "{hostile}", "-q"),
    "advise": ("advise", "{hostile}", "-q", "--no-measure", "-o", "lora.json"),
    "scan": ("scan", "{hostile}", "-q", "-o", "out"),
}


@pytest.mark.parametrize("name", LATE)
def test_an_adapter_of_matrices_that_the_base_lacks_leaves_nothing_behind(
    copy: Path, saved: Checkpoints, name: str
) -> None:
    unknown_matrices(copy)
    places = {"hostile": copy, "good": saved.adapters[0], "full": saved.full, "base": saved.base}
    assert "the base has no such matrix" in refused(*(part.format(**places) for part in LATE[name]))
    assert {path.name for path in copy.parent.iterdir()} <= {"adapter", "cache"}


SPECIFICATIONS: dict[str, tuple[str, str]] = {
    "alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "more than 100,000 values",
    ),
    "an alias of itself": ("a: &a [*a]", "refers to itself"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "twice": ("base: one\nsteps: 1\nbase: two\n", "'base' is written a second time"),
    "twice inside": ("methods:\n  - {method: lora, rank: 1, rank: 2}\n", "'rank' is written a second time"),
    "object": ("a: !!python/object/apply:os.system ['touch owned']", "is no YAML"),
    "a date that is none": ("a: 2021-13-45", "cannot read"),
    "control characters": ("a: \x00", "may not stand in YAML"),
    "seeds": ("base: x\ntask: y\nsteps: 1\nmethods: [{method: full, learning_rate: 0.1}]\nseeds: 0..999999999", "more"),
    "seeds of many digits": (f"base: x\nseeds: 0..{'9' * 100_000}", "more than"),
    "no text": ("a: \udc80", "is not UTF-8"),
    "a number beyond counting": ("base: x\nmax_length: 1_000_000_000_000_000_000_000", "larger than any"),
    "a base of many letters": (
        f"base: {'x' * 100_000}\ntask: y\nsteps: 1\nmethods: [{{method: full, learning_rate: 1}}]",
        "",
    ),
    "a list for a name": ("base: x\ntask: y\nsteps: 1\nmethods: [{method: [lora], learning_rate: 0.1}]", "method"),
    "an object for a name": ("base: x\ntask: y\nsteps: 1\nmethods: [{method: {a: 1}, learning_rate: 0.1}]", "method"),
    "a number for arguments": (
        "base: x\ntask: y\nsteps: 1\nmethods: [{method: lora, rank: 1, arguments: 7, learning_rate: 0.1}]",
        "arguments",
    ),
}


@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_a_hostile_specification_is_refused_in_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, told = SPECIFICATIONS[name]
    Path("spec.yaml").write_bytes(text.encode(errors="surrogateescape"))
    assert told in refused("sweep", "spec.yaml", "-o", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_a_fifo_is_no_specification(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "spec.yaml")
    assert "is a FIFO" in refused("sweep", tmp_path / "spec.yaml", "-o", tmp_path / "out")


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "[]", "null", "\x00", '{"format": 1}'])
def test_a_hostile_record_is_refused_in_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "scan.json").write_text(content)
    assert "is no scan" in refused("report", tmp_path / "scan.json", "-o", tmp_path / "out.html")
    assert [path.name for path in tmp_path.iterdir()] == ["scan.json"]


def test_a_table_is_read_within_bounds(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from spectra.errors import RunError
    from spectra.storage.tables import read_parquet

    path = tmp_path / "rows.parquet"
    described = {
        "index_columns": [{"kind": "range", "name": None, "start": 0, "stop": 2**31, "step": 1}],
        "columns": [],
    }
    table = pa.table({"a": [1, 2]}).replace_schema_metadata({b"pandas": json.dumps(described).encode()})
    pq.write_table(table, path)
    assert read_parquet(path, error=RunError)["a"].tolist() == [1, 2]
    raw = path.read_bytes()
    length = int.from_bytes(raw[-8:-4], "little")
    footer = raw[-8 - length : -8].replace(bytes([0x16, 4]), bytes([0x16, 2]), 1)  # of the file: one row, not two
    path.write_bytes(raw[: -8 - length] + footer + raw[-8:])
    with pytest.raises(RunError, match="has another number of rows than the 1 that it claims"):
        read_parquet(path, error=RunError)
    for content, told in ((b"PAR1", "no readable Parquet"), (b"[" * 1000, "no readable Parquet")):
        path.write_bytes(content)
        with pytest.raises(RunError, match=told):
            read_parquet(path, error=RunError)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RunError, match="is a FIFO"):
        read_parquet(path, error=RunError)


def test_a_csv_neither_steers_a_terminal_nor_computes(tmp_path: Path) -> None:
    from spectra.storage.tables import csv_text

    table = pd.DataFrame(
        {"name": ["=cmd|' /C calc'!A0", "+1", "@x", f"q{ESCAPE}", "plain"], "value": [-1.5, 2, 3, 4, 5]}
    )
    lines = csv_text(table).splitlines()
    assert [line[0] for line in lines[1:4]] == ["'"] * 3
    assert "\x1b" not in "".join(lines) and lines[1].endswith(",-1.5") and lines[5] == "plain,5.0"


def test_names_of_tensors_do_not_reach_the_terminal_through_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(tiny.save_model(tmp_path / "model", "llama"))
    file = model / "model.safetensors"
    save_file({**load_file(file), f"x{ESCAPE}": torch.ones(1)}, file, {"format": "pt"})
    heard: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: heard.append(record.getMessage()))
    told_by = logging.getLogger("transformers")
    monkeypatch.setattr(told_by, "level", logging.INFO)
    told_by.addHandler(handler)
    try:
        load_base(str(model), "causal-lm")
    finally:
        told_by.removeHandler(handler)
    assert not [text for text in heard if "\x1b" in text]


def test_a_model_brings_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPECTRA_TRUST_REMOTE_CODE", raising=False)
    model = tmp_path / "model"
    model.mkdir()
    (model / "evil.py").write_text("open('owned', 'w')\nclass C: pass\n")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"}}
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["EvilForCausalLM"]}))
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.C", None]}}))
    save_file({"w": torch.ones(1)}, model / "model.safetensors")
    (tmp_path / "texts.txt").write_text("one text\n\nanother text\n\na third\n")
    told = refused("forget", model, "--base", model, "--heldout", "texts.txt:lm-loss")
    assert "brings its own code" in told and "--trust-remote-code" in told
    assert not (tmp_path / "owned").exists()
