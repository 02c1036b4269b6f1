"""How a stored tensor is to be read as matrices: which way round, how many, or why not at all.

The file itself is asked first, because shapes and biases cannot be out of date: a bias has d_out numbers, and the
matrices of an expert fit together one way round only. Where the file does not tell, transformers' own model of the
family is asked (`Architecture`). What nobody knows is not read, and is listed with that reason.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from spectra.weights.formats.reshaped import Reshaped
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.matching.architecture import Architecture, fits_transposed
from spectra.weights.matching.names import layer_of, module_of

# Modules that are a Conv1D, stored (d_in, d_out), in some families and a Linear in others.
CONV1D = re.compile(r"(^|\.)(c_attn|c_proj|c_fc|q_attn)$")

# Words of modules that hold several experts in one tensor, and of the parameters themselves.
EXPERTS = re.compile(r"experts?(\.|$)|(^|[._])moe(\.|$)|switch_mlp\.", re.IGNORECASE)
FUSED_AND_DOWN = (("gate_up_proj", "down_proj"), ("fc1", "fc2"))
EXPERT_PARAMETERS = re.compile(r"(^|\.)(gate_up_proj|gate_proj|up_proj|down_proj|w1|w2|w3|(input|output)_linear)$")

# Bare parameters with two axes and more that are no linear map: added, multiplied elementwise, or looked up.
NO_MAP = re.compile(
    r"^(\w*bias(_\w+)?|A_log|D|\w*scale\w*|rel_pos\w*|\w*pos(ition)?_(bias|emb\w*)|\w*relative_position\w*|\w*token\w*|"
    r"time_mix\w*|\w*embed\w*|alpha|gamma|beta|\w*norm\w*|emb_rel\w*|gru_rel\w*|inv_freq|static_weight|ape|_extra_state)"
    r"(\.weight)?$"
)
BARE = "a bare parameter whose layout is not known; it is not read as a matrix"
BOTH_WAYS = "its file does not tell which way round it is stored, and its family is not known"
NOT_LINEAR = "no linear map: it is added, multiplied elementwise or looked up"
DEPTHWISE = "a convolution by groups of channels, no linear map of all inputs; name it with --include to compare it"


@dataclass(frozen=True, eq=False)
class Reading:
    """How one tensor is read.

    Attributes:
        matrices: The matrices it holds, by module.
        reason: Why it holds none.
        unknown: True where it may hold a matrix that cannot be read.
        set_aside: Why its matrices are compared only when they are asked for by name.
    """

    matrices: tuple[tuple[str, StoredMatrix], ...] = ()
    reason: str = ""
    unknown: bool = False
    set_aside: str = ""


class Layout:
    """Reads the tensors of one checkpoint as matrices."""

    def __init__(self, tensors: Mapping[str, StoredTensor], architecture: Architecture) -> None:
        """Look at names and shapes; nothing is read.

        Args:
            tensors: By name as stored.
            architecture: What transformers knows of the family.
        """
        self.architecture = architecture
        self._by_name = {_plain(name): tensor for name, tensor in tensors.items()}

    def read(self, name: str, tensor: StoredTensor) -> Reading:
        """How a tensor is read.

        Args:
            name: Its name as stored.
            tensor: The tensor.
        """
        shape = tensor.shape
        if len(shape) < 2 or min(shape) == 0:
            return Reading()
        module, plain = module_of(name), _plain(name)
        bare = _bare_reader(module)
        if bare is not None and (reading := bare(self, module, tensor)) is not None:
            return reading
        is_weight = plain.endswith("weight") and not NO_MAP.search(plain.rpartition(".")[2])
        if len(shape) == 3 and EXPERTS.search(module) and (EXPERT_PARAMETERS.search(module) or is_weight):
            return self._experts(module, name, tensor)
        if len(shape) == 3 and re.search(r"(^|\.)(input|output)_linear$", module):
            return self._experts(module, name, tensor)
        if NO_MAP.search(module.rpartition(".")[2]) and not plain.endswith(".weight"):
            return Reading(reason=NOT_LINEAR)
        if len(shape) > 2 and sum(size > 1 for size in shape) < 2:
            return Reading(reason=NOT_LINEAR)
        if is_weight and (len(shape) == 2 or plain.endswith(".weight")):
            return self._weight(module, name, tensor)
        return Reading(reason=BARE, unknown=True)

    def _weight(self, module: str, name: str, tensor: StoredTensor) -> Reading:
        """A weight of a layer: a linear map, a Conv1D stored the other way round, or a convolution."""
        shape = tensor.shape
        if len(shape) == 2 and CONV1D.search(module):
            transposed = self._conv1d(module)
            if transposed is None:
                return Reading(reason=BOTH_WAYS, unknown=True)
            return Reading(((module, StoredMatrix.of(tensor, transposed=transposed)),))
        depthwise = len(shape) > 2 and (
            (shape[1] == 1 and shape[0] > 1) or (layer_of(module) is not None and self.architecture.is_grouped(name))
        )
        return Reading(((module, StoredMatrix.of(tensor)),), set_aside=DEPTHWISE if depthwise else "")

    def _conv1d(self, module: str) -> bool | None:
        """By the module's own shapes, else by those of the nearest modules around it, else by transformers."""
        own = self._conv1d_by_shapes(module)
        if own is not None:
            return own
        parts = module.split(".")
        siblings = [other.removesuffix(".weight") for other in self._by_name if other.endswith(".weight")]
        for depth in range(len(parts) - 1, 0, -1):
            prefix = ".".join(parts[:depth]) + "."
            told = {
                self._conv1d_by_shapes(other) for other in siblings if other.startswith(prefix) and CONV1D.search(other)
            } - {None}
            if len(told) == 1:
                return told.pop()
            if told:
                break
        return self.architecture.is_conv1d(f"{module}.weight")

    def _conv1d_by_shapes(self, module: str) -> bool | None:
        """A bias has d_out numbers; a fused qkv has three times as many outputs as inputs."""
        first, second = self._by_name[f"{module}.weight"].shape[:2]
        if first == second:
            return None
        bias = self._by_name.get(f"{module}.bias")
        if bias is not None and len(bias.shape) == 1 and bias.shape[0] in (first, second):
            return bias.shape[0] == second
        if module.endswith("c_attn") and 3 * min(first, second) == max(first, second):
            return second > first
        return None

    def _experts(self, module: str, name: str, tensor: StoredTensor) -> Reading:
        """One matrix per expert."""
        transposed = self._experts_transposed(module, name, tensor)
        if transposed is None:
            return Reading(reason=BOTH_WAYS, unknown=True)
        return Reading(tuple(_per_expert(module, tensor, transposed=transposed)))

    def _experts_transposed(self, module: str, name: str, tensor: StoredTensor) -> bool | None:
        container, _, leaf = module.rpartition(".")
        if _plain(name).endswith(".weight") and leaf not in ("fc1", "fc2"):
            return False  # a layer's weight: (experts, d_out, d_in), as mlx, GraniteMoE and JetMoE write it
        for pair in FUSED_AND_DOWN:
            fused, down = (self._shape(f"{container}.{part}") for part in pair)
            if len(fused) == len(down) == 3 and (fits := fits_transposed(fused, down)) is not None:
                return fits
        known = self.architecture.experts_transposed(_plain(name), tensor.shape)
        return known if known is not None else self._by_width(module, leaf, tensor.shape)

    def _by_width(self, module: str, leaf: str, shape: tuple[int, ...]) -> bool | None:
        """By the width of the model, which a norm of the same block has, and which one axis of the expert is."""
        layer = re.match(r".*?\.\d+\.", module)
        widths = {
            tensor.shape[0]
            for name, tensor in self._by_name.items()
            if layer and name.startswith(layer[0]) and len(tensor.shape) == 1 and re.search(r"norm\w*\.weight$", name)
        } & set(shape[1:])
        if shape[1] == shape[2] or len(widths) != 1:
            return None
        reads_model = leaf not in ("down_proj", "w2", "output_linear", "fc2")
        return (shape[1] in widths) == reads_model

    def _shape(self, module: str) -> tuple[int, ...]:
        tensor = self._by_name.get(module) or self._by_name.get(f"{module}.weight")
        return () if tensor is None else tensor.shape


def alternating(architecture: Architecture, tensor: StoredTensor) -> bool | None:
    """True where rows of gate and up alternate in a fused gate_up_proj; None where nobody knows."""
    if len(tensor.shape) != 3:
        return False  # a dense gate_up_proj is halves in every family that has one
    known = architecture.alternating(_plain(tensor.name))
    return known if known is not None else _says(architecture.config, "model_type", "gpt_oss") or None


def _plain(name: str) -> str:
    """A tensor's name without trainers' wrappers, with its own ".weight"."""
    return module_of(name) + (".weight" if name.endswith(".weight") else "")


def _per_expert(module: str, tensor: StoredTensor, *, transposed: bool) -> Iterator[tuple[str, StoredMatrix]]:
    """The matrices of a tensor (experts, ., .): `experts.3.down_proj` of `experts.down_proj`."""
    container, _, parameter = module.rpartition(".")
    if container.endswith(".switch_mlp"):
        container = f"{container.removesuffix('.switch_mlp')}.experts"
    elif not EXPERTS.search(container.rpartition(".")[2]) or container.endswith("moe"):
        container += ".experts"
    for expert in range(tensor.shape[0]):
        yield f"{container}.{expert}.{parameter}", StoredMatrix.of(tensor, expert=expert, transposed=transposed)


def _dbrx(layout: Layout, module: str, tensor: StoredTensor) -> Reading | None:
    """DBRX stacks its experts along the rows: w1 and v1 are (d_out, d_in) each, w2 is used the other way round."""
    experts = _number(layout.architecture.config, "moe_num_experts")
    if len(tensor.shape) != 2:
        return None
    if experts is None or tensor.shape[0] % experts:
        return Reading(reason="experts stacked along the rows; how many is not known without config.json", unknown=True)
    seen = Reshaped(tensor, (experts, tensor.shape[0] // experts, tensor.shape[1]))
    container = module.rpartition(".mlp.")[0]
    named = f"{container}.{module.rpartition('.')[2]}"
    return Reading(tuple(_per_expert(named, seen, transposed=module.endswith("w2"))))


def _xlnet(layout: Layout, module: str, tensor: StoredTensor) -> Reading | None:
    """XLNet keeps the heads as an axis: q, k, v and r are (d_in, heads, d_head), o is (d_out, heads, d_head)."""
    if len(tensor.shape) != 3:
        return None
    d_model, heads, d_head = tensor.shape
    seen = Reshaped(tensor, (d_model, heads * d_head))
    return Reading(((module, StoredMatrix.of(seen, transposed=not module.endswith(".o"))),))


def _bare_reader(module: str) -> Callable[[Layout, str, StoredTensor], Reading | None] | None:
    return next((reader for pattern, reader in BARE_PARAMETERS.items() if pattern.search(module)), None)


# Families that keep linear maps in bare parameters of a shape of their own.
BARE_PARAMETERS = {
    re.compile(r"\.experts\.mlp\.(w1|v1|w2)$"): _dbrx,
    re.compile(r"\.rel_attn\.(q|k|v|r|o)$"): _xlnet,
}


def _sections(config: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """A configuration and the ones inside it."""
    yield config
    for value in config.values():
        if isinstance(value, Mapping):
            yield from _sections(value)


def _number(config: Mapping[str, object], key: str) -> int | None:
    return next((value for section in _sections(config) if isinstance(value := section.get(key), int)), None)


def _says(config: Mapping[str, object], key: str, wanted: str) -> bool:
    return any(section.get(key) == wanted for section in _sections(config))
