"""Every model that a command is going to need is tried before anything is computed or written."""

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from spectra.cli.main import main
from tests import tiny

MEASURED = ("--limit", "8", "--max-length", "16", "-q")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two adapters, a full checkpoint and texts."""
    folder = tmp_path_factory.mktemp("models")
    base = tiny.save_model(folder / "base", "llama")
    for seed in (1, 2):
        config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        model.peft_config["default"].base_model_name_or_path = base
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn_like(parameter)
        model.save_pretrained(folder / f"adapter-{seed}")
        full = model.merge_and_unload()
    full.save_pretrained(folder / "full")
    tiny.save_prose(folder / "texts.jsonl", 20)
    return folder


def setting(name: str, value: object) -> Callable[[Path], object]:
    """Change one setting of a configuration."""

    def change(file: Path) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))

    return change


def beyond_arithmetic(file: Path) -> None:
    """Finite weights whose logits are not."""
    tensors = load_file(file)
    tensors["lm_head.weight"] = 3e38 * torch.sign(tensors["lm_head.weight"])
    save_file(tensors, file, metadata={"format": "pt"})


# What is spoilt, how, and which commands need it: measured after hours of other work, unless it is tried first.
SPOILT: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "an activation that nobody has": ("full/config.json", setting("hidden_act", "none of them"), "full"),
    "another number of heads": ("full/config.json", setting("num_attention_heads", 3), "full"),
    "numbers beyond arithmetic": ("full/model.safetensors", beyond_arithmetic, "full"),
    "a base that cannot be loaded": ("base/config.json", setting("model_type", "nobody"), "all"),
    "a tokenizer that cannot pad": ("base/tokenizer_config.json", Path.unlink, "all"),
    "a base without a tokenizer": ("base/tokenizer.json", Path.unlink, "all"),
    "a file that is no JSON": ("adapter-1/config.json", lambda file: file.write_text("{"), "adapter"),
    "a rank beyond its tensors": ("adapter-1/adapter_config.json", setting("r", 10**9), "adapter"),
    "an adapter that cannot be merged": (
        "adapter-1/adapter_config.json",
        setting("alora_invocation_tokens", [1]),
        "edited",
    ),
    "a setting that peft refuses": ("adapter-1/adapter_config.json", setting("arrow_config", 7), "adapter"),
}
COMMANDS: dict[str, dict[str, tuple[str, ...]]] = {
    "full": {
        "forget": ("forget", "full", "--base", "base"),
        "intervene": ("intervene", "full", "--base", "base", "-k", "3"),
        "extract": ("extract", "full", "--base", "base", "--rank", "2"),
    },
    "adapter": {
        "forget": ("forget", "adapter-2", "adapter-1"),
        "intervene": ("intervene", "adapter-1", "-k", "3"),
        "resize": ("resize", "adapter-1", "--rank", "1"),
        "merge": ("merge", "adapter-2", "adapter-1", "--rank", "2", "--no-critical"),
    },
}
COMMANDS["edited"] = {"intervene": COMMANDS["adapter"]["intervene"]}
PLAN = ("plan", "base", "--task", "texts.jsonl", "--steps", "3", "--pilot-steps", "1", "--no-full")
COMMANDS["all"] = {**COMMANDS["full"], **COMMANDS["adapter"], "plan": PLAN}
CASES = [(kind, command) for kind, (_, _, needed) in SPOILT.items() for command in COMMANDS[needed]]


@pytest.mark.parametrize(("kind", "command"), CASES)
def test_nothing_is_written_before_every_model_was_tried(
    kind: str, command: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    file, change, needed = SPOILT[kind]
    spoilt = place / file
    whole = spoilt.read_bytes() if spoilt.exists() else None
    try:
        change(spoilt)
        limits = ("-q",) if command == "plan" else MEASURED
        arguments = [*COMMANDS[needed][command], "--heldout", "texts.jsonl:lm-loss", *limits]
        result = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "out")])
    finally:
        spoilt.unlink(missing_ok=True)
        if whole is not None:
            spoilt.write_bytes(whole)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.count("Error: ") == 1
    assert not (tmp_path / "out").exists()
