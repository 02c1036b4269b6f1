"""A plain LoRA written from factors: names, ranks and alphas as peft reads them, the update exactly B @ A."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from spectra.assets import fetched, model_asset
from spectra.weights import MatrixPair
from spectra.weights.matching.names import EMBEDDING, module_of
from spectra.weights.methods.scaling import exact_patterns

# Endings of the class that a configuration names, and peft's word for it.
TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


@dataclass(frozen=True, eq=False)
class ModuleFactors:
    """The update of one module,  delta_W = B @ A.

    Attributes:
        module: Its name in the model that the adapter is put on.
        B: (d_out, rank).
        A: (rank, d_in).
        transposed: True where the weight is stored (d_in, d_out), as GPT-2's Conv1D does.
    """

    module: str
    B: Float[Tensor, "d_out rank"]
    A: Float[Tensor, "rank d_in"]
    transposed: bool = False

    @property
    def rank(self) -> int:
        """Columns of B."""
        return self.B.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """As peft names and lays them out; the factors of an embedding are turned over."""
        if EMBEDDING.search(self.module):
            return {
                f"{self.module}.lora_embedding_A": self.B.mT.contiguous(),
                f"{self.module}.lora_embedding_B": self.A.mT.contiguous(),
            }
        return {
            f"{self.module}.lora_A.weight": self.A.contiguous(),
            f"{self.module}.lora_B.weight": self.B.contiguous(),
        }


def module_to_adapt(matrix: MatrixPair) -> tuple[str, bool] | str:
    """The module that an adapter of this matrix belongs to and whether it is stored turned; else why there is none.

    The name is that of the tuned checkpoint, whose class the adapter is put on.
    """
    stored = matrix.home
    block = stored.blocks[0]
    if len(stored.blocks) > 1 or block.expert is not None or len(block.tensor.shape) != 2 or block.step != 1:
        return "part of a fused, stacked or convolutional weight, which has no plain LoRA of its own"
    if block.rows != block.tensor.shape[1 if block.transposed else 0]:
        return "part of a fused weight, which has no LoRA of its own; leave out split_fused"
    if not block.tensor.name.endswith(".weight"):
        return "a parameter that no module named 'weight' holds, which has no plain LoRA"
    return module_of(block.tensor.name), block.transposed


def plain_config(
    factors: Sequence[ModuleFactors],
    base: str | Path | None,
    *,
    task_type: str | None = None,
    modules_to_save: Sequence[str] = (),
    lora_bias: bool = False,
) -> dict[str, Any]:
    """An adapter_config.json with which every module's scaling is 1: alpha is the rank, module by module."""
    ranks = Counter(each.rank for each in factors)
    rank = ranks.most_common(1)[0][0]
    keys = exact_patterns([each.module for each in factors])
    pattern = {keys[each.module]: each.rank for each in factors if each.rank != rank}
    return {
        "peft_type": "LORA",
        "task_type": task_type,
        "base_model_name_or_path": named_base(base),
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": pattern,
        "alpha_pattern": dict(pattern),
        "target_modules": [each.module for each in factors],
        "modules_to_save": list(modules_to_save) or None,
        "lora_bias": lora_bias,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": all(each.transposed for each in factors),
        "init_lora_weights": True,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
    }


def named_base(base: str | Path | None) -> str | None:
    """The base as an adapter names it: a folder by its whole path, so that peft finds it from anywhere."""
    if base is None:
        return None
    folder = fetched(str(base)) if model_asset(str(base)) else Path(base)
    if folder is None or not folder.exists() or any(folder.glob("*.gguf")):  # peft cannot open an asset in GGUF
        return str(base)
    return str(folder.resolve())


def task_type_of(config: Mapping[str, Any]) -> str | None:
    """peft's task type of the class that a checkpoint's configuration names, where it has one."""
    classes = config.get("architectures")
    name = str(classes[0]) if isinstance(classes, list) and classes else ""
    return next((kind for ending, kind in TASK_TYPES.items() if name.endswith(ending)), None)
