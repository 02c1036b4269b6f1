"""Tables that other packages extend: one door for our own entries, for entry points and for --plugin modules.

An entry is a frozen object with a `name`. It enters a table in one of three ways, which differ in nothing else: it
is among the entries that the table is made with; an installed package names it under `[project.entry-points]`; or it
stands at the top level of a module that the user names with `spectra --plugin MODULE`. The last two are read when the
table is first looked into, so that a table costs nothing until then.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from spectra.errors import PluginError

# Where the modules of --plugin stand for this process and those that it starts, separated as in PATH.
VARIABLE = "SPECTRA_PLUGINS"
OWN = "spectra"
# Where an entry comes from that no other process will have.
IN_THIS_PROCESS = "a call of register"


@runtime_checkable
class Entry(Protocol):
    """What a table holds."""

    @property
    def name(self) -> str:
        """What a user calls it."""
        ...

    @property
    def documentation(self) -> str:
        """One line that says what it is."""
        ...


T = TypeVar("T", bound=Entry)


class Registry(Mapping[str, T], Generic[T]):
    """A table of entries by name: our own first, then those of other packages.

    Attributes:
        group: The group of entry points, such as "spectra.metrics".
        noun: What one entry is called in a sentence.
        origins: Where each entry comes from, by name; "spectra" for our own.
    """

    def __init__(self, group: str, noun: str, kind: type, own: Iterable[T] = ()) -> None:
        """Make a table.

        Args:
            group: The group of entry points.
            noun: What one entry is called in a sentence.
            kind: The type of the entries; anything else is refused.
            own: Our own entries, in their order.
        """
        self.group, self.noun = group, noun
        self.kind: Any = kind
        self.origins: dict[str, str] = {}
        self._entries: dict[str, T] = {}
        self._read: set[str] = set()
        self._has_points = False
        for entry in own:
            self.register(entry, OWN)
        TABLES[group] = self

    def register(self, entry: T, origin: str = "") -> None:
        """Enter one entry. The same object twice is one entry.

        Args:
            entry: The entry.
            origin: Where it comes from; empty takes the plugin that is being loaded, or else `IN_THIS_PROCESS`.

        Raises:
            PluginError: If it is no such entry, or its name is taken by another.
        """
        self._enter(entry, origin or current_origin())

    def is_own(self, name: str) -> bool:
        """True for an entry that comes with this package."""
        return self.origins.get(name) == OWN

    @property
    def own(self) -> tuple[T, ...]:
        """The entries that come with this package; reads no plugin."""
        return tuple(entry for name, entry in self._entries.items() if self.is_own(name))

    @property
    def added(self) -> tuple[T, ...]:
        """The entries of other packages."""
        return tuple(entry for entry in self.values() if not self.is_own(entry.name))

    def __getitem__(self, name: object) -> T:
        if not isinstance(name, str):  # a list of a foreign file, which could not be looked up at all
            raise KeyError(name)
        if name not in self._entries:
            self._extend()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._extend()
        return iter(self._entries)

    def __len__(self) -> int:
        self._extend()
        return len(self._entries)

    def _enter(self, entry: Any, origin: str) -> None:
        if not isinstance(entry, self.kind) or not isinstance(entry.name, str) or not entry.name:
            raise PluginError(
                f"The {self.noun} of {origin} is {entry!r:.80}, which is no {self.kind.__name__} with a name. "
                f"Make it a {self.kind.__name__}; docs/extending.md shows one."
            )
        known = self._entries.get(entry.name)
        if known is not None and known is not entry:
            raise PluginError(
                f"Two entries of {self.group} are called '{entry.name}': one of {self.origins[entry.name]} and one of "
                f"{origin}. "
                "Rename or remove one of them."
            )
        if known is None:
            self._entries[entry.name] = entry
            self.origins[entry.name] = origin

    def _extend(self) -> None:
        """Read what is not yet read: entry points, then the modules of --plugin."""
        points = () if self._has_points else entry_points(group=self.group)
        self._has_points = True
        try:
            self._take_all(points)
        except PluginError:
            self._has_points = False
            raise

    def _take_all(self, points: Iterable[EntryPoint]) -> None:
        for point in points:
            self._take(f"the entry point '{point.name}'{_package(point)}", point.load)
        for module in plugin_modules():
            self._take(f"the plugin '{module}'", partial(plugin_module, module))

    def _take(self, origin: str, load: Callable[[], Any]) -> None:
        if origin in self._read:
            return
        self._read.add(origin)  # before it is read: a plugin may look into the table while it is imported
        try:
            found = _loaded(origin, load)
            module = isinstance(found, ModuleType)
            for entry in [one for one in vars(found).values() if isinstance(one, self.kind)] if module else [found]:
                self._enter(entry, origin)
        except PluginError:
            self._read.discard(origin)
            raise


TABLES: dict[str, Registry[Any]] = {}


def plugin_modules() -> tuple[str, ...]:
    """The modules that --plugin named, in this process or in the one that started it."""
    return tuple(dict.fromkeys(name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name))


def use_plugins(modules: Iterable[str]) -> None:
    """Take entries of these modules into every table, here and in the processes that this one starts.

    Args:
        modules: Names of modules that can be imported, or paths of Python files. They are imported, which runs them.

    Raises:
        PluginError: If one cannot be imported.
    """
    named = [str(Path(module).resolve()) if module.endswith(".py") else module for module in modules]
    for module in named:
        _loaded(f"the plugin '{module}'", partial(plugin_module, module))
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*plugin_modules(), *named]))


def plugin_module(module: str) -> ModuleType:
    """Import a module by its name, or a Python file by its path; a second time it is the same module."""
    if not module.endswith(".py"):
        return importlib.import_module(module)
    name = f"spectra_plugin_{Path(module).stem}_{abs(hash(module)):x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, module)
        if spec is None or spec.loader is None:
            raise ImportError(f"{module} is no Python file")
        made = importlib.util.module_from_spec(spec)
        sys.modules[name] = made
        try:
            spec.loader.exec_module(made)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def resolved(function: "str | Callable[..., Any]") -> Callable[..., Any]:
    """A function, or the one that "module:name" says: so a table names heavy code without importing it."""
    if callable(function):
        return function
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def code_digest(function: "str | Callable[..., Any]") -> str:
    """SHA-256 of the file in which a function stands; its name where there is no such file."""
    found = resolved(function)
    path = inspect.getsourcefile(inspect.unwrap(found)) if inspect.isroutine(found) else None
    return hashlib.sha256(Path(path).read_bytes() if path else repr(function).encode()).hexdigest()


def _loaded(origin: str, load: Callable[[], Any]) -> Any:
    """What a plugin gives; whatever goes wrong while it is imported is told in one sentence."""
    _LOADING.append(origin)
    try:
        return load()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:  # the code of a plugin may raise anything
        reason = str(error).strip().splitlines()
        raise PluginError(
            f"{origin[0].upper()}{origin[1:]} cannot be loaded ({type(error).__name__}: {reason[0] if reason else '-'}"
            "). Repair or remove it."
        ) from error
    finally:
        _LOADING.pop()


_LOADING: list[str] = []


def current_origin() -> str:
    """Where an entry comes from that is registered now: the plugin that is being loaded, or this process alone."""
    return _LOADING[-1] if _LOADING else IN_THIS_PROCESS


def _package(point: EntryPoint) -> str:
    return f" of {point.dist.name} {point.dist.version}" if point.dist is not None else ""
