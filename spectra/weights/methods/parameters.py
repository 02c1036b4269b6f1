"""LoRA on bare parameters (peft's `target_parameters`): which factors belong to which expert tensor.

peft wraps the module that owns the parameters once per parameter, so that the factors of the first parameter carry
the most `.base_layer` in their names and those of the last carry none. Nothing in the file says which is which.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations

from spectra.errors import AdapterError, first_five
from spectra.weights.matching.alignment import Alignment
from spectra.weights.methods.adapter import Adapter, Factors

# The order in which transformers' expert modules register their parameters.
REGISTERED = ("gate_up_proj", "gate_proj", "up_proj", "w1", "w3", "down_proj", "w2")
WRAPPED = ".base_layer"


def container_of(module: str) -> tuple[str, int]:
    """The module that owns the parameters, and how many wrappers stand between."""
    depth = 0
    while module.endswith(WRAPPED):
        module, depth = module.removesuffix(WRAPPED), depth + 1
    return module, depth


def targeted_parameters(adapter: Adapter, container: str) -> Sequence[str]:
    """The parameters of a module that the configuration targets, in the order they were wrapped."""
    targets = adapter.config.get("target_parameters") or []
    found = {
        parameter
        for parent, _, parameter in (str(target).rpartition(".") for target in targets)
        if not parent or f".{container}".endswith(f".{parent}")
    }
    return sorted(found, key=lambda name: (REGISTERED.index(name) if name in REGISTERED else len(REGISTERED), name))


def assigned(
    adapter: Adapter, container: str, factors: Mapping[int, Factors], aligned: Alignment
) -> Mapping[str, Factors]:
    """Which factors belong to which parameter of one module.

    Args:
        adapter: The adapter.
        container: The module that owns the parameters.
        factors: Its factors by depth of wrapping.
        aligned: Finds the base's matrices.

    Raises:
        AdapterError: If the configuration's parameters do not account for the factors.
    """
    parameters = targeted_parameters(adapter, container)
    if len(parameters) != len(factors):
        raise AdapterError(
            f"'{container}' in '{adapter.file}' has {len(factors)} pairs of factors for {len(parameters)} targeted "
            f"parameters ({first_five(parameters) or 'none'}). Restore the adapter's configuration."
        )
    wrapped = [factors[depth] for depth in sorted(factors, reverse=True)]
    # The registered order first; any other order only where shapes rule that one out.
    for order in permutations(parameters):
        if all(_fits(aligned, container, name, pair) for name, pair in zip(order, wrapped, strict=True)):
            return dict(zip(order, wrapped, strict=True))
    raise AdapterError(
        f"The factors of '{container}' in '{adapter.file}' fit none of its parameters {first_five(parameters)} "
        "in the base. Check that the adapter was trained from this base."
    )


def _fits(aligned: Alignment, container: str, parameter: str, factors: Factors) -> bool:
    found = aligned.matrix(f"{container}.0.{parameter}")
    if found is None:
        return False
    d_out, d_in = found[1].shape
    return (factors.B.shape[0], factors.A.shape[1]) in ((d_out, d_in), (d_in, d_out))
