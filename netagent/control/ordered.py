"""A dictionary by name that can also be read in order from any name on."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class OrderedNames(Generic[_Value]):
    """Values by name. NETWORK/NAME sorts by network, then name.

    Adding a name costs a shift of the list of names; reading in order costs nothing.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._values: dict[str, _Value] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> _Value:
        return self._values[name]

    def get(self, name: str) -> _Value | None:
        """Return the value of a name, or None."""
        return self._values.get(name)

    def set(self, name: str, value: _Value) -> None:
        """Set the value of a name."""
        if name not in self._values:
            insort(self._names, name, key=_order)
        self._values[name] = value

    def remove(self, name: str) -> None:
        """Remove a name, if it is there."""
        if name in self._values:
            del self._values[name]
            del self._names[bisect_left(self._names, _order(name), key=_order)]

    def items(self) -> Iterator[tuple[str, _Value]]:
        """Yield names and values in order."""
        return ((name, self._values[name]) for name in self._names)

    def after(self, name: str, prefix: str = "") -> Iterator[tuple[str, _Value]]:
        """Yield what begins with `prefix` and comes after `name`, in order."""
        start = bisect_left(self._names, max(_order(prefix), _order(name)), key=_order)
        for index in range(start, len(self._names)):
            found = self._names[index]
            if not found.startswith(prefix):
                return
            if found != name:
                yield found, self._values[found]

    def before(self, name: str) -> Iterator[tuple[str, _Value]]:
        """Yield what comes before `name` (empty: everything), in reverse order."""
        end = bisect_left(self._names, _order(name), key=_order) if name else len(self._names)
        for index in range(end - 1, -1, -1):
            yield self._names[index], self._values[self._names[index]]


def _order(name: str) -> str:
    # A slash sorts after the hyphen that names may hold; it has to sort before everything.
    return name.replace("/", "\0")
