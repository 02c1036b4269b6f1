"""Pre-trained models by folder, asset name or hub id."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from spectra.assets import fetch, model_asset
from spectra.errors import ModelError, first_five
from spectra.models.gguf import dequantised
from spectra.models.kinds import LoadedModel, ModelKind, class_of, kind_of_architecture
from spectra.models.remote_code import remote_code_refusal, trusts_remote_code
from spectra.storage.json_file import read_object
from spectra.storage.regular import require_regular
from spectra.weights.kernels import require_no_kernels
from spectra.weights.matching.architecture import build_errors, quietly
from spectra.weights.matching.proportion import require_countable, require_proportionate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Far above any configuration; the longest name their classes one by one.
MAX_CONFIG_BYTES = 10_000_000
# Absent or offline, a pickle, broken; and what transformers raises on settings that it cannot build.
UNREADABLE = build_errors(OSError)


def resolve_model(reference: str, *, progress: Callable[[str], None] | None = None) -> str:
    """What `from_pretrained` understands: a folder, an asset's folder (fetched and converted on first use), a hub id.

    Raises:
        ModelError: If the reference is a path that does not exist, or a folder with files that nobody can read to an
            end.
        CheckpointError: If its configuration has more modules than are ever built.
        AssetError: If the asset cannot be fetched.
    """
    if model_asset(reference) is not None:
        folder = fetch(reference, progress=progress)
        weights = sorted(folder.glob("*.gguf"))
        return str(dequantised(folder, weights[0], progress) if weights else folder)
    path = Path(reference).expanduser()
    if path.is_dir():
        _require_readable(path)
        return str(path)
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") > 1 or path.exists():
        raise ModelError(f"There is no model folder '{reference}'. Check the path.")
    return reference


def _require_readable(folder: Path) -> None:
    """Refuse what transformers would read for ever (a FIFO, a device) or for long (a configuration of any size)."""
    for file in folder.iterdir():
        if not file.is_dir():
            require_regular(file, ModelError)
    if (folder / "config.json").is_file():
        config = read_object(folder / "config.json", error=ModelError, largest=MAX_CONFIG_BYTES)
        require_countable(config, str(folder))  # also the tokenizer's loader makes a configuration of it


def load_base(
    reference: str,
    kind: ModelKind,
    *,
    num_labels: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    revision: str | None = None,
    quantization_config: Any = None,
    attention: str | None = None,
) -> LoadedModel:
    """Load a pre-trained model in evaluation mode.

    Args:
        reference: Folder, asset name or hub id.
        kind: Which head to put on the body. A head that the checkpoint lacks is drawn from torch's generator.
        num_labels: Width of a classification head; None keeps the checkpoint's own.
        dtype: Arithmetic and storage of the weights.
        device: Where to put it.
        revision: Commit of a hub model.
        quantization_config: transformers' own, for a base that is quantised while it is loaded.
        attention: Implementation of the attention, by transformers' name; None takes the model's own.

    Raises:
        ModelError: If the model cannot be found or has no such head or attention.
    """
    tokenizer = load_tokenizer(reference, revision)
    model, random = load_model(
        reference, kind, tokenizer, num_labels, dtype, device, revision, quantization_config, attention
    )
    return LoadedModel(model, tokenizer, reference, kind, random)


@contextmanager
def without_bars() -> Iterator[None]:
    """Show no bars of transformers for the seconds that it takes to read a local folder; the hub's would go, too."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_kind(reference: str) -> ModelKind:
    """The kind of model that a checkpoint was saved as.

    Raises:
        ModelError: If its configuration cannot be found.
    """
    architectures = load_config(reference).architectures
    return kind_of_architecture(str((architectures or [""])[0]))


def load_config(reference: str, revision: str | None = None) -> Any:
    """The configuration of a model, weights untouched.

    Raises:
        ModelError: If it cannot be found or read.
        CheckpointError: If its model would fetch code that nobody trusts, or has more modules than are ever built.
    """
    try:
        resolved = resolve_model(reference)
        from transformers import AutoConfig, PreTrainedConfig

        with quietly():  # transformers prints the kind of a model as it stands in the file
            told, _ = PreTrainedConfig.get_config_dict(resolved, revision=revision)
            require_countable(told, reference)
            if not trusts_remote_code():
                require_no_kernels(told, reference)
            return AutoConfig.from_pretrained(resolved, revision=revision, trust_remote_code=trusts_remote_code())
    except UNREADABLE as error:
        raise _not_loaded(f"The configuration of '{reference}'", reference, error) from error


def load_tokenizer(reference: str, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """Load a tokenizer; one without a padding token pads with its end of text.

    Raises:
        ModelError: If it cannot be found, has no vocabulary, or nothing to pad with.
    """
    from transformers import AutoTokenizer

    try:
        resolved = resolve_model(reference)
        with quietly():  # transformers prints the kind of a model as it stands in the file
            tokenizer = AutoTokenizer.from_pretrained(
                resolved, revision=revision, trust_remote_code=trusts_remote_code()
            )
    except UNREADABLE as error:
        raise _not_loaded(f"The tokenizer of '{reference}'", reference, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one up where the files are missing
        raise ModelError(
            f"The tokenizer of '{reference}' holds {len(tokenizer)} special tokens and no word, so that every text "
            "would be unknown. Put the tokenizer's files beside the model."
        )
    if tokenizer.pad_token_id is None:  # causal models come without one; padded positions never enter a loss
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"The tokenizer of '{reference}' has neither a padding token nor an end of text, and no two texts of "
            "different lengths could be read at once. Put its tokenizer_config.json beside the model."
        )
    return cast("PreTrainedTokenizerBase", tokenizer)


def load_model(
    reference: str,
    kind: ModelKind,
    tokenizer: "PreTrainedTokenizerBase",
    num_labels: int | None,
    dtype: torch.dtype,
    device: str,
    revision: str | None = None,
    quantization_config: Any = None,
    attention: str | None = None,
) -> "tuple[PreTrainedModel, tuple[str, ...]]":
    """Load a model in evaluation mode, without its tokenizer.

    Returns:
        The model, and the weights of its head that the checkpoint lacks and that are random.

    Raises:
        ModelError: If it cannot be found, or weights that no tuning would replace are missing and would be random.
    """
    config = load_config(reference, revision)
    options: dict[str, Any] = {} if num_labels is None else {"num_labels": num_labels}
    if attention is not None:
        options["attn_implementation"] = attention
    if quantization_config is not None:  # packed weights are placed where they are packed
        options |= {"quantization_config": quantization_config, "device_map": {"": device}}
    try:
        resolved = resolve_model(reference)
        local = Path(resolved).is_dir()
        # transformers prints the names of tensors as they stand in the file, escape sequences too
        with quietly(), without_bars() if local else nullcontext():
            if local and not trusts_remote_code():
                require_proportionate(lambda: class_of(kind).from_config(config), Path(resolved))
            model, loading = class_of(kind).from_pretrained(
                resolved,
                revision=revision,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=trusts_remote_code(),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # a classification head of another width is replaced; others are refused
                **options,
            )
    except UNREADABLE as error:
        raise _not_loaded(f"Model '{reference}' as {kind}", reference, error) from error
    _require_all_blocks(reference, model, loading["unexpected_keys"])
    random = _random_head(reference, kind, model, loading)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return cast("PreTrainedModel", (model if quantization_config is not None else model.to(device)).eval()), random


def _require_all_blocks(reference: str, model: "PreTrainedModel", unexpected: Iterable[str]) -> None:
    """Refuse a model with fewer blocks than its files: what transformers has no place for, it leaves out silently."""
    prefix = f"{model.base_model_prefix}."
    for name in sorted(unexpected):
        parts = name.split(".")
        for position, part in enumerate(parts):
            place = ".".join(parts[:position])
            if not part.isdecimal():
                continue
            for path in (place, place.removeprefix(prefix), f"{prefix}{place}"):
                blocks = dict(model.named_modules()).get(path)
                if isinstance(blocks, torch.nn.ModuleList) and int(part) >= len(blocks):
                    raise ModelError(
                        f"Model '{reference}' holds '{name}', and its configuration has {len(blocks)} of '{place}'. "
                        "Restore the config.json that it was saved with."
                    )


def _random_head(
    reference: str, kind: ModelKind, model: "PreTrainedModel", loading: Mapping[str, Iterable[Any]]
) -> tuple[str, ...]:
    """Refuse a model with random weights, but for a new classification head and a pooler, which tuning trains."""
    missing = {*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])}
    head: set[str] = set()
    if kind == "classification":
        head = {name for name in missing if not name.startswith(f"{model.base_model_prefix}.")}
    missing = {name for name in missing - head if "pooler." not in name}
    if missing:
        raise ModelError(
            f"Model '{reference}' cannot be loaded as {kind}: {first_five(sorted(missing))} are not in the checkpoint, "
            "or of another shape, and would be random. Choose a checkpoint that was trained as this kind."
        )
    return tuple(sorted(head))


def _not_loaded(what: str, reference: str, error: Exception) -> ModelError:
    if (refusal := remote_code_refusal(reference, error)) is not None:
        return refusal
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":") and len(lines) > 1:  # a validator's name, and below it what it found
        lines = [lines[1].partition("Error: ")[2] or lines[1]]
    reason = lines[0].rstrip(".:")
    return ModelError(
        f"{what} cannot be loaded: {reason}. "
        "Give a folder with safetensors weights, an asset of `spectra assets list`, or go online once."
    )
