"""Which matrices a selection leaves, by their names, and why it leaves out the others."""

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
    if roles is not None and not any(f".{name.role}".endswith(f".{role}") for role in roles):
        return "its role is not among --roles"
    if layers is not None and name.layer not in layers:
        return "its layer is not among --layers"
    return None
