"""Models and tokenizers: a base by asset name, folder or hub id; a tuned checkpoint on top of its base.

No repository's code is ever run and no pickle is ever opened: weights come from safetensors files only.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from peft import PeftConfig, PeftModel
from safetensors import safe_open
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from spectra.assets import cache_folder, catalogue, fetch
from spectra.errors import AdapterError, ModelError, first_five
from spectra.runs.atomic import replacing
from spectra.runs.lock import locked

Model = PreTrainedModel | PeftModel
ModelKind = Literal["encoder", "classification", "causal-lm", "masked-lm", "seq2seq"]

CLASSES: dict[ModelKind, Any] = {
    "encoder": AutoModel,
    "classification": AutoModelForSequenceClassification,
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "seq2seq": AutoModelForSeq2SeqLM,
}
HEADS_THAT_MUST_BE_THERE = {"causal-lm", "masked-lm", "seq2seq"}
GGUF_MARKS = {"quantization_config", "_name_or_path"}
KIND_OF_TASK_TYPE: dict[str, ModelKind] = {
    "SEQ_CLS": "classification",
    "CAUSAL_LM": "causal-lm",
    "SEQ_2_SEQ_LM": "seq2seq",
    "FEATURE_EXTRACTION": "encoder",
}
KIND_OF_ARCHITECTURE: dict[str, ModelKind] = {
    "ForSequenceClassification": "classification",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForConditionalGeneration": "seq2seq",
}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model, its tokenizer, and the reference it was loaded from."""

    model: Model
    tokenizer: PreTrainedTokenizerBase
    reference: str
    kind: ModelKind


def resolve_model(reference: str, *, progress: Callable[[str], None] | None = None) -> str:
    """What `from_pretrained` understands: an asset's folder (fetched and converted on first use), a folder, a hub id.

    Raises:
        ModelError: If the reference is a path that does not exist.
        AssetError: If the asset cannot be fetched.
    """
    entries = {entry.name: entry for entry in catalogue() if entry.kind == "model"}
    if reference in entries:
        folder = fetch(reference, progress=progress)
        weights = sorted(folder.glob("*.gguf"))
        return str(_converted(folder, weights[0], progress) if weights else folder)
    path = Path(reference).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") > 1 or path.exists():
        raise ModelError(f"There is no model folder '{reference}'. Check the path.")
    return reference


def load_base(
    reference: str,
    kind: ModelKind,
    *,
    num_labels: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    revision: str | None = None,
) -> LoadedModel:
    """Load a pre-trained model in evaluation mode.

    Args:
        reference: Asset name, folder or hub id.
        kind: Which head to put on the body. A head that the checkpoint lacks is drawn from torch's generator.
        num_labels: Width of a classification head; None keeps the checkpoint's own.
        dtype: Arithmetic and storage of the weights.
        device: Where to put it.
        revision: Commit of a hub model.

    Raises:
        ModelError: If the model cannot be found or has no such head.
    """
    tokenizer = _tokenizer(reference, revision)
    return LoadedModel(
        _model(reference, kind, tokenizer, num_labels, dtype, device, revision), tokenizer, reference, kind
    )


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
        tokenizer = _tokenizer(str(folder) if has_tokenizer or base is None else base)
        return LoadedModel(_model(str(folder), kind, tokenizer, None, dtype, device), tokenizer, str(folder), kind)
    reference = base or base_of(folder)
    loaded = load_base(reference, kind, num_labels=adapter_labels(folder), dtype=dtype, device=device)
    return LoadedModel(attach(cast(PreTrainedModel, loaded.model), folder), loaded.tokenizer, str(checkpoint), kind)


def attach(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put an adapter on a model that is already loaded; `unload()` of the result takes it off again.

    Raises:
        AdapterError: If its weights are no safetensors file or do not fit the model.
    """
    _require_safetensors(folder)
    try:
        return PeftModel.from_pretrained(model, folder).eval()
    except (RuntimeError, ValueError, KeyError) as error:  # shapes that differ, modules that do not exist
        reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
        raise AdapterError(
            f"Adapter '{folder}' does not fit {type(model).__name__}: {reason}. Check that it was trained on this base."
        ) from error


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a peft adapter rather than a full checkpoint."""
    return (folder / "adapter_config.json").is_file()


def base_of(folder: Path) -> str:
    """The base that an adapter names.

    Raises:
        AdapterError: If it names none.
    """
    reference = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    if not reference:
        raise AdapterError(f"Adapter '{folder}' does not name its base. Give it with --base.")
    return cast(str, reference)


def tuned_kind(folder: Path) -> ModelKind:
    """The kind that a checkpoint's configuration states.

    Raises:
        ModelError: If the folder is no checkpoint or the configuration names no head.
    """
    if is_adapter(folder):
        stated = str(json.loads((folder / "adapter_config.json").read_text()).get("task_type"))
        if stated in KIND_OF_TASK_TYPE:
            return KIND_OF_TASK_TYPE[stated]
        raise ModelError(f"Adapter '{folder}' has task type {stated}. Say what kind of model it belongs to.")
    if not (folder / "config.json").is_file():
        raise ModelError(f"'{folder}' holds neither adapter_config.json nor config.json. Name a checkpoint folder.")
    architectures = json.loads((folder / "config.json").read_text()).get("architectures") or ["none"]
    for ending, kind in KIND_OF_ARCHITECTURE.items():
        if architectures[0].endswith(ending):
            return kind
    return "encoder"


def adapter_labels(folder: Path) -> int | None:
    """Width of the classification head that was saved with an adapter, or None without one."""
    _require_safetensors(folder)
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - the reader is no mapping
            if name.endswith(("classifier.weight", "classifier.out_proj.weight", "score.weight")):
                return cast(int, weights.get_slice(name).get_shape()[0])
    return None


def body_of(model: Model) -> PreTrainedModel:
    """The model without its head, adapters included: what turns tokens into features."""
    unwrapped = model.get_base_model() if isinstance(model, PeftModel) else model
    return cast(PreTrainedModel, unwrapped.base_model)


def _require_safetensors(folder: Path) -> None:
    if not (folder / "adapter_model.safetensors").is_file():
        found = ", ".join(sorted(path.name for path in folder.glob("adapter_model*"))) or "no weights"
        raise AdapterError(f"Adapter '{folder}' has {found} instead of adapter_model.safetensors. Save it again.")


def _model(
    reference: str,
    kind: ModelKind,
    tokenizer: PreTrainedTokenizerBase,
    num_labels: int | None,
    dtype: torch.dtype,
    device: str,
    revision: str | None = None,
) -> PreTrainedModel:
    labels = {} if num_labels is None else {"num_labels": num_labels}
    try:
        model, loading = CLASSES[kind].from_pretrained(
            resolve_model(reference),
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **labels,
        )
    except (OSError, ValueError) as error:  # absent, offline or a pickle; an architecture without such a head
        raise _not_loaded(f"Model '{reference}' as {kind}", error) from error
    if kind in HEADS_THAT_MUST_BE_THERE and loading["missing_keys"]:
        raise ModelError(
            f"Model '{reference}' has no {kind} head: {first_five(sorted(loading['missing_keys']))} are not in the "
            "checkpoint and would be random. Choose a checkpoint that was pre-trained with this head."
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return cast(PreTrainedModel, model.to(device).eval())


def _tokenizer(reference: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve_model(reference), revision=revision)
    except (OSError, ValueError, ImportError) as error:  # absent or offline; of an unknown or uninstalled kind
        raise _not_loaded(f"The tokenizer of '{reference}'", error) from error
    if tokenizer.pad_token_id is None:  # causal models come without one; padded positions never enter a loss
        tokenizer.pad_token = tokenizer.eos_token
    return cast(PreTrainedTokenizerBase, tokenizer)


def _not_loaded(what: str, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return ModelError(
        f"{what} cannot be loaded: {reason}. "
        "Give a folder with safetensors weights, an asset of `spectra assets list`, or go online once."
    )


def _converted(folder: Path, gguf: Path, progress: Callable[[str], None] | None) -> Path:
    """The ordinary safetensors folder of a GGUF checkpoint: its weights dequantised to float32, once."""
    target = cache_folder() / "models" / f"{folder.name}-float32"
    if target.is_dir():
        return target
    with locked(target.with_name(f"{target.name}.lock")):
        if not target.is_dir():  # another process may have converted it while this one waited
            if progress:
                progress(f"{folder.name}: dequantising {gguf.name} to float32")
            with replacing(target) as content:
                _convert(folder, gguf, content)
    return target


def _convert(folder: Path, gguf: Path, content: Path) -> None:
    try:
        quantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    except ImportError as error:
        raise ModelError(f"Reading '{gguf.name}' needs the package gguf. Install spectra[gguf].") from error
    # transformers marks a model read from GGUF as quantised and then refuses to train or save it, although its
    # weights are plain float32 tensors: the same tensors in a model built from the plain configuration are free.
    plain = {key: value for key, value in quantised.config.to_dict().items() if key not in GGUF_MARKS}
    model = LlamaForCausalLM(LlamaConfig.from_dict(plain))
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.save_pretrained(content)
    tokenizer.save_pretrained(content)
    origin = json.loads((folder / "origin.json").read_text())
    note = f"dequantised from {gguf.name} to float32: W0 is the dequantised checkpoint, not the original one"
    (content / "origin.json").write_text(json.dumps({**origin, "converted": note}, indent=2) + "\n")
