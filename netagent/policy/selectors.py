"""Selectors as they are written: docs/policy.md, "Selectors"."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Network, ip_network

from netagent.model.errors import Span
from netagent.model.fleet import check_labels, check_name
from netagent.policy.document import MappingNode, Node, ScalarNode
from netagent.policy.language import (
    AnySelector,
    CidrSelector,
    HostSelector,
    LabelSelector,
    LabelTest,
    MachineSelector,
    Requirement,
    Selector,
)
from netagent.policy.nodes import Reader, nearest, quote

_KEYS = ("labels", "network", "machine", "cidr", "except", "group")


@dataclass(slots=True)
class SelectorReader:
    """Reads selectors of one network's policy.

    groups: what `{group: NAME}` stands for. used: the names that were met.
    """

    reader: Reader
    network: str
    groups: dict[str, tuple[Selector, ...]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def peer(self, node: Node, what: str, is_group: bool = False) -> tuple[Selector, ...]:
        """Return what `from`, `to` or a group lists, without repetition; problems are noted."""
        if isinstance(node, ScalarNode) and node.is_null:
            self.reader.note(node.span, f"{what} is empty", "to mean everybody, write any")
            return ()
        selectors: dict[Selector, None] = {}
        for item in self.reader.items(node, what):
            selectors.update(dict.fromkeys(self._selector(item, what, is_group)))
        return tuple(selectors)

    def _selector(self, node: Node, what: str, is_group: bool) -> tuple[Selector, ...]:
        if isinstance(node, ScalarNode) and not node.is_null:
            if node.text == "any":
                return (AnySelector(),)
            if node.text == "host":
                return (HostSelector(),)
            hint = f"write any, host, {{machine: {node.text}}} or {{group: {node.text}}}"
            self.reader.note(node.span, f"{what}: {quote(node.text)} is not a selector", hint)
            return ()
        if not isinstance(node, MappingNode):
            self.reader.wrong_kind(node, what, "a selector")
            return ()
        keys = self.reader.mapping(node, what, _KEYS)
        if not keys:
            if not node.entries:
                self.reader.note(node.span, f"{what} is empty", "to mean everybody, write any")
            return ()
        return self._of_kind(node.span, keys, what, is_group)

    def _of_kind(
        self, span: Span, keys: dict[str, tuple[Span, Node]], what: str, is_group: bool
    ) -> tuple[Selector, ...]:
        given = set(keys)
        if given in ({"labels"}, {"network"}, {"network", "labels"}):
            selector = self._labels(span, keys, what)
            return (selector,) if selector else ()
        if given == {"machine"}:
            return self._machines(keys["machine"][1], what)
        if given in ({"cidr"}, {"cidr", "except"}):
            return self._cidr(span, keys, what)
        if given == {"group"}:
            return self._group(keys["group"][1], what, is_group)
        if given == {"except"}:
            self.reader.note(span, f"{what}: except without cidr", "add cidr: [PREFIX]")
            return ()
        self.reader.note(
            span,
            f"{what}: {' and '.join(sorted(given))} do not go together in one selector",
            "write a list of selectors: [{...}, {...}]",
        )
        return ()

    def _labels(
        self, span: Span, keys: dict[str, tuple[Span, Node]], what: str
    ) -> LabelSelector | None:
        network: str | None = self.network
        if "network" in keys:
            network = self.reader.checked(
                keys["network"][1], f"{what}: network", lambda text: check_name("network", text)
            )
        requirements: list[Requirement | None] = []
        if "labels" in keys:
            labels = self.reader.mapping(keys["labels"][1], f"{what}: labels")
            if not labels and not isinstance(keys["labels"][1], MappingNode):
                return None
            for key, (place, node) in labels.items():
                requirements.append(self._requirement(key, place, node))
        found = [one for one in requirements if one is not None]
        if network is None or len(found) < len(requirements):
            return None
        return LabelSelector(network, tuple(sorted(found, key=lambda one: one.key)), span)

    def _requirement(self, key: str, place: Span, node: Node) -> Requirement | None:
        what = f"label {quote(key)}"
        test = LabelTest.IN
        self.reader.checked(ScalarNode(place, key), what, lambda text: check_labels({text: ""}))
        if isinstance(node, MappingNode):
            keys = self.reader.mapping(node, what, ("exists", "not"))
            if len(keys) != 1:
                if keys or not node.entries:
                    self.reader.note(node.span, f"{what} needs either exists or not")
                return None
            ((word, (_, node)),) = keys.items()
            if word == "exists":
                choices = {"true": LabelTest.EXISTS, "false": LabelTest.ABSENT}
                exists = self.reader.choice(node, f"{what}: exists", choices)
                return Requirement(key, exists) if exists else None
            test = LabelTest.NOT_IN
        items = self.reader.items(node, what)
        values = [
            self.reader.checked(item, what, lambda text: check_labels({"key": text})["key"])
            for item in items
        ]
        known = sorted({value for value in values if value is not None})
        return Requirement(key, test, tuple(known)) if known and None not in values else None

    def _machines(self, node: Node, what: str) -> tuple[Selector, ...]:
        found: list[Selector] = []
        for item in self.reader.items(node, f"{what}: machine"):
            path = self.reader.checked(
                item, f"{what}: machine", lambda text: parse_machine_path(text, self.network)
            )
            if path is not None:
                found.append(MachineSelector(*path, item.span))
        return tuple(found)

    def _cidr(
        self, span: Span, keys: dict[str, tuple[Span, Node]], what: str
    ) -> tuple[Selector, ...]:
        prefixes = self._prefixes(keys["cidr"][1], f"{what}: cidr")
        exceptions: list[tuple[Span, IPv6Network]] = []
        if "except" in keys:
            exceptions = self._prefixes(keys["except"][1], f"{what}: except")
        for place, exception in exceptions:
            if prefixes and not any(exception.subnet_of(prefix) for _, prefix in prefixes):
                self.reader.note(
                    place,
                    f"{what}: except {exception} is not within any prefix of cidr",
                    "it would except nothing: correct or remove it",
                )
        if not prefixes:
            return ()
        return (
            CidrSelector(
                tuple(sorted({prefix for _, prefix in prefixes})),
                tuple(sorted({prefix for _, prefix in exceptions})),
                span,
            ),
        )

    def _prefixes(self, node: Node, what: str) -> list[tuple[Span, IPv6Network]]:
        found = []
        for item in self.reader.items(node, what):
            text = self.reader.text(item, what)
            prefix = None if text is None else self._prefix(item.span, text, what)
            if prefix is not None:
                found.append((item.span, prefix))
        return found

    def _prefix(self, span: Span, text: str, what: str) -> IPv6Network | None:
        try:
            prefix = ip_network(text)
        except ValueError:
            try:
                widened = ip_network(text, strict=False)
            except ValueError:
                message = f"{what}: {quote(text)} is not an IPv6 prefix"
                self.reader.note(span, message, "write it as 2001:db8::/32")
                return None
            message = f"{what}: {text} has host bits set"
            self.reader.note(span, message, f"write {widened}, or /128 for one address")
            return None
        if not isinstance(prefix, IPv6Network):
            self.reader.note(span, f"{what}: {text} is IPv4", "the overlay is IPv6 only")
            return None
        if prefix.network_address.scope_id is not None:
            self.reader.note(span, f"{what}: {text} has a scope", "remove what follows the %")
            return None
        return prefix

    def _group(self, node: Node, what: str, is_group: bool) -> tuple[Selector, ...]:
        name = self.reader.text(node, f"{what}: group")
        if name is None:
            return ()
        if is_group:
            message = f"{what}: a group cannot refer to the group {quote(name)}"
            self.reader.note(
                node.span, message, "list its selectors, or name both groups in the rule"
            )
            return ()
        self.used.add(name)
        if name not in self.groups:
            hint = nearest(name, self.groups)
            self.reader.note(node.span, f"{what}: no group is called {quote(name)}", hint)
        return self.groups.get(name, ())


def parse_machine_path(text: str, network: str) -> tuple[str, str]:
    """Return (network, name) of `NAME` or `NETWORK/NAME`; InvalidError if it is neither."""
    left, slash, right = text.rpartition("/")
    return check_name("network", left) if slash else network, check_name("machine", right)
