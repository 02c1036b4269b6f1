"""The table of encodings: weights that are stored as codes, and how they become the weights that they stand for.

An encoding knows nothing of file formats: it sees named tensors and the model's configuration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spectra.errors import CheckpointError
from spectra.weights.formats import bitsandbytes_file, mlx_packed, mxfp4, scaled
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.stored import StoredTensor

Tensors = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class Encoding:
    """One way to store weights in few bits.

    Attributes:
        name: As messages call it.
        recognises: Whether a checkpoint holds such weights, from its tensors and its configuration.
        decoded: The tensors with such weights seen as what they stand for.
        documentation: One line.
    """

    name: str
    recognises: Callable[[Tensors, Mapping[str, Any]], bool]
    decoded: Callable[[Tensors, Mapping[str, Any]], Tensors]
    documentation: str


ENCODINGS: tuple[Encoding, ...] = (
    Encoding(
        "bitsandbytes",
        bitsandbytes_file.is_quantised,
        bitsandbytes_file.dequantised,
        "bitsandbytes 4-bit (nf4, fp4, nested or not, packed as any dtype) and 8-bit, from the file alone",
    ),
    Encoding("mlx", mlx_packed.is_packed, mlx_packed.unpacked, "mlx, 1 to 8 bits, affine"),
    Encoding("MXFP4", mxfp4.is_mxfp4, mxfp4.without_blocks, "MXFP4 as gpt-oss is released"),
    Encoding(
        "8 bits",
        scaled.is_scaled,
        scaled.with_scales,
        "float8 and int8, plain or with scales per tensor, row, column or block "
        "(weight_scale, weight_scale_inv, scale_weight, qscale_weight)",
    ),
)

# What marks weights in an encoding that is not in the table.
UNKNOWN = (".qweight", ".weight_packed", ".W_q", ".weight._data", ".weight_qdata", "_blocks", ".qzeros")


def decoded(location: str, named: NamedTensors, config: Mapping[str, Any]) -> tuple[Tensors, tuple[str, ...]]:
    """The tensors of a checkpoint, whatever encodings it uses, and the names of those it uses.

    A configuration may still speak of a quantisation that was undone: what counts is how the weights are stored.

    Raises:
        CheckpointError: If weights are in an encoding that cannot be undone.
    """
    tensors, used = named.tensors, []
    for encoding in ENCODINGS:
        if encoding.recognises(tensors, config):
            tensors = encoding.decoded(tensors, config)
            used.append(encoding.name)
    packed = [name for name in tensors if name.endswith(UNKNOWN)]
    settings = config.get("quantization_config")
    method = settings.get("quant_method") if isinstance(settings, Mapping) else None
    if packed or (method and _integers_only(tensors)):
        raise CheckpointError(
            f"'{location}' is quantised with {method or 'an unknown method'}, which spectra cannot dequantise"
            f"{f' (tensor {packed[0]!r})' if packed else ''}. Give the checkpoint it was quantised from."
        )
    return tensors, tuple(used)


def _integers_only(tensors: Tensors) -> bool:
    """True when no matrix at all holds numbers that can be compared."""
    matrices = [tensor for tensor in tensors.values() if len(tensor.shape) > 1]
    return bool(matrices) and not any(tensor.dtype.is_floating_point for tensor in matrices)
