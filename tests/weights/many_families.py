"""Ninety families as tiny models, for the oracle: the ones of `families`, and many more without adapter targets."""

from collections.abc import Callable

from families import BERT, FAMILIES, LLAMA, SIZES, TOKENS, _model
from transformers import PreTrainedModel

HEAD = {**LLAMA, "head_dim": 4}
SEQ = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 20,
    **TOKENS,
    "decoder_start_token_id": 2,
}
VIT = {**SIZES, "image_size": 8, "patch_size": 4}
CONFIGS = {
    **{
        n: (f"{c}ForCausalLM", f"{c}Config", LLAMA)
        for n, c in {
            "mistral": "Mistral",
            "qwen2": "Qwen2",
            "qwen3": "Qwen3",
            "olmo": "Olmo",
            "olmo2": "Olmo2",
            "stablelm": "StableLm",
            "starcoder2": "Starcoder2",
            "cohere": "Cohere",
            "granite": "Granite",
            "nemotron": "Nemotron",
            "phi": "Phi",
            "persimmon": "Persimmon",
            "smollm3": "SmolLM3",
            "exaone4": "Exaone4",
            "seed_oss": "SeedOss",
            "arcee": "Arcee",
        }.items()
    },
    **{
        n: (f"{c}ForCausalLM", f"{c}Config", HEAD)
        for n, c in {
            "gemma": "Gemma",
            "gemma2": "Gemma2",
            "gemma3_text": "Gemma3",
            "glm": "Glm",
            "glm4": "Glm4",
            "helium": "Helium",
        }.items()
    },
    "gemma3_text": ("Gemma3ForCausalLM", "Gemma3TextConfig", HEAD),
    **{
        n: (f"{c}Model", f"{c}Config", BERT)
        for n, c in {
            "electra": "Electra",
            "camembert": "Camembert",
            "xlm_roberta": "XLMRoberta",
            "ernie": "Ernie",
            "mpnet": "MPNet",
            "deberta_v2": "DebertaV2",
            "deberta": "Deberta",
            "roformer": "RoFormer",
            "convbert": "ConvBert",
            "modernbert": "ModernBert",
        }.items()
    },
    "albert": ("AlbertModel", "AlbertConfig", {**BERT, "embedding_size": 8}),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4, "vocab_size": 32, "max_position_embeddings": 20},
    ),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        dict(
            hidden_size=16,
            ffn_dim=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            word_embed_proj_dim=16,
            max_position_embeddings=20,
            **TOKENS,
        ),
    ),
    "gptj": (
        "GPTJForCausalLM",
        "GPTJConfig",
        dict(n_embd=16, n_layer=2, n_head=4, rotary_dim=2, n_positions=20, **TOKENS),
    ),
    "gpt_neo": (
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        dict(
            hidden_size=16,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=20,
            **TOKENS,
        ),
    ),
    "codegen": (
        "CodeGenForCausalLM",
        "CodeGenConfig",
        dict(n_embd=16, n_layer=2, n_head=4, rotary_dim=2, n_positions=20, **TOKENS),
    ),
    "gpt_bigcode": (
        "GPTBigCodeForCausalLM",
        "GPTBigCodeConfig",
        dict(n_embd=16, n_layer=2, n_head=4, n_positions=20, **TOKENS),
    ),
    "openai_gpt": (
        "OpenAIGPTModel",
        "OpenAIGPTConfig",
        {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 20, "vocab_size": 32},
    ),
    "mpt": ("MptForCausalLM", "MptConfig", dict(d_model=16, n_layers=2, n_heads=4, max_seq_len=20, **TOKENS)),
    "xglm": (
        "XGLMForCausalLM",
        "XGLMConfig",
        dict(d_model=16, ffn_dim=24, num_layers=2, attention_heads=4, max_position_embeddings=20, **TOKENS),
    ),
    "biogpt": ("BioGptForCausalLM", "BioGptConfig", BERT),
    "bart": ("BartForConditionalGeneration", "BartConfig", SEQ),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", SEQ),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", SEQ),
    "marian": ("MarianMTModel", "MarianConfig", SEQ),
    "whisper": (
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {**SEQ, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 10},
    ),
    "hubert": (
        "HubertModel",
        "HubertConfig",
        dict(
            **SIZES,
            conv_dim=[8, 8],
            conv_stride=[2, 2],
            conv_kernel=[3, 3],
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            num_feat_extract_layers=2,
        ),
    ),
    "wav2vec2": (
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        dict(
            **SIZES,
            conv_dim=[8, 8],
            conv_stride=[2, 2],
            conv_kernel=[3, 3],
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            num_feat_extract_layers=2,
        ),
    ),
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        {"text_config": {**SIZES, **TOKENS, "max_position_embeddings": 20}, "vision_config": VIT, "projection_dim": 8},
    ),
    "siglip": (
        "SiglipModel",
        "SiglipConfig",
        {"text_config": {**SIZES, "vocab_size": 32, "max_position_embeddings": 20}, "vision_config": VIT},
    ),
    **{
        n: (f"{c}Model", f"{c}Config", VIT)
        for n, c in {"deit": "DeiT", "beit": "Beit", "dinov2": "Dinov2", "vit_mae": "ViTMAE"}.items()
    },
    "swin": (
        "SwinModel",
        "SwinConfig",
        {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2},
    ),
    "segformer": (
        "SegformerModel",
        "SegformerConfig",
        {
            "num_encoder_blocks": 2,
            "depths": [1, 1],
            "sr_ratios": [2, 1],
            "hidden_sizes": [8, 16],
            "patch_sizes": [3, 3],
            "strides": [2, 2],
            "num_attention_heads": [1, 2],
            "mlp_ratios": [2, 2],
        },
    ),
    "convnext": (
        "ConvNextModel",
        "ConvNextConfig",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "image_size": 16},
    ),
    "olmoe": ("OlmoeForCausalLM", "OlmoeConfig", {**LLAMA, "num_experts": 3, "num_experts_per_tok": 1}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**HEAD, "num_experts": 3, "moe_intermediate_size": 12}),
    "phimoe": ("PhimoeForCausalLM", "PhimoeConfig", {**LLAMA, "num_local_experts": 3}),
    "granitemoe": ("GraniteMoeForCausalLM", "GraniteMoeConfig", {**LLAMA, "num_local_experts": 3}),
    "jetmoe": (
        "JetMoeForCausalLM",
        "JetMoeConfig",
        dict(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_key_value_heads=2,
            kv_channels=4,
            num_local_experts=3,
            **TOKENS,
        ),
    ),
    "llama4_text": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        {**HEAD, "num_local_experts": 3, "intermediate_size_mlp": 28},
    ),
    "aria_text": ("AriaTextForCausalLM", "AriaTextConfig", {**LLAMA, "moe_num_experts": 3, "moe_topk": 1}),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        {
            **LLAMA,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 12,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 4,
            "first_k_dense_replace": 1,
        },
    ),
    "jamba": (
        "JambaForCausalLM",
        "JambaConfig",
        {
            **LLAMA,
            "num_experts": 3,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 4,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "dbrx": (
        "DbrxForCausalLM",
        "DbrxConfig",
        {
            "d_model": 16,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 16,
            "vocab_size": 32,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 8, "moe_num_experts": 3, "moe_top_k": 1},
        },
    ),
    "xlnet": ("XLNetModel", "XLNetConfig", {"vocab_size": 32, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24}),
    "mamba": ("MambaForCausalLM", "MambaConfig", dict(hidden_size=16, state_size=4, num_hidden_layers=2, **TOKENS)),
    "rwkv": (
        "RwkvForCausalLM",
        "RwkvConfig",
        {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "context_length": 16},
    ),
    "t5_encoder": (
        "T5EncoderModel",
        "T5Config",
        {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "vocab_size": 32},
    ),
    "llava": (
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        {
            "text_config": {**LLAMA, "model_type": "llama"},
            "vision_config": {**VIT, "model_type": "clip_vision_model", "projection_dim": 8},
            "image_token_index": 30,
        },
    ),
    "gemma3": (
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {"text_config": HEAD, "vision_config": VIT, "mm_tokens_per_image": 4, "image_token_index": 30},
    ),
    "qwen2_vl": (
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLConfig",
        {
            "text_config": {
                **LLAMA,
                "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e4},
            },
            "vision_config": {
                "depth": 1,
                "embed_dim": 16,
                "hidden_size": 16,
                "num_heads": 4,
                "mlp_ratio": 2,
                "patch_size": 4,
            },
            "image_token_id": 28,
            "video_token_id": 29,
            "vision_start_token_id": 30,
            "vision_end_token_id": 31,
        },
    ),
    "qwen3_vl_moe": (
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3VLMoeConfig",
        {
            "text_config": {
                **HEAD,
                "num_experts": 3,
                "moe_intermediate_size": 12,
                "num_experts_per_tok": 1,
                "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e4},
            },
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_heads": 4,
                "out_hidden_size": 16,
                "patch_size": 4,
                "num_position_embeddings": 16,
                "deepstack_visual_indexes": [0],
            },
            "image_token_id": 28,
            "video_token_id": 29,
            "vision_start_token_id": 30,
            "vision_end_token_id": 31,
        },
    ),
}

MANY: dict[str, Callable[[], PreTrainedModel]] = {
    **{name: family.build for name, family in FAMILIES.items()},
    **{name: _model(model, config, **settings) for name, (model, config, settings) in CONFIGS.items()},
}
