"""A pinned map of another kernel, read through bpftool."""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

from integration.lab.backend import CannotDo
from integration.lab.vm.shell import GuestShell
from netagent.dataplane.tables import Layout

K = TypeVar("K")
V = TypeVar("V")


class GuestTable(Generic[K, V]):
    """Has of `Table` what only reads."""

    def __init__(self, shell: GuestShell, layout: Layout[K, V], path: str) -> None:
        self._shell = shell
        self._layout = layout
        self._path = path

    @property
    def map_id(self) -> int:
        """The kernel's number of the map."""
        return int(self._bpftool("show")["id"])

    def items(self) -> dict[K, V]:
        """Return all rows."""
        return {
            self._layout.unpack_key(_bytes(row["key"])): self._layout.unpack_value(
                _bytes(row["value"])
            )
            for row in self._bpftool("dump")
        }

    def get(self, key: K) -> V | None:
        """Return one row's value, or None."""
        return self.items().get(key)

    def update(self, rows: dict[K, V]) -> None:
        """Writing is not possible."""
        raise CannotDo("altering the kernel's tables from here: a guest has another kernel")

    def delete(self, keys: list[K]) -> None:
        """Writing is not possible."""
        raise CannotDo("altering the kernel's tables from here: a guest has another kernel")

    def close(self) -> None:
        """Nothing is open."""

    def _bpftool(self, verb: str) -> Any:
        done = self._shell.run("bpftool", "--json", "map", verb, "pinned", self._path)
        return json.loads(done.stdout)


def _bytes(words: list[str]) -> bytes:
    return bytes(int(word, 16) for word in words)
