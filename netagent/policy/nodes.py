"""Reading the tree strictly: kinds, known keys, duplicates, and a list of everything that is wrong.

A reader that finds a problem notes it and returns None (or what could be read), so that one run
reports all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import TypeVar

from netagent.model.errors import InvalidError, Problem, Span
from netagent.policy.document import MappingNode, Node, ScalarNode, SequenceNode

Value = TypeVar("Value")
Choice = TypeVar("Choice", bound=Enum)

MAX_QUOTED = 60


def quote(text: str) -> str:
    """Return text for a message, cut when it is long."""
    return repr(text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest known word, or all of a few, or nothing."""
    choices = sorted(known)
    close = get_close_matches(word[:MAX_QUOTED], choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use {', '.join(choices)}" if 0 < len(choices) <= 10 else ""


@dataclass(slots=True)
class Reader:
    """Collects problems while nodes are read."""

    problems: list[Problem] = field(default_factory=list)

    def note(self, span: Span, message: str, hint: str = "") -> None:
        """Remember one problem."""
        self.problems.append(Problem(span, message, hint))

    def mapping(
        self,
        node: Node,
        what: str,
        allowed: Iterable[str] | None = None,
        required: Iterable[str] = (),
    ) -> dict[str, tuple[Span, Node]]:
        """Return key to (place of the key, value); empty when `node` is not a mapping.

        allowed: the keys that may be there; None for free ones. A duplicate keeps the first.
        """
        if not isinstance(node, MappingNode):
            self.wrong_kind(node, what, "a mapping (key: value)")
            return {}
        found: dict[str, tuple[Span, Node]] = {}
        known = None if allowed is None else set(allowed)
        for key, value in node.entries:
            if known is not None and key.text not in known:
                hint = nearest(key.text, known)
                self.note(key.span, f"unknown key {quote(key.text)} in {what}", hint)
            elif key.text in found:
                first = found[key.text][0]
                message = f"{quote(key.text)} is here twice, first in line {first.line}"
                self.note(key.span, message, "remove one")
            else:
                found[key.text] = key.span, value
        for key_name in required:
            if key_name not in found:
                self.note(node.span, f"{what} has no {key_name!r}")
        return found

    def items(self, node: Node, what: str) -> tuple[Node, ...]:
        """Return the elements of a list, or a single value as a list of one; an empty one is noted.

        A null is noted as empty too.
        """
        if isinstance(node, SequenceNode):
            if not node.items:
                self.note(node.span, f"{what} is an empty list", "empty never means any")
            return node.items
        if isinstance(node, ScalarNode) and node.is_null:
            self.note(node.span, f"{what} is empty", "empty never means any; write what you mean")
            return ()
        return (node,)

    def sequence(self, node: Node, what: str) -> tuple[Node, ...]:
        """Return the elements of a list, which may be empty; anything else is noted."""
        if isinstance(node, SequenceNode):
            return node.items
        self.wrong_kind(node, what, "a list (- item)")
        return ()

    def text(self, node: Node, what: str) -> str | None:
        """Return a plain value as it was typed."""
        if isinstance(node, ScalarNode) and not node.is_null:
            return node.text
        self.wrong_kind(node, what, "a word")
        return None

    def checked(self, node: Node, what: str, check: Callable[[str], Value]) -> Value | None:
        """Return `check(text)` of a plain value; InvalidError and ValueError become problems."""
        text = self.text(node, what)
        if text is None:
            return None
        try:
            return check(text)
        except InvalidError as error:
            self.note(node.span, f"{what}: {error.problem}")
        except ValueError as error:
            self.note(node.span, f"{what}: {error}")
        return None

    def choice(self, node: Node, what: str, choices: Mapping[str, Choice]) -> Choice | None:
        """Return the enum member that the word stands for."""
        text = self.text(node, what)
        if text is None:
            return None
        if text not in choices:
            self.note(node.span, f"{what}: {quote(text)} is not known", nearest(text, choices))
            return None
        return choices[text]

    def wrong_kind(self, node: Node, what: str, wanted: str) -> None:
        """Note that a node is of another kind than wanted."""
        if isinstance(node, ScalarNode):
            is_what = "empty" if node.is_null else f"the word {quote(node.text)}"
        else:
            is_what = "a list" if isinstance(node, SequenceNode) else "a mapping"
        self.note(node.span, f"{what} must be {wanted}, not {is_what}")
