"""Find the base's matrix for a module of another checkpoint, whatever prefixes and spellings either uses."""

import re
from collections.abc import Callable, Mapping, Sequence

from spectra.errors import CheckpointError, first_five
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.names import CONTAINERS, STACKS, unwrapped

# Spellings of Mixtral, DBRX, GraniteMoE and Aria for what transformers otherwise calls gate, up and down.
PARTS = {
    **{"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj", "v1": "up_proj"},
    **{"input_linear": "gate_up_proj", "output_linear": "down_proj", "fc1": "gate_up_proj", "fc2": "down_proj"},
}
HALVES = ("gate_proj", "up_proj")
FUSED = "gate_up_proj"
EXPERT_PART = re.compile(r"^(?P<experts>.*\.experts\.\d+)\.(?P<part>\w+)$")


def spelled(module: str) -> str:
    """One spelling for mixture-of-experts modules: "mlp.experts.3.gate_proj"."""
    module = module.replace(".block_sparse_moe.", ".mlp.").replace(".base_layer", "")
    found = EXPERT_PART.match(module)
    return f"{found['experts']}.{PARTS.get(found['part'], found['part'])}" if found else module


def endings(module: str) -> Sequence[str]:
    """The names under which a module may be known, the longest first, down to its first stack or list of blocks."""
    parts = spelled(unwrapped(module)).split(".")
    first = next((place for place, part in enumerate(parts) if part in CONTAINERS or part in STACKS), 0)
    return [".".join(parts[cut:]) for cut in range(first + 1)]


class Alignment:
    """Looks up modules of another checkpoint among those of the base."""

    def __init__(
        self,
        matrices: Mapping[str, StoredMatrix],
        aliases: Mapping[str, str] | None = None,
        order: Sequence[str] = (),
        alternating: Callable[[str], bool | None] = lambda module: False,
        tied: Mapping[str, StoredMatrix] | None = None,
    ) -> None:
        """Index the base's modules.

        Args:
            matrices: The base's matrices by module.
            aliases: Further names of base modules: from the name a model uses in memory to the one in its files.
            order: All modules of the model under their names in memory, as the model registers them.
            alternating: Says of a fused matrix whether rows of gate and up alternate; None where nobody knows.
            tied: The input embedding, by the names of output heads that the base does not store.
        """
        self.order = tuple(order)
        self._alternating = alternating
        self._tied = dict(tied or {})
        self._matrices = matrices
        self._known: dict[str, set[str]] = {}
        for name, module in [*((module, module) for module in matrices), *(aliases or {}).items()]:
            for ending in endings(name):
                self._known.setdefault(ending, set()).add(module)

    def find(self, module: str) -> str | None:
        """The base's module, or None.

        Raises:
            CheckpointError: If several modules of the base fit equally well.
        """
        if module in self._matrices:
            return module
        for ending in endings(module):
            found = self._known.get(ending, set())
            if len(found) == 1:
                return next(iter(found))
            if len(found) > 1:
                raise CheckpointError(
                    f"'{module}' may be any of {first_five(sorted(found))} of the base. Rename it in the checkpoint."
                )
        return None

    def matrix(self, module: str) -> tuple[str, StoredMatrix] | None:
        """The base's matrix for a module, put together or cut out where the other checkpoint fuses differently.

        Returns:
            The name of the matrix among the base's modules, and the matrix; None when the base has no such thing.
        """
        found = self.find(module)
        if found is not None:
            return found, self._matrices[found]
        head = next((head for head in self._tied if f".{module}".endswith(f".{head}")), None)
        if head is not None:
            return head, self._tied[head]
        part = EXPERT_PART.match(spelled(module))
        if part is None:
            return None
        if part["part"] == FUSED:
            return self._stacked(part["experts"])
        return self._half(part["experts"], part["part"]) if part["part"] in HALVES else None

    def is_tied(self, name: str) -> bool:
        """True for the name of a head whose matrix is the input embedding."""
        return name in self._tied and name not in self._matrices

    def _stacked(self, experts: str) -> tuple[str, StoredMatrix] | None:
        """gate over up, which the base stores apart."""
        halves = [self.find(f"{experts}.{half}") for half in HALVES]
        if None in halves:
            return None
        container = str(halves[0]).rpartition(".")[0]
        blocks = tuple(block for half in halves if half for block in self._matrices[half].blocks)
        return f"{container}.{FUSED}", StoredMatrix(blocks)

    def _half(self, experts: str, half: str) -> tuple[str, StoredMatrix] | None:
        """gate or up out of the matrix that the base stores fused."""
        fused = self.find(f"{experts}.{FUSED}")
        if fused is None:
            return None
        halves = halves_of(self._matrices[fused], alternating=self._alternating(fused))
        return None if halves is None else (f"{fused.rpartition('.')[0]}.{half}", halves[HALVES.index(half)])


def halves_of(fused: StoredMatrix, *, alternating: bool | None) -> tuple[StoredMatrix, StoredMatrix] | None:
    """gate and up out of a fused matrix; None where nobody knows which rows are which."""
    if alternating is None:
        return None
    if alternating:
        return fused.every(0, 2), fused.every(1, 2)
    rows = fused.shape[0] // 2
    return fused.take(((0, rows),)), fused.take(((rows, 2 * rows),))
