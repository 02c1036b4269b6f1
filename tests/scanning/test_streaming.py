"""Scans of checkpoints that lie on a hub: what is read, how often, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants

import spectra
from spectra.cli.main import main
from spectra.errors import CheckpointError
from spectra.weights.streams import http
from tests.hub_server import Content, Handler, Hub, running
from tests.scanning.checkpoints import Checkpoints, save

K = 4


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("models"))


@pytest.fixture
def hub(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The base, a fully tuned checkpoint and an adapter on a hub, of which nothing is in the local cache."""
    hub = Hub()
    for name, folder in (("org/base", saved.base), ("org/full", saved.full), ("org/adapter", saved.adapters[1])):
        hub.add_folder(name, folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(http, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    with running(hub):
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        yield hub


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "-k", str(K)])


def refused(*arguments: str) -> str:
    """The one sentence of a command that fails."""
    result = command("intruders", "org/full", "--base", "org/base", "--no-cache", "-q", *arguments)
    assert result.exit_code == 1, result.output + repr(result.exception)
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def headers_of(hub: Hub, name: str) -> int:
    """Bytes of the headers of a model's files of tensors."""
    contents = [content for path, content in hub.models[name].items() if path.endswith(".safetensors")]
    return sum(8 + int.from_bytes(content.read(0, 8), "little") for content in contents)


def test_a_streamed_scan_finds_what_a_local_one_finds_and_reads_each_selected_tensor_once(
    hub: Hub, saved: Checkpoints
) -> None:
    local = spectra.intruders(saved.full, saved.base, k=K)
    told: list[str] = []
    found = spectra.intruders("org/full", "org/base", k=K, notice=told.append)
    assert [vars(v.verdict) for m in found.matrices for v in m.vectors] == [
        vars(v.verdict) for m in local.matrices for v in m.vectors
    ]
    selected = sum(2 * 4 * m.shape[0] * m.shape[1] for m in found.matrices)
    expected = selected + headers_of(hub, "org/base") + headers_of(hub, "org/full")
    served = hub.bytes_of("org/base", ".safetensors") + hub.bytes_of("org/full", ".safetensors")
    assert expected <= served <= 1.01 * expected
    assert found.streamed is not None and found.streamed["planned_bytes"] == selected
    assert selected < found.streamed["read_bytes"] < 1.01 * expected + 20_000  # the texts of configurations
    assert told == [told[0]] and f"{selected:,} bytes of 28 tensors in 2 files" in told[0]


def test_only_what_is_selected_is_read(hub: Hub) -> None:
    found = spectra.scan(
        "org/full", "org/base", k=K, metrics="intruders,update", selection=spectra.Selection(layers=0, roles="q_proj")
    )
    selected = 2 * 4 * 96 * 96
    assert len(found.matrices) == 1
    served = hub.bytes_of("org/base", ".safetensors") + hub.bytes_of("org/full", ".safetensors")
    assert served <= 1.01 * (selected + headers_of(hub, "org/base") + headers_of(hub, "org/full")) + 1100


def test_an_adapter_on_the_hub_is_scanned_on_a_streamed_base_and_nothing_is_stored(
    hub: Hub, saved: Checkpoints, tmp_path: Path
) -> None:
    result = command("intruders", "org/adapter", "--base", "org/base", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["count"] == spectra.intruders(saved.adapters[1], k=K).count
    assert "Reading " in result.stderr and found["streamed"]["files"] == 2
    assert not (tmp_path / "hub").exists()
    assert not [path for path in (tmp_path / "cache").rglob("*.safetensors") if "factors" not in path.parts]


def test_inspect_reads_headers_alone(hub: Hub) -> None:
    result = CliRunner().invoke(main, ["inspect", "org/full", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["matrices"]
    assert hub.bytes_of("org/full", ".safetensors") <= headers_of(hub, "org/full") + 2000


def test_compare_streams_too(hub: Hub, saved: Checkpoints) -> None:
    result = command("compare", "org/full", str(saved.adapters[0]), "--base", "org/base", "--draws", "2", "--json")
    assert result.exit_code == 0, result.output
    local = command(
        "compare", str(saved.full), str(saved.adapters[0]), "--base", str(saved.base), "--draws", "2", "--json"
    )
    assert [row["count"] for row in json.loads(result.stdout)["checkpoints"]] == [
        row["count"] for row in json.loads(local.stdout)["checkpoints"]
    ]


def test_shards_of_an_index_are_read_where_they_lie(hub: Hub, saved: Checkpoints, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    LlamaForCausalLM.from_pretrained(saved.full).save_pretrained(tmp_path / "sharded", max_shard_size="200KB")
    hub.add_folder("org/sharded", tmp_path / "sharded")
    found = spectra.intruders("org/sharded", "org/base", k=K)
    assert found.streamed is not None and found.streamed["files"] > 3
    assert found.count == spectra.intruders(saved.full, saved.base, k=K).count


def test_a_streamed_matrix_beyond_the_memory_is_read_in_blocks_with_the_same_verdicts(
    hub: Hub, saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectra.engine.storage.WORKSPACE_VECTORS", 1 << 20)  # nothing fits, and nothing is held
    monkeypatch.setattr("spectra.engine.storage.SMALLEST_CHUNK_BYTES", 20_000)
    monkeypatch.setattr("spectra.scanning.scan.read_ahead_bytes", lambda memory: 0)  # such small ones would be held
    selection = spectra.Selection(layers=0, roles="up_proj,down_proj")
    local = spectra.intruders(saved.full, saved.base, k=K, selection=selection, method="certified")
    found = spectra.intruders(
        "org/full", "org/base", k=K, selection=selection, method="certified", memory_bytes=1 << 26
    )
    assert [m.count for m in found.matrices] == [m.count for m in local.matrices]
    counted = sum(reads * 4 * m.shape[0] * m.shape[1] for m in found.matrices for reads in (m.reads or {}).values())
    assert found.streamed is not None and counted > found.streamed["planned_bytes"]
    assert abs(found.streamed["read_bytes"] - counted) < 0.02 * counted + 30_000


def test_a_cut_connection_is_taken_up_where_it_was(hub: Hub, saved: Checkpoints) -> None:
    cuts = 0

    def cut(handler: Handler, key: str, content: Content) -> bool:
        nonlocal cuts
        first, last = handler.asked_range(content.size) or (0, 0)
        if last - first < 30_000 or cuts >= 5:
            return False
        cuts += 1
        handler.send(key, content, cut=10_000)
        return True

    hub.fault = cut
    found = spectra.intruders("org/full", "org/base", k=K)
    assert cuts == 5 and found.streamed is not None and found.streamed["retries"] >= 5
    assert found.count == spectra.intruders(saved.full, saved.base, k=K).count
    assert found.streamed["read_bytes"] < 1.02 * found.streamed["planned_bytes"] + 40_000


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(hub: Hub, status: int) -> None:
    answered = 0

    def busy(handler: Handler, key: str, content: Content) -> bool:
        nonlocal answered
        answered += 1
        if answered % 3:
            return False
        handler.plain(status, headers={"Retry-After": "0"})
        return True

    hub.fault = busy
    selection = spectra.Selection(layers=0, roles="q_proj")
    assert spectra.intruders("org/full", "org/base", k=K, selection=selection).count >= 0


def test_a_file_that_changes_while_it_is_read_is_refused(hub: Hub) -> None:
    def replaced(handler: Handler, key: str, content: Content) -> bool:
        first, _ = handler.asked_range(content.size) or (0, 0)
        if first < 10_000 or not key.startswith("org/full"):
            return False
        handler.send(key, content, etag="another")
        return True

    hub.fault = replaced
    assert "was replaced while it was read" in refused()


def test_another_commit_than_the_one_that_was_opened_is_refused(hub: Hub) -> None:
    def moved(handler: Handler, key: str, content: Content) -> bool:
        hub.commit = "f" * 40
        return False

    hub.fault = moved
    assert "of another commit" in refused()


def whole(handler: Handler, key: str, content: Content) -> bool:
    if "Range" in handler.headers:
        handler.headers.replace_header("Range", "none")
    return False


def elsewhere(handler: Handler, key: str, content: Content) -> bool:
    if handler.asked_range(content.size) is None:
        return False
    handler.headers.replace_header("Range", "bytes=8-15")
    return False


def of_another_size(handler: Handler, key: str, content: Content) -> bool:
    if not handler.asked_range(content.size) or handler.asked_range(content.size) == (0, 7):
        return False
    handler.send(key, Content(content.size + 8, content.read, content.etag))
    return True


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (whole, "ignores which bytes it is asked for"),
        (elsewhere, "sends other bytes than it was asked for"),
        (of_another_size, "or of a file of another size"),
        (
            lambda handler, *_: handler.plain(404) or True,
            "(does not exist on the server|holds no safetensors|is no check)",
        ),
        (lambda handler, *_: handler.plain(401) or True, "refuses .* Log in with `hf auth login`"),
        (lambda handler, *_: handler.plain(403) or True, "refuses .* Log in with `hf auth login`"),
        (lambda handler, *_: handler.plain(500) or True, r"could not be read in \d attempts \(status 500\)"),
    ],
)
def test_a_server_that_cannot_be_read_gets_one_sentence(hub: Hub, fault: object, sentence: str) -> None:
    import re

    hub.fault = fault  # type: ignore[assignment]
    assert re.search(sentence, refused())


def test_an_unknown_model_gets_one_sentence(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="knows no model 'org/nobody'"):
        spectra.intruders("org/nobody", "org/base", k=K)


def header(text: bytes, length: int | None = None, size: int = 0) -> Content:
    content = (len(text) if length is None else length).to_bytes(8, "little") + text
    return Content(size or len(content), lambda start, stop: content[start:stop].ljust(stop - start, b"\0"), "e")


LYING = json.dumps({"x.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 1600]}}).encode()
BEYOND = json.dumps({"x.weight": {"dtype": "F32", "shape": [20, 20], "data_offsets": [0, 1600]}}).encode()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (header(LYING, size=8 + len(LYING) + 1600), "shape \\[2, 2\\] needs 16"),
        (header(BEYOND), "is truncated: tensor 'x.weight' ends at byte"),
        (header(b"", length=1 << 40, size=1 << 41), "its header claims 1099511627776 bytes"),
        (header(b"", length=26_000_000, size=1 << 30), "its header claims 26000000 bytes"),
        (header(b"[]"), "no valid safetensors header"),
        (Content.of(b"abc"), "the file has 3"),
    ],
)
def test_a_header_that_lies_is_refused_before_anything_else_is_read(hub: Hub, content: Content, sentence: str) -> None:
    import re

    hub.models["org/full"]["model.safetensors"] = content
    assert re.search(sentence, refused())
    assert hub.bytes_of("org/full", ".safetensors") < 1000


def test_a_server_that_drips_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(http, "ATTEMPTS", 2)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "0.2")

    def drip(handler: Handler, key: str, content: Content) -> bool:
        first, last = handler.asked_range(content.size) or (0, 0)
        if last - first < 5000:
            return False
        handler.send_response(206)
        handler.send_header("Content-Length", str(last - first + 1))
        handler.send_header("Content-Range", f"bytes {first}-{last}/{content.size}")
        handler.send_header("ETag", content.etag)
        handler.send_header("X-Linked-Etag", content.etag)
        handler.end_headers()
        for start in range(first, first + 100):
            handler.write(key, content.read(start, start + 1))
            time.sleep(0.02)
        return True

    hub.fault = drip
    began = time.monotonic()
    assert "could not be read in" in refused()
    assert time.monotonic() - began < 5


def test_an_interrupted_scan_reads_only_what_is_missing(hub: Hub) -> None:
    from spectra.engine.cache import FactorCache
    from spectra.records.interrupted import Interrupted

    def stop(done: int, of: int, name: str) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        spectra.intruders("org/full", "org/base", k=K, cache=FactorCache(), progress=stop)
    hub.reset()
    found = spectra.intruders("org/full", "org/base", k=K, cache=FactorCache())
    missing = found.matrices[10:]
    left = sum(2 * 4 * m.shape[0] * m.shape[1] for m in missing)
    served = hub.bytes_of("org/base", ".safetensors") + hub.bytes_of("org/full", ".safetensors")
    assert len(found.matrices) == 14 and left <= served < 1.05 * left + 20_000


def test_a_journal_of_another_version_is_not_taken_up(hub: Hub, saved: Checkpoints) -> None:
    from spectra.engine.cache import FactorCache
    from spectra.records.interrupted import Interrupted

    def stop(done: int, of: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        spectra.intruders("org/full", "org/base", k=K, cache=FactorCache(), progress=stop)
    hub.commit = "e" * 40
    hub.add_folder("org/full", saved.base)
    again = spectra.intruders("org/full", "org/base", k=K, cache=FactorCache())
    assert all(v.max_cosine > 0.99 for m in again.matrices for v in m.vectors)


def test_the_login_goes_to_the_hub_alone_and_into_no_message(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "hf_secretsecretsecret"
    monkeypatch.setenv("HF_TOKEN", token)
    store = Hub()
    store.models = hub.models

    def send_on(handler: Handler, key: str, content: Content) -> bool:
        path = key.replace("/model", "/resolve/x/model")
        handler.plain(302, headers={
            "Location": f"{store.url.replace('127.0.0.1', 'localhost')}/{path}?sig=s3cret",
            "X-Repo-Commit": hub.commit, "X-Linked-Etag": f'"{content.etag}"',
        })  # fmt: skip
        return True

    with running(store):
        hub.fault = send_on
        result = command("intruders", "org/full", "--base", "org/base", "--no-cache", "--json")
        assert result.exit_code == 0, result.output
        assert f"Bearer {token}" in hub.authorised and store.authorised == {None}
        store.fault = lambda handler, *_: handler.plain(500) or True
        failed = refused()
    for text in (result.output, failed):
        assert token not in text and "s3cret" not in text


def test_an_address_is_read_like_a_hub(hub: Hub, saved: Checkpoints) -> None:
    base, full = (f"{hub.url}/org/{name}/resolve/main" for name in ("base", "full"))
    found = spectra.intruders(f"{full}/model.safetensors?sig=s3cret", base, k=K)
    assert found.count == spectra.intruders(saved.full, saved.base, k=K).count
    assert "s3cret" not in json.dumps(found.to_dict())
    with pytest.raises(CheckpointError, match="needs the files"):
        spectra.open_pair(base, full)


def test_an_object_store_is_read_through_fsspec(saved: Checkpoints) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for name, folder in (("base", saved.base), ("full", saved.full)):
        for path in folder.iterdir():
            store.pipe_file(f"/bucket/{name}/{path.name}", path.read_bytes())
    found = spectra.intruders("memory://bucket/full", "memory://bucket/base", k=K)
    assert found.streamed is not None and found.streamed["read_bytes"] > found.streamed["planned_bytes"]
    assert found.count == spectra.intruders(saved.full, saved.base, k=K).count


@pytest.mark.parametrize("address", ["s3://bucket/full", "gs://bucket/full"])
def test_a_store_whose_package_is_absent_is_one_sentence(
    address: str, saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CheckpointError, match=r"needs the package (s3fs|gcsfs), which is not installed"):
        spectra.intruders(address, saved.base, k=K)


def test_an_adapter_that_names_an_address_is_not_followed(saved: Checkpoints, tmp_path: Path, hub: Hub) -> None:
    import shutil

    adapter = shutil.copytree(saved.adapters[1], tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"{hub.url}/org/base/resolve/main"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="names the address"):
        spectra.intruders(adapter, k=K)
    assert not hub.asked


def test_without_streaming_a_model_of_the_hub_is_downloaded(
    hub: Hub, saved: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def snapshot(repo: str, revision: str | None, *, local_files_only: bool) -> Path | None:
        asked.append(repo)
        return None if local_files_only else saved.full

    monkeypatch.setattr("spectra.weights.formats.hub._snapshot", snapshot)
    result = CliRunner().invoke(main, ["inspect", "org/full", "--no-stream", "--json"])
    assert result.exit_code == 0, result.output
    assert "org/full" in asked and not hub.asked
