"""A scan spread over two nodes of a Ray cluster, both on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from spectra.cluster import SpreadScan
from spectra.errors import ClusterError, SpectraError
from spectra.records.selection import Selection
from spectra.scanning.scan import PartialScan, scan_checkpoints
from spectra.scanning.settings import ScanSettings
from spectra.weights import open_pair
from tests import tiny
from tests.hub_server import Hub, running

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

# One definite method: what "auto" chooses depends on what the cache holds already.
SETTINGS = ScanSettings(method="exact")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """A base and two adapters."""
    folder = tmp_path_factory.mktemp("models")
    base = tiny.save_model(folder / "llama", "llama")
    for rank in (1, 2):
        model = AutoModelForCausalLM.from_pretrained(base)
        config = LoraConfig(r=rank, lora_alpha=8 * rank, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(model, config).save_pretrained(folder / f"adapter-{rank}")
    return base, str(folder / "adapter-1"), str(folder / "adapter-2")


def without_time(partial: PartialScan) -> list[Any]:
    return [[{**row, "seconds": 0.0} for row in (*scan.matrix_rows(), *scan.vector_rows())] for scan in partial.scans()]


def test_two_nodes_find_what_one_process_finds(cluster: Any, checkpoints: tuple[str, str, str]) -> None:
    base, *adapters = checkpoints
    pairs = [open_pair(base, adapter) for adapter in adapters]
    local, spread = PartialScan(pairs, SETTINGS), PartialScan(pairs, SETTINGS)
    local.run()
    seen: list[tuple[int, int, str]] = []
    spread.run(lambda *what: seen.append(what), SpreadScan("auto")(adapters, base, Selection(), SETTINGS, False))
    assert without_time(spread) == without_time(local)
    assert len(seen) == len(pairs[0].matrices)
    assert seen[-1][:2] == (2 * len(pairs[0].matrices),) * 2


def test_the_command_prints_the_same_counts(cluster: Any, checkpoints: tuple[str, str, str]) -> None:
    from spectra.cli.main import main

    base, adapter, _ = checkpoints
    given = ["intruders", adapter, "--base", base, "--method", "exact", "--no-cache", "--quiet"]
    alone, together = CliRunner().invoke(main, given), CliRunner().invoke(main, [*given, "--ray", "auto"])
    assert together.exit_code == 0, together.output
    assert [line.split()[:3] for line in together.stdout.splitlines()] == [
        line.split()[:3] for line in alone.stdout.splitlines()
    ]


def test_what_a_node_cannot_open_is_said_in_the_words_of_the_scan(
    cluster: Any, checkpoints: tuple[str, str, str]
) -> None:
    base, adapter, _ = checkpoints
    partial = PartialScan([open_pair(base, adapter)], SETTINGS)
    with pytest.raises(SpectraError, match="nowhere"):
        partial.run(None, SpreadScan("auto")(["./nowhere"], base, Selection(), SETTINGS, False))


def test_a_node_that_dies_leaves_its_matrices_to_the_others(cluster: Any, checkpoints: tuple[str, str, str]) -> None:
    base, adapter, _ = checkpoints
    partial, alone = (PartialScan([open_pair(base, adapter)], SETTINGS) for _ in range(2))

    def kill_a_node(done: int, of: int, name: str) -> None:
        if len(cluster.list_all_nodes()) == 2:
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    partial.run(kill_a_node, SpreadScan("auto")([adapter], base, Selection(), SETTINGS, False))
    alone.run()
    assert without_time(partial) == without_time(alone)


def test_no_cluster_is_one_sentence(checkpoints: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    base, adapter, _ = checkpoints
    partial = PartialScan([open_pair(base, adapter)], SETTINGS)
    with pytest.raises(ClusterError, match=r"No Ray cluster answers at 'nowhere\.invalid:6379'"):
        partial.run(None, SpreadScan("nowhere.invalid:6379")([adapter], base, Selection(), SETTINGS, True))


def test_nodes_read_each_tensor_of_a_hub_once_in_the_whole_cluster(
    cluster: Any, checkpoints: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    base, adapter, _ = checkpoints
    hub = Hub()
    hub.add_folder("org/base", Path(base))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with running(hub):
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        [found] = scan_checkpoints([adapter], "org/base", SETTINGS, spread=SpreadScan("auto"))
    [local] = scan_checkpoints([adapter], base, SETTINGS)
    assert [m.count for m in found.matrices] == [m.count for m in local.matrices]
    content = hub.models["org/base"]["model.safetensors"]
    head = 8 + int.from_bytes(content.read(0, 8), "little")
    assert found.streamed is not None
    served = hub.bytes_of("org/base", ".safetensors")
    assert found.streamed["planned_bytes"] <= served - 2 * head  # of two nodes or three processes
    assert served <= found.streamed["planned_bytes"] + 3 * head
