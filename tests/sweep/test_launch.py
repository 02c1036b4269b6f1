"""Trials that two processes share: equal to one process, resumed after a kill, refused before anything runs."""

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from spectra.errors import RunError, SpecificationError
from spectra.runs import Run
from spectra.storage.atomic import write_json
from spectra.sweep import run_sweep
from spectra.sweep.execution.local import devices_of_workers
from spectra.sweep.spec.kinds import kind_from_dict
from spectra.sweep.spec.plan import plan
from spectra.sweep.spec.read import read_specification
from spectra.sweep.trial.launched import LaunchDiedError, result_of
from spectra.training.distributed import own_rows
from spectra.training.settings import Launch

FSDP = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "FSDP",
    "num_machines": 1,
    "num_processes": 2,
    "mixed_precision": "no",
    "use_cpu": True,
    "fsdp_config": {
        "fsdp_version": 2,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "FULL_STATE_DICT",
    },
}


def config(folder: Path, **changed: Any) -> str:
    path = folder / "accelerate.yaml"
    path.write_text(yaml.safe_dump({**FSDP, **changed}))
    return str(path)


def weights(run: Run) -> dict[str, torch.Tensor]:
    [trial] = run.trials()
    return load_file(trial.checkpoint / "model.safetensors")


def kill_a_process(folder: Path, killed: list[int]) -> None:
    """Kill the second process of the first trial once a checkpoint is whole."""
    while not list(folder.glob("trials/*/training/checkpoint-*/trainer_state.json")):
        time.sleep(0.02)
    for one in psutil.Process().children(recursive=True):
        if "spectra.sweep.trial.process" in " ".join(one.cmdline()) and one.environ().get("RANK") == "1":
            os.kill(one.pid, signal.SIGKILL)
            killed.append(one.pid)
            return


def test_two_processes_train_what_one_does_and_go_on_after_a_kill(given: dict[str, Any], tmp_path: Path) -> None:
    one = run_sweep(given, tmp_path / "one", executor="inline")
    launched = {**given, "launch": {"accelerate": config(tmp_path)}}
    killed: list[int] = []
    killing = threading.Thread(target=kill_a_process, args=(tmp_path / "two", killed))
    killing.start()
    two = run_sweep(launched, tmp_path / "two", executor="inline", save_seconds=0.0)
    killing.join()
    assert killed
    assert two.table("trials")["error"].str.contains("launch of 2 processes ended with code 1").all()
    two = run_sweep(launched, tmp_path / "two", executor="inline")
    assert set(two.table("trials")["status"]) == {"done"}
    for name, tensor in weights(two).items():
        # Two half sums are added where there was one: some units in the last place, grown by eight steps of Adam.
        torch.testing.assert_close(tensor, weights(one)[name], atol=1e-5, rtol=1e-4, msg=name)
    for table, column in (("history", "loss"), ("trajectory", "count"), ("trajectory", "update_frobenius")):
        alike = pd.concat([one.table(table)[column], two.table(table)[column]], axis=1)
        assert len(alike) and alike.iloc[:, 0].to_numpy() == pytest.approx(alike.iloc[:, 1].to_numpy(), rel=1e-4)
    scores = [run.table("trials")["validation_score"].to_numpy() for run in (one, two)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    assert list(one.table("trials")["label"]) == list(two.table("trials")["label"])
    assert set(one.table("trials")["trial"]).isdisjoint(two.table("trials")["trial"])


def test_a_process_that_fails_is_reported_in_its_own_words(given: dict[str, Any], tmp_path: Path) -> None:
    there = tmp_path / "launch"
    there.mkdir()
    launch = Launch("accelerate.yaml", 2, "fsdp2")
    # The first to notice that another one is gone: it says nothing of why.
    lost = {"error": "RuntimeError: Connection closed by peer.", "rank": 0, "when": 0.0, "another_is_gone": True}
    write_json(there / "failure-0.json", lost)
    with pytest.raises(LaunchDiedError, match="The launch of 2 processes ended with code 1"):
        result_of(there, 1, launch)
    own = {"error": "The loss is nan.", "rank": 1, "when": 1.0, "another_is_gone": False}
    write_json(there / "failure-1.json", own)
    with pytest.raises(RunError, match=r"^The loss is nan\. \(Process 2 of 2\.\)$"):
        result_of(there, 1, launch)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"num_processes": 1}, "num_processes 1. Give a number of at least 2"),
        ({"num_processes": "two"}, "num_processes 'two'"),
        ({"num_processes": 3}, "Make batch_size a multiple of 3"),
        ({"num_machines": 2}, "a trial stays on one machine"),
        ({"compute_environment": "AMAZON_SAGEMAKER"}, "A trial runs on LOCAL_MACHINE"),
        ({"distributed_type": "DEEPSPEED"}, "has distributed_type 'DEEPSPEED'. Use MULTI_GPU"),
        ({"distributed_type": ["FSDP"]}, "has distributed_type ['FSDP']. Use MULTI_GPU"),
        ({"fsdp_config": {"fsdp_version": 1}}, "Write fsdp_version: 2"),
        ({"fsdp_config": None}, "Write fsdp_version: 2"),
        ({"mixed_precision": "bf16"}, "mixed_precision bf16, and precision is float32"),
    ],
)
def test_a_launch_that_cannot_be_is_refused_before_anything_runs(
    given: dict[str, Any], tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    launched = {**given, "launch": {"accelerate": config(tmp_path, **changed)}}
    with pytest.raises(SpecificationError, match=re.escape(sentence)):
        plan(read_specification(launched))


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [", "a: 1\na: 2\n"])
def test_what_is_no_configuration_is_refused(given: dict[str, Any], tmp_path: Path, text: str) -> None:
    (tmp_path / "accelerate.yaml").write_text(text)
    launched = {**given, "launch": {"accelerate": str(tmp_path / "accelerate.yaml")}}
    with pytest.raises(SpecificationError, match=r"accelerate\.yaml"):
        plan(read_specification(launched))


def test_a_configuration_that_is_absent_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpecificationError, match=r"does not exist\. Write it with `accelerate config"):
        plan(read_specification({**given, "launch": {"accelerate": str(tmp_path / "none.yaml")}}))


def test_a_launch_of_one_method_leaves_the_others_alone(given: dict[str, Any], tmp_path: Path) -> None:
    lora = {"method": "lora", "rank": 2, "learning_rate": 1e-2}
    given["methods"] = [{**given["methods"][0], "launch": {"accelerate": config(tmp_path)}}, lora]
    full, adapter = plan(read_specification(given))
    assert full.training and full.training.launch and full.training.launch.processes == 2
    assert adapter.training and adapter.training.launch is None
    assert kind_from_dict(full.kind.to_dict()) == full.kind


def test_where_the_configuration_lies_is_no_part_of_a_trial(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    places = [config(tmp_path), config(tmp_path / "elsewhere")]
    one, other = (plan(read_specification({**given, "launch": {"accelerate": place}}))[0] for place in places)
    ddp = config(tmp_path, distributed_type="MULTI_GPU")
    [copies] = plan(read_specification({**given, "launch": {"accelerate": ddp}}))
    [alone] = plan(read_specification(given))
    assert one.id == other.id and len({one.id, copies.id, alone.id}) == 3
    assert one.label == alone.label


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"methods": [{"method": "adalora", "rank": 2, "learning_rate": 1e-2}]}, "method 'adalora' looks at whole"),
        ({"methods": [{"method": "l2-init", "rank": 2, "learning_rate": 1e-2}]}, "method 'l2-init' looks at whole"),
        ({"quantisation": "nf4", "methods": [{"method": "lora", "rank": 2, "learning_rate": 1e-2}]}, "quantisation"),
        ({"launch": {"accelerate": ""}}, "at least 1 character"),
        ({"launch": {"accelerat": "x"}}, "Did you mean 'accelerate'?"),
    ],
)
def test_what_processes_cannot_share_is_refused(
    given: dict[str, Any], tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecificationError, match=re.escape(sentence)):
        read_specification({**given, "launch": {"accelerate": config(tmp_path)}, **changed})


def test_the_last_batch_of_an_epoch_has_no_row_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = {"labels": torch.arange(4)}
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(own_rows(batch, 5, 4))
    assert [(part["labels"].tolist(), counts) for part, counts in parts] == [
        ([0, 1, 2, 3], True),
        ([0], True),
        ([0], False),
    ]


@pytest.mark.parametrize(
    ("workers", "per_trial", "seen"),
    [
        (None, 1.0, ["0", "1", "2", "3", "4"]),
        (None, 2.0, ["0,1", "2,3"]),
        (3, 2.0, ["0,1", "2,3", "0,1"]),
        (None, 0.5, ["0", "0", "1", "1", "2", "2", "3", "3", "4", "4"]),
    ],
)
def test_every_worker_has_gpus_of_its_own(
    workers: int | None, per_trial: float, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 5)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in devices_of_workers(workers, per_trial)] == seen
    with pytest.raises(RunError, match="A trial takes 6 GPUs, and this machine has 5"):
        devices_of_workers(None, 6.0)


def test_workers_on_one_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert devices_of_workers(None, 1.0) == [{}]
    assert devices_of_workers(3, 1.0) == [{"OMP_NUM_THREADS": "2"}] * 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert devices_of_workers(3, 1.0) == [{}] * 3
