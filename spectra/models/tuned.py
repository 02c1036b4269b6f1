"""Tuned models: an adapter on its base, or a full checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError, safe_open

from spectra.errors import AdapterError, ModelError, first_five
from spectra.models.base import load_base, load_kind, load_model, load_tokenizer
from spectra.models.heads import adapter_label_names, name_outputs
from spectra.models.kinds import KIND_OF_TASK_TYPE, LoadedModel, ModelKind
from spectra.storage.json_file import read_object
from spectra.storage.regular import require_regular
from spectra.weights.matching.architecture import build_errors
from spectra.weights.matching.proportion import require_proportionate_adapter
from spectra.weights.methods.bounded_patterns import require_bounded

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

HEAD_WEIGHTS = ("classifier.weight", "classifier.out_proj.weight", "score.weight")


def load_tuned(
    checkpoint: str | Path,
    *,
    base: str | None = None,
    kind: ModelKind | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> LoadedModel:
    """Load a tuned model: a peft adapter on a fresh copy of its base, or a full checkpoint.

    Args:
        checkpoint: Folder of the adapter or of the full checkpoint.
        base: Base of an adapter; None takes `base_model_name_or_path` of the adapter. A full checkpoint without a
            tokenizer takes the base's.
        kind: None reads it from the checkpoint's configuration.
        dtype: Arithmetic and storage of the weights.
        device: Where to put it.

    Raises:
        AdapterError: If the adapter is incomplete.
        ModelError: If the model or its base cannot be found, or the kind is not stated anywhere.
    """
    folder = Path(checkpoint)
    kind = kind or tuned_kind(folder)
    if not is_adapter(folder):
        has_tokenizer = any(folder.glob("tokenizer*"))
        tokenizer = load_tokenizer(str(folder) if has_tokenizer or base is None else base)
        model, random = load_model(str(folder), kind, tokenizer, None, dtype, device)
        return LoadedModel(model, tokenizer, str(folder), kind, random)
    reference = base or base_of(folder)
    labels = adapter_labels(folder)
    loaded = load_base(reference, kind, num_labels=labels, dtype=dtype, device=device)
    if names := adapter_label_names(folder):
        name_outputs(loaded.model.config, names)
    random = loaded.random_head if labels is None else ()  # its own head replaces the base's
    tuned = attach(cast("PreTrainedModel", loaded.model), folder)
    return LoadedModel(tuned, loaded.tokenizer, str(checkpoint), kind, random)


def attach(model: "PreTrainedModel", folder: Path) -> "PeftModel":
    """Put an adapter on a model that is already loaded; `unload()` of the result takes it off again.

    Raises:
        AdapterError: If its weights are no safetensors file or do not fit the model, or it changes no weight.
    """
    from peft import PeftModel

    names = _names(folder)
    config = folder / "adapter_config.json"
    told = read_object(config)
    require_bounded(told, [name for name, _ in model.named_modules()], config)
    require_proportionate_adapter(told, _longest(folder), str(config))
    try:
        tuned = PeftModel.from_pretrained(model, folder).eval()
    except build_errors() as error:  # other shapes, no such modules, unknown fields
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip().rstrip(".")
        if isinstance(error, KeyError) and any(reason.strip("'\"").endswith(head) for head in HEAD_WEIGHTS):
            raise AdapterError(
                f"Adapter '{folder}' was saved without its head: {reason} is in no file and would be random. "
                "Save it with its head (modules_to_save)."
            ) from error
        raise AdapterError(
            f"Adapter '{folder}' does not fit {type(model).__name__}: {reason}. Check that it was trained on this base."
        ) from error
    if tuned.active_peft_config.is_prompt_learning:
        raise AdapterError(f"Adapter '{folder}' learns a prompt and changes no weight. Use a LoRA-like adapter.")
    _require_all_factors(tuned, folder, names)
    return tuned


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a peft adapter rather than a full checkpoint."""
    return (folder / "adapter_config.json").is_file()


def base_of(folder: Path) -> str:
    """The base that an adapter names.

    Raises:
        AdapterError: If it names none.
    """
    reference = read_object(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(reference, str) or not reference:
        raise AdapterError(f"Adapter '{folder}' does not name its base. Give it with --base.")
    return reference


def tuned_kind(folder: Path) -> ModelKind:
    """The kind that a checkpoint's configuration states; of an adapter that states none, its base's kind.

    Raises:
        ModelError: If the folder is no checkpoint, or the base of such an adapter cannot be found.
    """
    if is_adapter(folder):
        stated = read_object(folder / "adapter_config.json").get("task_type")
        return KIND_OF_TASK_TYPE[stated] if stated in KIND_OF_TASK_TYPE else load_kind(base_of(folder))
    if not (folder / "config.json").is_file():
        raise ModelError(f"'{folder}' holds neither adapter_config.json nor config.json. Name a checkpoint folder.")
    return load_kind(str(folder))


def adapter_labels(folder: Path) -> int | None:
    """Width of the classification head that was saved with an adapter, or None without one."""
    heads = [name for name in _names(folder) if name.endswith(HEAD_WEIGHTS)]
    if not heads:
        return None
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        return cast(int, weights.get_slice(heads[0]).get_shape()[0])


def _longest(folder: Path) -> int:
    """The longest axis of an adapter's tensors."""
    names = _names(folder)
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        return max((max(weights.get_slice(name).get_shape(), default=1) for name in names), default=1)


def _names(folder: Path) -> list[str]:
    """Names of the tensors that an adapter holds."""
    file = folder / "adapter_model.safetensors"
    require_regular(file, AdapterError)
    if not file.is_file():
        found = ", ".join(sorted(path.name for path in folder.glob("adapter_model*"))) or "no weights"
        raise AdapterError(f"Adapter '{folder}' has {found} instead of adapter_model.safetensors. Save it again.")
    try:
        with safe_open(file, framework="pt") as weights:
            return sorted(weights.keys())
    except SafetensorError as error:
        raise AdapterError(f"'{file}' is no readable safetensors file: {error}. Save or download it again.") from error


def _require_all_factors(tuned: "PeftModel", folder: Path, names: list[str]) -> None:
    """Refuse an adapter whose LoRA factors have other names than the model's.

    peft loads what fits and only warns of the rest: the model would be measured as if it were untouched.
    """
    from peft import LoraConfig, get_peft_model_state_dict

    if not isinstance(tuned.active_peft_config, LoraConfig):
        return
    wanted = {name for name in get_peft_model_state_dict(tuned, save_embedding_layers=False) if ".lora_" in name}
    strange = sorted(wanted.symmetric_difference(name for name in names if ".lora_" in name))
    if strange:
        raise AdapterError(
            f"The LoRA factors of '{folder}' and the modules of {type(tuned.get_base_model()).__name__} differ: "
            f"{first_five(strange)}. Check that the adapter was trained on this base and kind of model."
        )
