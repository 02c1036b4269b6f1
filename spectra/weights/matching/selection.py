"""Which matrices a selection leaves, by their names, and why it leaves out the others."""

from collections.abc import Sequence

from spectra.errors import CheckpointError, first_five
from spectra.records.selection import Selection
from spectra.weights.matching.names import DIFFUSION_BLOCKS, EMBEDDING, MatrixName


def is_inside(name: MatrixName, *, has_blocks: bool) -> bool:
    """True for what is compared unless something is selected: matrices of the blocks that embed nothing."""
    in_a_block = name.layer is not None or not has_blocks or DIFFUSION_BLOCKS.search(name.canonical) is not None
    return EMBEDDING.search(name.canonical) is None and in_a_block


def reason_to_skip(
    selection: Selection, name: MatrixName, *, has_blocks: bool, set_aside: str | None = None
) -> str | None:
    """Why a matrix is not compared, or None when it is.

    Args:
        selection: What was asked for.
        name: The matrix.
        has_blocks: False for a model without any numbered block, where everything counts as inside.
        set_aside: Why this one is compared only when --include names it.
    """
    if selection.included is not None:
        if not selection.included.search(name.canonical):
            return "not matched by --include"
    elif EMBEDDING.search(name.canonical):
        return "an embedding; name it with --include to compare it"
    elif not is_inside(name, has_blocks=has_blocks):
        return "outside the blocks; name it with --include to compare it"
    elif set_aside is not None:
        return set_aside
    if selection.excluded is not None and selection.excluded.search(name.canonical):
        return "matched by --exclude"
    roles, layers = selection.chosen_roles, selection.chosen_layers
    if roles is not None and not any(_has_role(name, role) for role in roles):
        return "its role is not among --roles"
    if layers is not None and name.layer not in layers:
        return "its layer is not among --layers"
    return None


def require_known(selection: Selection, names: Sequence[MatrixName]) -> None:
    """Refuse roles and layers that no matrix has: one of several would otherwise be missed without a word.

    Args:
        selection: What was asked for.
        names: Every matrix of the base.

    Raises:
        CheckpointError: Naming those that do not exist, and those that do.
    """
    inside = [name for name in names if name.layer is not None] or names
    roles, chosen = selection.chosen_roles or (), selection.chosen_layers or frozenset()
    if strange := sorted(role for role in roles if not any(_has_role(name, role) for name in names)):
        raise CheckpointError(
            f"No matrix has the role {first_five(strange)}. Choose --roles among "
            f"{', '.join(sorted({name.role for name in inside}))}."
        )
    layers = sorted({name.layer for name in names if name.layer is not None})
    if missing := sorted(chosen.difference(layers)):
        there = f"among {layers[0]} to {layers[-1]}" if layers else "not at all: this model has no numbered blocks"
        raise CheckpointError(f"No matrix is in layer {first_five(missing)}. Choose --layers {there}.")


def _has_role(name: MatrixName, role: str) -> bool:
    return f".{name.role}".endswith(f".{role}")
