"""A device that is not there: tensors that say they are on a GPU, and refuse what a GPU would refuse.

Every pretended tensor holds one on the CPU. An operation on several tensors fails where one of them is a matrix on the
other device, as CUDA does; reading a value (`float()`, `bool()`, `.tolist()`, `.cpu()`) counts as a synchronisation.
So a machine without a GPU can tell whether a path ever mixes devices, and how often it waits for the device.

The device is called "meta": torch built for the CPU knows no other name that it can dispatch on.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = "meta"
# Operations that take an index on the CPU beside a tensor on the GPU.
INDEXING = ("aten.index.Tensor", "aten.index_put_.default", "aten.index_put.default")
INTO_ANOTHER = ("aten.copy_.default", "aten._to_copy.default")


class PretendedTensor(Tensor):
    """A tensor that says it is on the GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "PretendedTensor":
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(GPU),
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """The values, after waiting for the device."""
        return self.cpu().tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """What torch says of a tensor on a GPU."""
        raise TypeError("can't convert a device tensor to numpy. Use Tensor.cpu() first.")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} was called outside `pretended_gpu`")


class _Pretending(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.synchronisations: Counter[str] = Counter()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = str(func)
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        there = any(isinstance(tensor, PretendedTensor) for tensor in tensors)
        device = kwargs.get("device")
        wanted = torch.device(device) if device is not None else None
        if wanted is not None and wanted.type == GPU:
            kwargs["device"] = torch.device("cpu")
        if there:
            self.operations += 1
            self._require_one_device(name, tensors)
            if name in ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default"):
                self.synchronisations[name] += 1
        if name == "aten.copy_.default" and there and not all(isinstance(t, PretendedTensor) for t in tensors):
            self.synchronisations["copy"] += 1
        results_there = there if wanted is None else wanted.type == GPU
        if there and wanted is not None and wanted.type == "cpu":
            self.synchronisations["to the CPU"] += 1
        if name == "aten._local_scalar_dense.default":
            results_there = False
        if name == "aten.copy_.default":
            results_there = isinstance(args[0], PretendedTensor)
        bare = tree_map(lambda leaf: leaf.held if isinstance(leaf, PretendedTensor) else leaf, (args, kwargs))
        found = func(*bare[0], **bare[1])
        if name.split(".")[1].endswith("_") and args and isinstance(args[0], PretendedTensor):
            return args[0]  # in place
        if not results_there:
            return found.clone() if there and isinstance(found, Tensor) and name == "aten._to_copy.default" else found
        return tree_map(
            lambda leaf: PretendedTensor(leaf) if isinstance(leaf, Tensor) and type(leaf) is Tensor else leaf, found
        )

    @staticmethod
    def _require_one_device(name: str, tensors: list[Tensor]) -> None:
        if name in INTO_ANOTHER:
            return
        if name in INDEXING:
            tensors = tensors[:1]
        elsewhere = [tensor for tensor in tensors if not isinstance(tensor, PretendedTensor) and tensor.ndim]
        if elsewhere or (name in INDEXING and not isinstance(tensors[0], PretendedTensor)):
            raise RuntimeError(f"Expected all tensors to be on the same device in {name}: found both.")


@contextmanager
def pretended_gpu() -> Iterator[_Pretending]:
    """A GPU of the name `GPU`; gives the count of synchronisations."""
    with _Pretending() as mode:
        yield mode
