"""The factor cache: what was once computed of a W0, found again by the hash of its content.

One safetensors file per base matrix and kind of factors. An entry that cannot be read, or that is not of this W0,
is never trusted: a few products with random vectors tell, and the caller computes the factors anew.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spectra.assets import cache_folder
from spectra.engine.factors import LeadingFactors
from spectra.linalg.krylov import gram_together
from spectra.linalg.operators import LinearOperator
from spectra.linalg.svd import SVD
from spectra.storage import atomic
from spectra.storage.cached_files import CachedFiles

FORMAT = "spectra-factors-2"
DEFAULT_LIMIT_BYTES = 10 << 30
# Relative error that an entry may show against W0: far above float32 rounding, far below any other matrix.
SOUND = 1e-3


class FactorCache:
    """A folder of factors with a bounded size; the entry used longest ago goes first."""

    def __init__(self, folder: Path | None = None, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """Use a folder (by default `factors` in the cache folder of spectra); it is made on the first write."""
        self.files = CachedFiles(
            folder if folder is not None else cache_folder() / "factors", ".safetensors", limit_bytes
        )

    @property
    def folder(self) -> Path:
        """Where the factors lie."""
        return self.files.folder

    def entry(self, key: str, W0: LinearOperator) -> "CacheEntry":
        """The store of one base matrix; `key` is the hash of its content."""
        return CacheEntry(self, f"{key}-{str(W0.dtype).removeprefix('torch.')}", W0)

    def read(self, name: str) -> dict[str, Tensor] | None:
        """The tensors of an entry, or None when it is absent or unreadable."""
        path = self.files.find(name)
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                if told.get("format") != FORMAT:
                    return None
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            if not self.files.is_sealed(told.get("seal"), name, *_parts(tensors)):
                return None  # somebody else wrote it
            os.utime(path)
        except (OSError, SafetensorError):
            return None
        return tensors

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write an entry whole or not at all, then drop the oldest ones beyond the limit.

        A folder that cannot be written costs time, not the computation: it is warned of, and nothing is kept.
        """
        if sum(tensor.nbytes for tensor in tensors.values()) > self.files.limit_bytes:
            return
        with self.files.writing(name, SafetensorError) as path:
            if path is None:
                return
            held = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            with atomic.replacing(path) as partial:
                save_file(held, partial, metadata={"format": FORMAT, "seal": self.files.seal(name, *_parts(held))})
            self.files.evict()


@dataclass(frozen=True, eq=False)
class CacheEntry:
    """The factors of one W0 in the cache (a `FactorStore`)."""

    cache: FactorCache
    key: str
    W0: LinearOperator

    def load_leading(self) -> LeadingFactors | None:
        """Leading factors that pass their test against W0."""
        stored = self.cache.read(f"{self.key}-leading")
        if stored is None or set(stored) != {"vectors", "values", "sin_angles", "residual", "floor"}:
            return None
        vectors = stored["vectors"].to(device=self.W0.device, dtype=self.W0.dtype)
        values = stored["values"]
        fits = vectors.ndim == 2 and vectors.shape[0] == min(self.W0.shape) and values.shape == vectors.shape[1:]
        if not fits or stored["sin_angles"].shape != values.shape or not _are_eigenpairs(self.W0, vectors, values):
            return None
        sines, residual, floor = (stored[name] for name in ("sin_angles", "residual", "floor"))
        try:
            return LeadingFactors(vectors, values, sines, float(residual), float(floor))
        except ValueError:
            return None

    def save_leading(self, factors: LeadingFactors) -> None:
        """Keep leading factors."""
        self.cache.write(
            f"{self.key}-leading",
            {
                "vectors": factors.vectors,
                "values": factors.values,
                "sin_angles": factors.sin_angles,
                "residual": torch.tensor(factors.residual, dtype=torch.float64),
                "floor": torch.tensor(factors.floor, dtype=torch.float64),
            },
        )

    def has_full(self) -> bool:
        """True when a full factorisation is in the folder."""
        return self.cache.files.path(f"{self.key}-full").is_file()

    def load_full(self) -> SVD | None:
        """The thin SVD, if it passes its test against W0."""
        stored = self.cache.read(f"{self.key}-full")
        if stored is None or set(stored) != {"U", "S", "Vh"}:
            return None
        U, S, Vh = (stored[name].to(device=self.W0.device, dtype=self.W0.dtype) for name in ("U", "S", "Vh"))
        d_out, d_in = self.W0.shape
        n = min(d_out, d_in)
        if U.shape != (d_out, n) or S.shape != (n,) or Vh.shape != (n, d_in):
            return None
        svd = SVD(U, S, Vh)
        return svd if _is_factorisation(self.W0, svd) else None

    def save_full(self, svd: SVD) -> None:
        """Keep a thin SVD."""
        self.cache.write(f"{self.key}-full", {"U": svd.U, "S": svd.S, "Vh": svd.Vh})


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """What a seal binds beside the name: every tensor with its key, type and shape."""
    for key, tensor in sorted(tensors.items()):
        yield f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


def _probe(rows: int, like: Tensor) -> Tensor:
    # Fresh numbers at every load: an entry cannot be made to pass for numbers that are known beforehand.
    generator = torch.Generator().manual_seed(secrets.randbits(63))
    return torch.randn(rows, 8, generator=generator).to(like)


def _are_eigenpairs(W0: LinearOperator, vectors: Tensor, values: Tensor) -> bool:
    """True when the columns are orthonormal and H X c = X Theta c for random c."""
    mixed = _probe(vectors.shape[1], vectors)
    combined = vectors @ mixed
    [image] = gram_together(W0, [None], [combined])
    expected = vectors @ (values[:, None].to(vectors) * mixed)
    orthonormal = torch.linalg.vector_norm(vectors.mH @ combined - mixed) <= SOUND * torch.linalg.vector_norm(mixed)
    return bool(orthonormal) and _close(image, expected)


def _is_factorisation(W0: LinearOperator, svd: SVD) -> bool:
    """True when U diag(S) Vh acts as W0 on random vectors and both factors are orthonormal on them."""
    X = _probe(W0.shape[1], svd.U)
    z = _probe(svd.S.shape[0], svd.U)
    return (
        _close(svd.U @ (svd.S[:, None] * (svd.Vh @ X)), W0.matmat(X))
        and _close(svd.U.mH @ (svd.U @ z), z)
        and _close(svd.Vh @ (svd.Vh.mH @ z), z)
    )


def _close(found: Tensor, expected: Tensor) -> bool:
    return bool(torch.linalg.vector_norm(found - expected) <= SOUND * torch.linalg.vector_norm(expected))
