"""A policy file as a `Policy`: the words, not the fleet. The language is in docs/policy.md."""

from __future__ import annotations

from ipaddress import IPv6Address

from netagent.model.errors import Problem, Span
from netagent.model.fleet import check_name
from netagent.policy.document import MappingNode, Node, ScalarNode
from netagent.policy.language import (
    Case,
    Expectation,
    Mode,
    Party,
    Policy,
    Rule,
    Selector,
    Traffic,
    Unused,
    Verdict,
)
from netagent.policy.nodes import Reader, nearest, quote
from netagent.policy.selectors import SelectorReader, parse_machine_path
from netagent.policy.traffic import ANY, PROTOCOLS, TrafficTextError, parse_traffic

_VERDICTS = {"deny": Verdict.DENY, "allow": Verdict.ALLOW}
_MODES = {"enforce": Mode.ENFORCE, "audit": Mode.AUDIT}
_TOP = ("network", "default", "mode", "groups", "services", "rules", "tests")


def read_policy(node: Node) -> tuple[Policy | None, list[Problem]]:
    """Return the policy of a document, and everything that is wrong with it.

    With problems the policy holds what could be read (for more checks, never to be applied), or is
    None when not even its network could be.
    """
    return _PolicyReader().read(node)


class _PolicyReader:
    def __init__(self) -> None:
        self.reader = Reader()
        self.selectors = SelectorReader(self.reader, "")
        self.services: dict[str, tuple[Traffic, ...]] = {}
        self.used_services: set[str] = set()
        self.named: list[Unused] = []

    def read(self, node: Node) -> tuple[Policy | None, list[Problem]]:
        top = self.reader.mapping(node, "the policy", _TOP, required=("network",))
        if not top:
            return None, self.reader.problems
        network = None
        if "network" in top:
            network = self.reader.checked(
                top["network"][1], "network", lambda text: check_name("network", text)
            )
        # Without its network the rest is read all the same, for the sake of its problems.
        self.selectors.network = network or ""
        self._groups(top)
        self._services(top)
        rules = self._rules(top)
        cases = self._cases(top)
        default = mode = None
        if "default" in top:
            default = self.reader.choice(top["default"][1], "default", _VERDICTS)
        if "mode" in top:
            mode = self.reader.choice(top["mode"][1], "mode", _MODES)
        if network is None:
            return None, self.reader.problems
        used = {"group": self.selectors.used, "service": self.used_services}
        unused = tuple(one for one in self.named if one.name not in used[one.kind])
        policy = Policy(
            network,
            rules,
            default or Verdict.DENY,
            mode or Mode.ENFORCE,
            cases,
            unused,
            top["network"][0],
        )
        return policy, self.reader.problems

    def _groups(self, top: dict[str, tuple[Span, Node]]) -> None:
        if "groups" not in top:
            return
        for name, (span, node) in self.reader.mapping(top["groups"][1], "groups").items():
            self._name(span, name, f"group {quote(name)}")
            self.named.append(Unused("group", name, span))
            found = self.selectors.peer(node, f"group {quote(name)}", is_group=True)
            self.selectors.groups[name] = found

    def _services(self, top: dict[str, tuple[Span, Node]]) -> None:
        if "services" not in top:
            return
        services = {}
        for name, (span, node) in self.reader.mapping(top["services"][1], "services").items():
            what = f"service {quote(name)}"
            self._name(span, name, what)
            if name in PROTOCOLS or name == ANY:
                self.reader.note(span, f"{what} has the name of a protocol", "choose another")
            self.named.append(Unused("service", name, span))
            services[name] = self._traffic(node, what)
        self.services = services

    def _rules(self, top: dict[str, tuple[Span, Node]]) -> tuple[Rule, ...]:
        if "rules" not in top:
            return ()
        rules = []
        lines: dict[str, int] = {}
        for node in self.reader.sequence(top["rules"][1], "rules"):
            rule, name = self._rule(node)
            if name in lines:
                message = f"another rule is called {quote(name)}, in line {lines[name]}"
                self.reader.note(node.span, message, "rules are known by their names: rename one")
            elif name:
                lines[name] = node.span.line
            if rule is not None:
                rules.append(rule)
        return tuple(rules)

    def _rule(self, node: Node) -> tuple[Rule | None, str]:
        keys = self.reader.mapping(
            node, "a rule", ("name", "from", "to", "allow", "deny", "mode"), ("name", "from", "to")
        )
        if not isinstance(node, MappingNode):
            return None, ""
        name = ""
        if "name" in keys:
            name = self.reader.text(keys["name"][1], "name") or ""
            if name:
                self._name(keys["name"][1].span, name, "a rule's name")
        what = f"rule {quote(name)}" if name else "a rule"
        source: tuple[Selector, ...] = ()
        destination: tuple[Selector, ...] = ()
        if "from" in keys:
            source = self.selectors.peer(keys["from"][1], f"{what}: from")
        if "to" in keys:
            destination = self.selectors.peer(keys["to"][1], f"{what}: to")
        mode = Mode.ENFORCE
        if "mode" in keys:
            mode = self.reader.choice(keys["mode"][1], f"{what}: mode", _MODES) or mode
        verdicts = [word for word in ("allow", "deny") if word in keys]
        traffic: tuple[Traffic, ...] = ()
        for word in verdicts:
            traffic = self._traffic(keys[word][1], f"{what}: {word}")
        if len(verdicts) != 1:
            has = "both allow and deny" if verdicts else "neither allow nor deny"
            self.reader.note(node.span, f"{what} has {has}", "a rule has exactly one of them")
            return None, name
        if not (name and source and destination and traffic):
            return None, name
        verdict = _VERDICTS[verdicts[0]]
        return Rule(name, source, destination, verdict, traffic, mode, node.span), name

    def _cases(self, top: dict[str, tuple[Span, Node]]) -> tuple[Case, ...]:
        if "tests" not in top:
            return ()
        cases = (self._case(node) for node in self.reader.sequence(top["tests"][1], "tests"))
        return tuple(case for case in cases if case is not None)

    def _case(self, node: Node) -> Case | None:
        keys = self.reader.mapping(node, "a test", ("from", "to", "allow", "deny"), ("from", "to"))
        if not isinstance(node, MappingNode):
            return None
        parties = [
            self.reader.checked(
                keys[word][1],
                f"a test's {word}",
                lambda text: parse_party(text, self.selectors.network),
            )
            for word in ("from", "to")
            if word in keys
        ]
        expectations = []
        for word in ("allow", "deny"):
            if word not in keys:
                continue
            for item in self.reader.items(keys[word][1], f"a test's {word}"):
                traffic = self._traffic_of(item, f"a test's {word}")
                if traffic and isinstance(item, ScalarNode):
                    expectations.append(Expectation(_VERDICTS[word], item.text, traffic, item.span))
        if "allow" not in keys and "deny" not in keys:
            self.reader.note(node.span, "a test expects nothing", "add allow: or deny:")
        if len(parties) < 2 or parties[0] is None or parties[1] is None or not expectations:
            return None
        return Case(parties[0], parties[1], tuple(expectations), node.span)

    def _traffic(self, node: Node, what: str) -> tuple[Traffic, ...]:
        found: dict[Traffic, None] = {}
        for item in self.reader.items(node, what):
            found.update(dict.fromkeys(self._traffic_of(item, what)))
        return tuple(found)

    def _traffic_of(self, node: Node, what: str) -> tuple[Traffic, ...]:
        text = self.reader.text(node, what)
        if text is None:
            return ()
        if text in self.services:
            self.used_services.add(text)
            return self.services[text]
        try:
            return parse_traffic(text)
        except TrafficTextError as error:
            message, hint = error.message, error.hint
        if "/" not in text:
            message = f"{quote(text)} is neither a protocol nor a service"
            hint = nearest(text, (*self.services, *PROTOCOLS, ANY)) or hint
        if text.isdecimal():
            hint = f'a list of ports is quoted: "tcp/80,{text}"; one port is tcp/{text}'
        self.reader.note(node.span, f"{what}: {message}", hint)
        return ()

    def _name(self, span: Span, name: str, what: str) -> None:
        self.reader.checked(ScalarNode(span, name), what, lambda text: check_name("name", text))


def parse_party(text: str, network: str) -> Party:
    """Return the party that `host`, an IPv6 address, `NAME` or `NETWORK/NAME` stands for.

    network: the one that a bare NAME is of. InvalidError or ValueError when it is none of these.
    """
    if text == "host":
        return Party(is_host=True)
    if ":" in text:
        return Party(address=IPv6Address(text))
    return Party(machine="/".join(parse_machine_path(text, network)))
