"""Broken files: each gets one sentence that names the file, the tensor and the remedy, and nothing is written."""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from click.testing import CliRunner
from families import FAMILIES
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tuned import quiet, tune

from spectra import Selection
from spectra.cli.main import main
from spectra.errors import CheckpointError
from spectra.storage.json_file import read_object
from spectra.weights import open_pair
from spectra.weights.formats.safetensors_file import open_safetensors

Q = "base_model.model.model.layers.0.self_attn.q_proj"
SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a sharded copy of it, and a LoRA adapter."""
    folder = tmp_path_factory.mktemp("pristine")
    tune(folder, "llama", peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"]))
    with quiet():
        FAMILIES["llama"].build().save_pretrained(folder / "shards", max_shard_size="8KB")
    shutil.rmtree(folder / "merged")
    return folder


@pytest.fixture
def broken(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(pristine, tmp_path / "copy")
    return tmp_path / "copy"


def edit(file: Path, change: Callable[[dict], object]) -> None:
    """Change the tensors of a safetensors file."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def edit_json(file: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file."""
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def edit_header(file: Path, change: Callable[[dict], object]) -> None:
    """Change the header of a safetensors file and leave the data alone."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def raw_header(file: Path, text: bytes) -> None:
    file.write_bytes(len(text).to_bytes(8, "little") + text)


ADAPTER = "adapter/adapter_model.safetensors"
CONFIG = "adapter/adapter_config.json"
FULL = "shards/model-00001-of-00003.safetensors"
INDEX = "shards/model.safetensors.index.json"
FACTOR = f"{Q}.lora_A.weight"


def first(header: dict) -> dict:
    return next(entry for name, entry in sorted(header.items()) if name != "__metadata__")


def overlap(header: dict) -> None:
    """Two tensors of one size at one place."""
    header[FACTOR]["data_offsets"] = header[FACTOR.replace("layers.0", "layers.1")]["data_offsets"]


ADAPTER_CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (
        lambda p: os.truncate(p / ADAPTER, 2000),
        r"truncated: tensor '.*' ends at byte \d+ and the file has",
    ),
    "a 0-byte file": (lambda p: (p / ADAPTER).write_bytes(b""), r"is empty \(0 bytes\)"),
    "shorter than a header": (lambda p: (p / ADAPTER).write_bytes(b"abc"), "truncated"),
    "lying header length": (
        lambda p: (p / ADAPTER).write_bytes((10**15).to_bytes(8, "little") + b"{}"),
        r"header claims 1000000000000000 bytes",
    ),
    "lying shape": (
        lambda p: edit_header(p / ADAPTER, lambda h: h[FACTOR].update(shape=[4, 17])),
        r"wrong about tensor .*offsets",
    ),
    "negative shape": (
        lambda p: edit_header(p / ADAPTER, lambda h: h[FACTOR].update(shape=[-4, -16])),
        r"\[-4, -16\] is no shape",
    ),
    "offsets outside": (
        lambda p: edit_header(p / ADAPTER, lambda h: h[FACTOR].update(data_offsets=[10**9, 10**9 + 256])),
        "is truncated",
    ),
    "overlapping tensors": (lambda p: edit_header(p / ADAPTER, overlap), "overlaps|leaves a hole"),
    "unknown dtype": (
        lambda p: edit_header(p / ADAPTER, lambda h: h[FACTOR].update(dtype="F13")),
        "dtype 'F13' is unknown",
    ),
    "bytes after the end": (lambda p: (p / ADAPTER).open("ab").write(b"more"), "4 bytes after its last tensor"),
    "a tensor twice": (
        lambda p: raw_header(p / ADAPTER, b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{}}'),
        "'a' stands in it twice",
    ),
    "header that is no JSON": (lambda p: raw_header(p / ADAPTER, b"{not json"), "no valid safetensors header"),
    "header that is no UTF-8": (lambda p: raw_header(p / ADAPTER, b'{"\xff": 1}'), "no valid safetensors header"),
    "absurdly nested header": (lambda p: raw_header(p / ADAPTER, b"[" * 100_000), "no valid safetensors header"),
    "lora_A without lora_B": (
        lambda p: edit(p / ADAPTER, lambda t: t.pop(f"{Q}.lora_B.weight")),
        r"incomplete: '.*q_proj' lacks lora_B",
    ),
    "lora_B without lora_A": (lambda p: edit(p / ADAPTER, lambda t: t.pop(FACTOR)), r"q_proj' lacks lora_A"),
    "ranks against the config": (
        lambda p: edit_json(p / CONFIG, lambda c: c.update(r=8)),
        r"ranks 4 \(A\) and 4 \(B\), and its configuration says 8",
    ),
    "ranks against each other": (
        lambda p: edit(p / ADAPTER, lambda t: t.update({FACTOR: torch.zeros(3, 16)})),
        r"ranks 3 \(A\) and 4 \(B\)",
    ),
    "shape against the base": (
        lambda p: edit(p / ADAPTER, lambda t: t.update({FACTOR: torch.zeros(4, 20)})),
        r"update a \(16, 20\) matrix, and the base's is \(16, 16\)",
    ),
    "a module the base lacks": (
        lambda p: edit(
            p / ADAPTER,
            lambda t: [t.update({n.replace("layers.1", "layers.7"): t.pop(n)}) for n in list(t) if "layers.1" in n],
        ),
        r"changes 'model.layers.7.*', and the base has no such matrix",
    ),
    "integers": (
        lambda p: edit(p / ADAPTER, lambda t: t.update({FACTOR: torch.ones(4, 16, dtype=torch.int8)})),
        r"integers where factors belong: '.*lora_A.weight' \(torch.int8\)",
    ),
    "an empty adapter": (lambda p: save_file({}, p / ADAPTER), "holds no tensor"),
    "no factors": (lambda p: save_file({"x": torch.ones(2)}, p / ADAPTER), "no lora_A and no lora_B"),
    "unknown peft type": (
        lambda p: edit_json(p / CONFIG, lambda c: c.update(peft_type="NOVEL")),
        "unknown kind 'NOVEL'",
    ),
    "no peft type": (lambda p: edit_json(p / CONFIG, lambda c: c.pop("peft_type")), "names no peft_type"),
    "no rank": (lambda p: edit_json(p / CONFIG, lambda c: c.pop("r")), "has r = None"),
    "a rank that is text": (lambda p: edit_json(p / CONFIG, lambda c: c.update(r="four")), "has r = 'four'"),
    "rank 0": (lambda p: edit_json(p / CONFIG, lambda c: c.update(r=0)), "has r = 0"),
    "a pattern that is no regex": (
        lambda p: edit_json(p / CONFIG, lambda c: c.update(rank_pattern={"(": 2})),
        r"rank_pattern that cannot be read \('\('\)",
    ),
    "replicated layers": (
        lambda p: edit_json(p / CONFIG, lambda c: c.update(layer_replication=[[0, 2], [1, 2]])),
        "layer_replication",
    ),
    "config that is no UTF-8": (lambda p: (p / CONFIG).write_bytes(b'{"r": "\xff"}'), "not valid JSON"),
    "config that is a list": (lambda p: (p / CONFIG).write_text("[]"), "holds a list, not an object"),
    "config that is empty": (lambda p: (p / CONFIG).write_text(""), "not valid JSON"),
    "weights missing": (lambda p: (p / ADAPTER).unlink(), "no 'adapter_model.safetensors'"),
    "a pickle without the flag": (
        lambda p: torch.save(load_file(p / ADAPTER), (p / ADAPTER).unlink() or p / "adapter/adapter_model.bin"),
        "is a pickle.*--allow-pickle",
    ),
    "no magnitudes": (
        lambda p: edit_json(p / CONFIG, lambda c: c.update(use_dora=True)),
        "lacks DoRA's lora_magnitude_vector",
    ),
    "no base named": (lambda p: None, "does not name the base.*--base"),
    "a base that cannot be found": (
        lambda p: edit_json(p / CONFIG, lambda c: c.update(base_model_name_or_path="org/absent")),
        "'org/absent' is no local path",
    ),
}
WITHOUT_BASE = {"no base named", "a base that cannot be found"}


@pytest.mark.parametrize("case", ADAPTER_CASES)
def test_a_broken_adapter_gets_one_sentence(case: str, broken: Path) -> None:
    spoil, message = ADAPTER_CASES[case]
    spoil(broken)
    before = sorted(broken.rglob("*"))
    base = [] if case in WITHOUT_BASE else ["--base", str(broken / "base")]
    command = "intruders" if case in WITHOUT_BASE else "inspect"
    assert_one_sentence([command, str(broken / "adapter"), *base], message)
    assert sorted(broken.rglob("*")) == before


def assert_one_sentence(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1, result.output + repr(result.exception)
    assert isinstance(result.exception, SystemExit) and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and line.endswith((".", "pip install gguf"))
    assert re.search(message, line), line


FULL_CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated shard": (lambda p: os.truncate(p / FULL.replace("00003", shards(p)), 3000), "truncated"),
    "missing shard": (
        lambda p: (p / FULL.replace("00003", shards(p))).unlink(),
        "names shard 'model-00001.*', which is missing",
    ),
    "shard above the folder": (
        lambda p: redirect(p, "../base/model.safetensors"),
        r"points to '\.\./base.*outside its folder",
    ),
    "absolute shard": (lambda p: redirect(p, str(p / "base" / "model.safetensors")), "outside its folder"),
    "shard behind a link": (
        lambda p: (
            (p / "shards" / "link.safetensors").symlink_to(p / "base" / "model.safetensors"),
            redirect(p, "link.safetensors"),
        ),
        "points to 'link.safetensors', outside its folder",
    ),
    "a shard name that is no text": (lambda p: redirect(p, 7), "no 'weight_map'"),
    "no weight map": (lambda p: (p / INDEX).write_text("{}"), "no 'weight_map'"),
    "index that is no JSON": (lambda p: (p / INDEX).write_text("{"), "not valid JSON"),
    "a tensor in two shards": (lambda p: duplicate(p), "stands in .* and again in"),
    "a folder without weights": (lambda p: [f.unlink() for f in (p / "shards").glob("model*")], "is no checkpoint"),
    "an empty folder": (lambda p: [f.unlink() for f in (p / "shards").iterdir()], "is no checkpoint"),
    "integers": (lambda p: integers(p), r"holds torch.int8 values, not weights"),
    "a pickle without the flag": (lambda p: pickled(p), "is a pickle.*--allow-pickle"),
    "awq": (lambda p: awq(p), "quantised with awq"),
}


def shards(p: Path) -> str:
    return f"{len(list((p / 'shards').glob('*.safetensors'))):05d}"


def redirect(p: Path, target: object) -> None:
    edit_json(p / INDEX, lambda index: index["weight_map"].update({"lm_head.weight": target}))


def duplicate(p: Path) -> None:
    one, other, *_ = sorted((p / "shards").glob("*.safetensors"))
    twice = next(iter(load_file(one).items()))
    edit(other, lambda tensors: tensors.update([twice]))


def integers(p: Path) -> None:
    for file in (p / "shards").glob("*.safetensors"):
        edit(file, lambda tensors: tensors.update({name: W.to(torch.int8) for name, W in tensors.items()}))


def awq(p: Path) -> None:
    edit_json(p / "shards/config.json", lambda c: c.update(quantization_config={"quant_method": "awq"}))
    for file in (p / "shards").glob("*.safetensors"):
        packed = {name.replace("weight", "qweight"): W.to(torch.int32) for name, W in load_file(file).items()}
        edit(file, lambda tensors, packed=packed: (tensors.clear(), tensors.update(packed)))
    edit_json(
        p / INDEX,
        lambda i: i.update(weight_map={n.replace("weight", "qweight"): f for n, f in i["weight_map"].items()}),
    )


def pickled(p: Path) -> None:
    for file in (p / "shards").glob("model*"):
        file.unlink()
    torch.save({}, p / "shards" / "pytorch_model.bin")


@pytest.mark.parametrize("case", FULL_CASES)
def test_a_broken_full_checkpoint_gets_one_sentence(case: str, broken: Path) -> None:
    spoil, message = FULL_CASES[case]
    spoil(broken)
    assert_one_sentence(["inspect", str(broken / "shards"), "--base", str(broken / "base")], message)


def test_a_folder_of_components_names_them(broken: Path) -> None:
    with pytest.raises(CheckpointError, match=r"its subfolders .*base.* hold weights\. Name the one"):
        open_pair(broken, broken / "base")


def test_an_index_that_disagrees_with_its_shards_is_read_as_transformers_reads_it(broken: Path) -> None:
    edit_json(broken / INDEX, lambda i: i["weight_map"].pop("lm_head.weight"))
    edit_json(broken / INDEX, lambda i: i["weight_map"].update(ghost=next(iter(i["weight_map"].values()))))
    pair = open_pair(broken / "base", broken / "shards", Selection(include="."))
    assert "lm_head" in [str(matrix.name) for matrix in pair.matrices]
    assert any("names tensors that no shard holds: 'ghost'" in warning for warning in pair.warnings)


@pytest.mark.parametrize("target", ["absent/folder", "/no/such/path", "name with spaces"])
def test_a_checkpoint_that_is_nowhere_gets_one_sentence(target: str) -> None:
    assert_one_sentence(["inspect", target], "does not exist|is no local path")


def test_nan_and_infinity_are_counted_and_named(broken: Path) -> None:
    def spoil(tensors: dict) -> None:
        tensors[FACTOR][0, :3] = torch.nan
        tensors[FACTOR][1, 0] = torch.inf

    edit(broken / ADAPTER, spoil)
    (matrix,) = open_pair(broken / "base", broken / "adapter", Selection(layers="0", roles="q_proj")).matrices
    for read in (matrix.update, matrix.W_tuned, matrix.delta_W):
        with pytest.raises(CheckpointError, match=r"q_proj.lora_A.weight' in '.*' holds 3 NaN and 1 infinite values"):
            read()


def test_nan_in_a_full_checkpoint_is_named_by_rows_load_and_digest(broken: Path) -> None:
    edit(
        broken / "base/model.safetensors", lambda t: t["model.layers.1.mlp.up_proj.weight"].view(-1)[5].fill_(torch.nan)
    )
    (matrix,) = open_pair(
        broken / "base", broken / "shards", selection=Selection(include=r"layers\.1\.mlp\.up_proj")
    ).matrices
    for read in (matrix.W0.load, matrix.W0.digest, lambda: matrix.W0.rows(0, 3)):
        with pytest.raises(CheckpointError, match=r"'model.layers.1.mlp.up_proj.weight' in '.*' holds 1 NaN"):
            read()
    assert matrix.W0.rows(1, 3).isfinite().all()


@pytest.mark.parametrize("how", ["shrinks", "is written to", "is replaced", "vanishes"])
def test_a_file_that_changes_while_it_is_read_is_noticed(how: str, broken: Path) -> None:
    file = broken / "base/model.safetensors"
    (matrix, *_) = open_pair(broken / "base", broken / "adapter").matrices
    match how:
        case "shrinks":
            os.truncate(file, file.stat().st_size // 2)
        case "is written to":
            file.write_bytes(file.read_bytes())
            os.utime(file, ns=(1, 1))
        case "is replaced":
            shutil.copy(file, broken / "new")
            (broken / "new").rename(file)
        case "vanishes":
            file.unlink()
    with pytest.raises(CheckpointError, match=r"changed while .* was read|can no longer be read"):
        matrix.W0.load()


def test_a_pickle_runs_no_code_even_when_it_is_allowed(broken: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(broken / "harm"),))

    (broken / ADAPTER).unlink()
    (broken / "adapter/adapter_model.bin").write_bytes(pickle.dumps({"x": Evil()}))
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        open_pair(broken / "base", broken / "adapter", Selection(allow_pickle=True))
    assert not (broken / "harm").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_adapter_is_the_same_adapter(legacy: bool, broken: Path) -> None:
    expected = {
        str(matrix.name): matrix.delta_W() for matrix in open_pair(broken / "base", broken / "adapter").matrices
    }
    tensors = load_file(broken / ADAPTER)
    (broken / ADAPTER).unlink()
    torch.save(tensors, broken / "adapter/adapter_model.bin", _use_new_zipfile_serialization=not legacy)
    pair = open_pair(broken / "base", broken / "adapter", Selection(allow_pickle=True))
    assert len(pair.matrices) == 4
    for matrix in pair.matrices:
        assert torch.equal(matrix.delta_W(), expected[str(matrix.name)])


def test_a_pickled_full_checkpoint_is_the_same_checkpoint(broken: Path) -> None:
    tensors = load_file(broken / "base/model.safetensors")
    (broken / "base/model.safetensors").unlink()
    torch.save(tensors, broken / "base/pytorch_model.bin")
    pair = open_pair(broken / "base", broken / "shards", Selection(allow_pickle=True))
    assert len(pair.matrices) == 14 and all(not matrix.delta_W().any() for matrix in pair.matrices)


def test_a_wrong_base_of_the_same_shapes_is_warned_of(broken: Path) -> None:
    shutil.copytree(broken / "base", broken / "other")
    edit(broken / "other/model.safetensors", lambda t: t.update({name: W.flip(0) for name, W in t.items()}))
    edit_json(broken / CONFIG, lambda c: c.update(base_model_name_or_path=str(broken / "base")))
    assert open_pair(None, broken / "adapter").warnings == ()
    assert open_pair(broken / "base", broken / "adapter").warnings == ()
    (warning,) = open_pair(broken / "other", broken / "adapter").warnings
    assert "trained from" in warning and "whose weights differ from those of" in warning


@given(st.binary(max_size=400))
def test_no_bytes_at_all_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("bytes") / "x.safetensors"
    for content in (data, len(data).to_bytes(8, "little") + data):
        file.write_bytes(content)
        try:
            open_safetensors(file)
        except CheckpointError as error:
            assert str(file) in str(error)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.text(max_size=12) | st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_at_all_crashes_the_reader(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    folder = tmp_path_factory.mktemp("json")
    text = json.dumps(value).encode()
    (folder / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    (folder / "x.json").write_bytes(text)
    for read in (lambda: open_safetensors(folder / "x.safetensors"), lambda: read_object(folder / "x.json")):
        try:
            read()
        except CheckpointError as error:
            assert str(folder) in str(error)
