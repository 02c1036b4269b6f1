"""The names of a latent diffusion UNet in the authors' single-file checkpoints, under the names of diffusers.

The authors number all blocks of a side in one row, diffusers by resolution: with n residual layers a resolution,
`input_blocks.(n + 1) * i + j + 1` is layer j of `down_blocks.i`, and every (n + 1)-th is a downsampler;
`output_blocks.(n + 1) * i + j` is layer j of `up_blocks.i`.
"""

import re
from collections.abc import Iterable, Mapping

INPUT = re.compile(r"^input_blocks\.(\d+)\.(\d+)(?:\.(.+))?$")
OUTPUT = re.compile(r"^output_blocks\.(\d+)\.(\d+)(?:\.(.+))?$")
MIDDLE = re.compile(r"^middle_block\.(\d+)\.(.+)$")
FLATTENED = re.compile(r"^(?P<lead>(input|output)_blocks_\d+_\d+|middle_block_\d+)_(?P<path>.+)$")
OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.2": "conv_out",
}
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
# The prefixes of a single file, before the names of the UNet or transformer itself.
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
TEXT_PREFIXES = (
    *("cond_stage_model.transformer.", "cond_stage_model.", "conditioner.embedders.0.transformer."),
    *("conditioner.embedders.1.model.", "text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer."),
    "text_encoders.t5xxl.transformer.",
)


def inner_name(module: str) -> tuple[str, str]:
    """A module of a single file without its component's prefix, and the component: "diffusion", "text" or ""."""
    for prefixes, component in ((PREFIXES, "diffusion"), (TEXT_PREFIXES, "text")):
        for prefix in prefixes:
            if module.startswith(prefix):
                return module.removeprefix(prefix), component
    return module, ""


def diffusers_names(modules: Iterable[str]) -> Mapping[str, str]:
    """From the authors' name of a UNet's module to that of diffusers, for those that have one."""
    inner = list(modules)
    downs = sorted({int(found[1]) for name in inner if (found := re.match(r"^input_blocks\.(\d+)\.0\.op$", name))})
    # The first downsampler follows the layers of the first resolution.
    step = downs[0] if downs else 3
    names = {}
    for name in inner:
        new = OUTSIDE.get(name) or _middle(name) or _input(name, step) or _output(name, step)
        if new is not None:
            names[name] = new
    return names


def flattened_diffusers_name(name: str) -> str | None:
    """The same for a name whose dots were written as underscores, as kohya writes those of SDXL; None if it is none."""
    outside = {key.replace(".", "_"): new for key, new in OUTSIDE.items()}
    if name in outside:
        return outside[name].replace(".", "_")
    found = FLATTENED.match(name)
    if found is None:
        return None
    path = {key.replace(".", "_"): key for key in RESNET}.get(found["path"], found["path"])
    dotted = f"{found['lead'].replace('_', '.').replace('.block', '_block')}.{path}"
    new = diffusers_names([dotted]).get(dotted)
    return None if new is None else new.replace(".", "_")


def _middle(name: str) -> str | None:
    found = MIDDLE.match(name)
    if found is None:
        return None
    place, path = int(found[1]), found[2]
    if place == 1:
        return f"mid_block.attentions.0.{path}"
    return f"mid_block.resnets.{place // 2}.{RESNET[path]}" if path in RESNET else None


def _input(name: str, step: int) -> str | None:
    found = INPUT.match(name)
    if found is None or int(found[1]) == 0:
        return None
    block, layer = divmod(int(found[1]) - 1, step)
    path = found[3] or ""
    if found[2] == "1":
        return f"down_blocks.{block}.attentions.{layer}.{path}"
    if path == "op":
        return f"down_blocks.{block}.downsamplers.0.conv"
    return f"down_blocks.{block}.resnets.{layer}.{RESNET[path]}" if path in RESNET else None


def _output(name: str, step: int) -> str | None:
    found = OUTPUT.match(name)
    if found is None:
        return None
    block, layer = divmod(int(found[1]), step)
    path = found[3] or ""
    if path in RESNET:
        return f"up_blocks.{block}.resnets.{layer}.{RESNET[path]}"
    if path == "conv":
        return f"up_blocks.{block}.upsamplers.0.conv"
    return f"up_blocks.{block}.attentions.{layer}.{path}" if found[2] == "1" else None
