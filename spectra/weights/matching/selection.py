"""Which matrices are compared: by default all linear layers of the blocks, no embeddings, no heads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spectra.errors import CheckpointError, first_five
from spectra.weights.matching.names import DIFFUSION_BLOCKS, EMBEDDING, MatrixName

MOST_LAYERS = 100_000


@dataclass(frozen=True)
class Selection:
    """A choice of matrices by name.

    Attributes:
        include: Regular expression; only canonical names that it matches somewhere are kept. It also opens the way
            to what the default leaves out: embeddings, heads and whatever stands outside the blocks.
        exclude: Regular expression; canonical names that it matches somewhere are left out.
        roles: Roles to keep; "dense" also names "attention.output.dense".
        layers: Layers to keep.
        split_fused: Whether fused matrices are taken apart first.
    """

    include: re.Pattern[str] | None = None
    exclude: re.Pattern[str] | None = None
    roles: frozenset[str] | None = None
    layers: frozenset[int] | None = None
    split_fused: bool = False

    @staticmethod
    def is_inside(name: MatrixName, *, has_blocks: bool) -> bool:
        """True for what is compared unless something is selected: matrices of the blocks that embed nothing."""
        in_a_block = name.layer is not None or not has_blocks or DIFFUSION_BLOCKS.search(name.canonical) is not None
        return EMBEDDING.search(name.canonical) is None and in_a_block

    def reason_to_skip(self, name: MatrixName, *, has_blocks: bool, set_aside: str | None = None) -> str | None:
        """Why a matrix is not compared, or None when it is.

        Args:
            name: The matrix.
            has_blocks: False for a model without any numbered block, where everything counts as inside.
            set_aside: Why this one is compared only when --include names it.
        """
        if self.include is not None:
            if not self.include.search(name.canonical):
                return "not matched by --include"
        elif EMBEDDING.search(name.canonical):
            return "an embedding; name it with --include to compare it"
        elif not self.is_inside(name, has_blocks=has_blocks):
            return "outside the blocks; name it with --include to compare it"
        elif set_aside is not None:
            return set_aside
        if self.exclude is not None and self.exclude.search(name.canonical):
            return "matched by --exclude"
        if self.roles is not None and not any(_has_role(name, role) for role in self.roles):
            return "its role is not among --roles"
        if self.layers is not None and name.layer not in self.layers:
            return "its layer is not among --layers"
        return None

    def require_known(self, names: Sequence[MatrixName]) -> None:
        """Refuse roles and layers that no matrix has: one of several would otherwise be missed without a word.

        Args:
            names: Every matrix of the base.

        Raises:
            CheckpointError: Naming those that do not exist, and those that do.
        """
        inside = [name for name in names if name.layer is not None] or names
        if strange := sorted(role for role in self.roles or () if not any(_has_role(name, role) for name in names)):
            raise CheckpointError(
                f"No matrix has the role {first_five(strange)}. Choose --roles among "
                f"{', '.join(sorted({name.role for name in inside}))}."
            )
        layers = sorted({name.layer for name in names if name.layer is not None})
        if missing := sorted((self.layers or frozenset()).difference(layers)):
            there = f"among {layers[0]} to {layers[-1]}" if layers else "not at all: this model has no numbered blocks"
            raise CheckpointError(f"No matrix is in layer {first_five(missing)}. Choose --layers {there}.")


def _has_role(name: MatrixName, role: str) -> bool:
    return f".{name.role}".endswith(f".{role}")


def selection(
    include: str | None = None,
    exclude: str | None = None,
    roles: str | None = None,
    layers: str | None = None,
    *,
    split_fused: bool = False,
) -> Selection:
    """Build a selection from what the user typed.

    Args:
        include: Regular expression on canonical names.
        exclude: Regular expression on canonical names.
        roles: Comma-separated roles, such as "q_proj,v_proj".
        layers: Comma-separated layers and ranges, such as "0-11" or "0,3,8-11".
        split_fused: Take fused matrices apart.

    Raises:
        CheckpointError: If a regular expression or a range is malformed.
    """
    return Selection(
        _pattern("include", include),
        _pattern("exclude", exclude),
        frozenset(role.strip() for role in roles.split(",") if role.strip()) if roles is not None else None,
        _layers(layers) if layers is not None else None,
        split_fused,
    )


def _pattern(option: str, text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise CheckpointError(f"--{option} '{text}' is no regular expression ({error}). Correct it.") from error


def _layers(text: str) -> frozenset[int]:
    chosen: set[int] = set()
    for part in text.split(","):
        span = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        if span is None or (span[2] is not None and int(span[2]) < int(span[1])):
            raise CheckpointError(f"--layers '{text}' is no list of layers. Write it like 0-11 or 0,3,8-11.")
        if int(span[2] or span[1]) > MOST_LAYERS:
            raise CheckpointError(f"--layers '{text}' goes beyond {MOST_LAYERS}. Name layers that the model has.")
        chosen.update(range(int(span[1]), int(span[2] or span[1]) + 1))
    return frozenset(chosen)
