"""A scan spread over the nodes of a Ray cluster: one actor per node, which keeps its checkpoints open."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectra.cluster.connection import joined, passed_on
from spectra.cluster.workplace import stand_where_the_driver_stands
from spectra.engine.cache import FactorCache
from spectra.errors import ClusterError
from spectra.records.selection import Selection
from spectra.scanning.journal import Finished, Place
from spectra.scanning.scan import Groups, PartialScan, ScanGroups
from spectra.scanning.settings import ScanSettings
from spectra.weights import open_pair
from spectra.weights.streams.opened import opened_once


@dataclass(frozen=True)
class SpreadScan:
    """A cluster that scans in place of this process (a `scanning.scan.Spread`).

    Every node opens the checkpoints itself, so they lie on a file system that all share, or are read where they lie,
    each tensor by the node that scans it. Each keeps factors of the base between scans for itself.

    Attributes:
        address: "auto", or HOST:PORT of the cluster's head.
    """

    address: str

    def __call__(
        self,
        checkpoints: Sequence[str],
        base: str | None,
        selection: Selection,
        settings: ScanSettings,
        cache: bool,
    ) -> ScanGroups:
        """Who scans the matrices of these checkpoints."""
        given = (str(Path.cwd()), tuple(checkpoints), base, selection, settings, cache)
        return lambda groups: self._scan(groups, given)

    def _scan(self, groups: Groups, given: tuple[Any, ...]) -> Iterator[Finished]:
        settings = given[4]
        with joined(self.address) as ray:
            gpus = 1 if settings.device.startswith("cuda") else 0
            nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= gpus]
            actors = [_actor(ray, node, gpus, given) for node in nodes if node["Resources"].get("CPU", 0) >= 1]
            try:
                yield from _dispatched(ray, actors, groups)
            finally:
                for actor in actors:
                    ray.kill(actor)


class Scanner:
    """Lives on one node; opens the checkpoints once and scans what it is handed."""

    def __init__(
        self,
        folder: str,
        checkpoints: Sequence[str],
        base: str | None,
        selection: Selection,
        settings: ScanSettings,
        cache: bool,
    ) -> None:
        self._given = (folder, checkpoints, base, selection, settings, cache)
        self._opened: PartialScan | None = None
        self._arrived: Mapping[str, int] = {}

    def scan(self, places: Sequence[Place]) -> Finished:
        """Matrices that share their W0."""
        # Opened here and not on creation, whose errors Ray reports as the death of the actor.
        self._opened = self._opened or self._open()
        (finished,) = self._opened.scan_groups([places])
        arrived, before = self._opened.plan.arrived(), self._arrived
        self._arrived = arrived
        since = {name: count - before.get(name, 0) for name, count in arrived.items()}
        return replace(finished, arrived=since, version=self._opened.plan.version)

    def _open(self) -> PartialScan:
        folder, checkpoints, base, selection, settings, cache = self._given
        stand_where_the_driver_stands(folder)
        with opened_once():
            pairs = [open_pair(base, checkpoint, selection) for checkpoint in checkpoints]
        return PartialScan(pairs, settings, FactorCache() if cache else None)


def _actor(ray: Any, node: Mapping[str, Any], gpus: int, given: tuple[Any, ...]) -> Any:
    """A scanner that stays on its node and has all of its CPUs."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return (
        ray.remote(Scanner)
        .options(
            num_cpus=int(node["Resources"]["CPU"]),
            num_gpus=gpus,
            runtime_env=passed_on(),
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        .remote(*given)
    )


def _dispatched(ray: Any, actors: Sequence[Any], groups: Groups) -> Iterator[Finished]:
    """Every group to whoever is free; what an actor had when it died goes to the others.

    Raises:
        ClusterError: If no actor is left.
        SpectraError: What a scan itself complained of.
    """
    waiting, free = list(reversed(groups)), list(actors)
    busy: dict[Any, tuple[Any, Sequence[Place]]] = {}
    while waiting or busy:
        while waiting and free:
            actor, places = free.pop(), waiting.pop()
            busy[actor.scan.remote(places)] = actor, places
        if not busy:
            raise ClusterError(f"No node is left to scan {len(waiting)} matrices. Run the same command to continue.")
        (ready, *_), _ = ray.wait(list(busy))
        actor, places = busy.pop(ready)
        try:
            finished = ray.get(ready)
        except ray.exceptions.RayActorError:
            waiting.append(places)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        else:
            free.append(actor)
            yield finished
