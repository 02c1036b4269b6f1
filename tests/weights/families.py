"""One small model of each family, built from its own configuration, with the modules that adapters target."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        build: Makes a small model.
        targets: Names of linear modules of its blocks.
        conv1d: True when linear weights are stored (d_in, d_out).
    """

    build: Callable[[], PreTrainedModel]
    targets: tuple[str, ...]
    conv1d: bool = False


def _model(model: str, config: str, **settings: object) -> Callable[[], PreTrainedModel]:
    def build() -> PreTrainedModel:
        torch.manual_seed(1)
        return getattr(transformers, model)(getattr(transformers, config)(**settings)).eval()

    return build


TOKENS = {"vocab_size": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SIZES, **TOKENS, "num_key_value_heads": 2}
BERT = {**SIZES, **TOKENS, "max_position_embeddings": 20}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
BERT_MODULES = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
FUSED = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
FAMILIES = {
    "bert": Family(_model("BertForSequenceClassification", "BertConfig", **BERT), BERT_MODULES),
    "roberta": Family(_model("RobertaForSequenceClassification", "RobertaConfig", **BERT), BERT_MODULES),
    "gpt2": Family(
        _model(
            "GPT2LMHeadModel", "GPT2Config", n_embd=16, n_layer=2, n_head=4, vocab_size=32, n_positions=16,
            bos_token_id=1, eos_token_id=2,
        ),
        ("c_attn", "c_proj", "c_fc"),
        conv1d=True,
    ),
    "llama": Family(_model("LlamaForCausalLM", "LlamaConfig", **LLAMA), (*ATTENTION, *MLP)),
    "bloom": Family(
        _model("BloomForCausalLM", "BloomConfig", hidden_size=16, n_layer=2, n_head=4, **TOKENS),
        FUSED,
    ),
    "falcon": Family(_model("FalconForCausalLM", "FalconConfig", **SIZES, **TOKENS), FUSED),
    "gpt_neox": Family(_model("GPTNeoXForCausalLM", "GPTNeoXConfig", **BERT), FUSED),
    "phi3": Family(
        _model("Phi3ForCausalLM", "Phi3Config", **LLAMA), ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
    ),
    "t5": Family(
        _model(
            "T5ForConditionalGeneration", "T5Config", d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4,
            vocab_size=32,
        ),
        ("q", "k", "v", "o", "wi", "wo"),
    ),
    "vit": Family(
        _model(
            "ViTForImageClassification", "ViTConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=24, image_size=8, patch_size=4,
        ),
        ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"),
    ),
    "mixtral": Family(_model("MixtralForCausalLM", "MixtralConfig", **LLAMA, num_local_experts=3), ATTENTION),
    "qwen2_moe": Family(
        _model(
            "Qwen2MoeForCausalLM", "Qwen2MoeConfig", **LLAMA, num_experts=3, moe_intermediate_size=12,
            shared_expert_intermediate_size=20,
        ),
        (*ATTENTION, "shared_expert.gate_proj", "shared_expert.down_proj"),
    ),
    "gpt_oss": Family(
        _model("GptOssForCausalLM", "GptOssConfig", **LLAMA, num_local_experts=3, head_dim=4), ATTENTION
    ),
}  # fmt: skip
