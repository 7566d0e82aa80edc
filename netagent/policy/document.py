"""A YAML text as a tree that knows where each value was written.

Built from PyYAML's events rather than by its composer: scalars keep their text (so that `no` and
`1.10` are what was typed), duplicate keys are seen, and what could blow up (aliases, depth, size)
is refused where it stands. Knows nothing of policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from netagent.model.errors import PolicyError, Problem, Span

MAX_BYTES = 4 << 20
MAX_DEPTH = 16

_Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A value as it was typed. is_null: nothing was written, or a bare `null` or `~`."""

    span: Span
    text: str
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list."""

    span: Span
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MappingNode:
    """Keys with values, in the order of the file, duplicates included."""

    span: Span
    entries: tuple[tuple[ScalarNode, Node], ...]


Node = ScalarNode | SequenceNode | MappingNode


def parse_document(source: str | bytes, file: str) -> Node:
    """Return the one YAML document that `source` holds.

    source: at most 4 MiB; bytes must be UTF-8 (a byte order mark is skipped).
    file: the name that spans bear.
    Raises PolicyError: what YAML refuses, an empty file, several documents, aliases, anchors, tags,
    keys that are not plain values, more than 16 levels. Nothing else escapes, whatever the text.
    """
    text = _decode(source, file)
    loader = _Loader(text)
    try:
        return _Composer(loader, file).compose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        span = _span(file, mark) if mark else Span(file, 1, 1)
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise PolicyError([Problem(span, f"not YAML: {said}")]) from error
    except yaml.reader.ReaderError as error:
        raise PolicyError([_unreadable(error, text, file)]) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise PolicyError([Problem(Span(file, 1, 1), f"not YAML: {error}")]) from error
    finally:
        loader.dispose()


def _decode(source: str | bytes, file: str) -> str:
    if len(source) > MAX_BYTES:
        raise PolicyError(
            [Problem(Span(file, 1, 1), f"{len(source):,} bytes are more than {MAX_BYTES:,}")]
        )
    try:
        if isinstance(source, bytes):
            return source.decode("utf-8-sig")
        return source.encode().decode("utf-8-sig")
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        newline = b"\n" if isinstance(source, bytes) else "\n"
        line = source[:start].count(newline) + 1  # type: ignore[arg-type]
        problem = f"byte {start} is not UTF-8"
        raise PolicyError(
            [Problem(Span(file, line, 1), problem, "save the file as UTF-8")]
        ) from error


def _unreadable(error: yaml.reader.ReaderError, text: str, file: str) -> Problem:
    before = text[: error.position]
    if yaml.__with_libyaml__:  # which counts in bytes
        before = text.encode()[: error.position].decode(errors="ignore")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return Problem(Span(file, line, column), f"not YAML: {error.reason}", "remove the character")


def _span(file: str, mark: Any) -> Span:
    return Span(file, mark.line + 1, mark.column + 1)


class _Composer:
    """Events to nodes, with a stack of its own so that depth is a figure and not a crash."""

    def __init__(self, loader: yaml.SafeLoader | yaml.CSafeLoader, file: str) -> None:
        self._file = file
        self._events: Iterator[yaml.Event] = iter(loader.get_event, None)

    def compose(self) -> Node:
        root: Node | None = None
        open_nodes: list[tuple[yaml.Event, list[Node]]] = []
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                self._refuse(
                    event, "a second document", "one file holds one document: remove the ---"
                )
            finished: Node | None = None
            if isinstance(event, yaml.NodeEvent):
                self._check_node(event)
            if isinstance(event, yaml.ScalarEvent):
                finished = self._scalar(event)
            elif isinstance(event, yaml.CollectionStartEvent):
                if len(open_nodes) == MAX_DEPTH:
                    self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
                open_nodes.append((event, []))
            elif isinstance(event, yaml.CollectionEndEvent):
                finished = self._collection(*open_nodes.pop())
            if finished is not None and open_nodes:
                open_nodes[-1][1].append(finished)
            elif finished is not None:
                root = finished
        if root is None or (isinstance(root, ScalarNode) and root.is_null):
            raise PolicyError([Problem(Span(self._file, 1, 1), "the file is empty")])
        return root

    def _check_node(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self._refuse(
                event,
                f"{sign}{event.anchor}: anchors and aliases are not used here",
                "name what is shared under groups: or services:",
            )
        if getattr(event, "tag", None) is not None:
            self._refuse(event, f"the tag {event.tag} is not used here", "remove it")  # type: ignore[attr-defined]

    def _scalar(self, event: yaml.ScalarEvent) -> ScalarNode:
        is_null = event.style is None and event.value in ("", "~", "null", "Null", "NULL")
        # libyaml says style "" where the Python parser says None.
        is_null = is_null or (
            event.style == "" and event.value in ("", "~", "null", "Null", "NULL")
        )
        return ScalarNode(_span(self._file, event.start_mark), event.value, is_null)

    def _collection(self, start: yaml.Event, children: list[Node]) -> Node:
        span = _span(self._file, start.start_mark)
        if isinstance(start, yaml.SequenceStartEvent):
            return SequenceNode(span, tuple(children))
        entries = []
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, ScalarNode):
                raise PolicyError([Problem(key.span, "a key must be a plain word")])
            entries.append((key, value))
        return MappingNode(span, tuple(entries))

    def _refuse(self, event: yaml.Event, message: str, hint: str = "") -> None:
        raise PolicyError([Problem(_span(self._file, event.start_mark), message, hint)])
