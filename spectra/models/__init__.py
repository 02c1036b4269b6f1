"""Models and tokenizers: a base by asset name, folder or hub id; a tuned checkpoint on top of its base.

No repository's code is ever run and no pickle is ever opened: weights come from safetensors files only.
"""

from spectra.models.base import load_base, load_config, load_kind, resolve_model
from spectra.models.content import content_of
from spectra.models.heads import name_outputs, output_names, write_label_names
from spectra.models.kinds import LoadedModel, Model, ModelKind, body_of, class_of
from spectra.models.tuned import adapter_labels, attach, base_of, is_adapter, load_tuned, tuned_kind

__all__ = [
    "LoadedModel",
    "Model",
    "ModelKind",
    "adapter_labels",
    "attach",
    "base_of",
    "body_of",
    "class_of",
    "content_of",
    "is_adapter",
    "load_base",
    "load_config",
    "load_kind",
    "load_tuned",
    "name_outputs",
    "output_names",
    "resolve_model",
    "tuned_kind",
    "write_label_names",
]
