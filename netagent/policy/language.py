"""What a policy says, as values: docs/policy.md, "Selectors" and "Protocols".

Places in the file are kept for messages and take no part in equality: a policy with one more
comment is the same policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address, IPv6Network

from netagent.model.errors import Span

NOWHERE = Span("(built in)", 1, 1)


class Verdict(Enum):
    """What happens to a packet. The values are those in the compiled entries."""

    DENY = 0
    ALLOW = 1

    @property
    def opposite(self) -> Verdict:
        """The other one."""
        return Verdict.ALLOW if self is Verdict.DENY else Verdict.DENY


class Mode(Enum):
    """Whether a policy or a rule decides, or is only reported."""

    ENFORCE = "enforce"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Traffic:
    """One protocol and a range of its destination ports (ICMPv6: of `type << 8 | code`).

    protocol: IP protocol number, 1 to 255; None is every protocol, then the range is whole.
    first, last: 0 to 65535, both included.
    """

    protocol: int | None
    first: int = 0
    last: int = 0xFFFF

    def covers(self, protocol: int, port: int) -> bool:
        """Whether a packet of this protocol to this port is of this traffic."""
        return self.protocol in (None, protocol) and self.first <= port <= self.last


@dataclass(frozen=True, slots=True)
class AnySelector:
    """Everybody: machines of every network, hosts, outside."""


@dataclass(frozen=True, slots=True)
class HostSelector:
    """The hosts' own stable addresses."""


class LabelTest(Enum):
    """What a line of `labels` asks of one key."""

    IN = "in"
    NOT_IN = "not in"
    EXISTS = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of `labels`. values: sorted; empty for EXISTS and ABSENT, never for the others."""

    key: str
    test: LabelTest
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Machines of one network whose labels satisfy all requirements; with none, all of them."""

    network: str
    requirements: tuple[Requirement, ...] = ()
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class MachineSelector:
    """One machine, by NETWORK and NAME."""

    network: str
    name: str
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def path(self) -> str:
        """NETWORK/NAME."""
        return f"{self.network}/{self.name}"


@dataclass(frozen=True, slots=True)
class CidrSelector:
    """Outside addresses within one of `prefixes` and none of `exceptions`; both sorted."""

    prefixes: tuple[IPv6Network, ...]
    exceptions: tuple[IPv6Network, ...] = ()
    span: Span = field(default=NOWHERE, compare=False)

    def covers(self, address: IPv6Address) -> bool:
        """Whether the selector matches an outside address."""
        return any(address in prefix for prefix in self.prefixes) and not any(
            address in exception for exception in self.exceptions
        )


Selector = AnySelector | HostSelector | LabelSelector | MachineSelector | CidrSelector
"""One way to say who. A tuple of them matches what any of them matches."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. source, destination and traffic are never empty."""

    name: str
    source: tuple[Selector, ...]
    destination: tuple[Selector, ...]
    verdict: Verdict
    traffic: tuple[Traffic, ...]
    mode: Mode = Mode.ENFORCE
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Party:
    """Who a question is about: a machine (NETWORK/NAME), a host, or an outside address.

    Exactly one of machine, is_host and address says so.
    """

    machine: str | None = None
    is_host: bool = False
    address: IPv6Address | None = None

    def __str__(self) -> str:
        if self.machine is not None:
            return self.machine
        return "host" if self.is_host else str(self.address)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one policy says about one packet.

    rule: the name of the rule that decided, None for the default (or for audit mode letting pass).
    is_audited: something in audit mode would have said the opposite; audit_rule: which rule, None
    for the default of a policy in audit mode.
    """

    verdict: Verdict
    rule: str | None = None
    is_audited: bool = False
    audit_rule: str | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """One line of a test: all of this traffic must have this verdict. text: as written."""

    verdict: Verdict
    text: str
    traffic: tuple[Traffic, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a policy's own. expectations: at least one."""

    source: Party
    destination: Party
    expectations: tuple[Expectation, ...]
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Unused:
    """A group or service that nothing refers to. kind: `group` or `service`."""

    kind: str
    name: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of one network: groups and services are resolved, names are not yet checked."""

    network: str
    rules: tuple[Rule, ...] = ()
    default: Verdict = Verdict.DENY
    mode: Mode = Mode.ENFORCE
    cases: tuple[Case, ...] = ()
    unused: tuple[Unused, ...] = ()
    span: Span = field(default=NOWHERE, compare=False)


def built_in_policy(network: str) -> Policy:
    """Return the policy of a network that has none: open inside and to hosts' connections."""
    return Policy(
        network=network,
        default=Verdict.ALLOW,
        rules=(
            Rule(
                name="hosts-reach-machines",
                source=(HostSelector(),),
                destination=(LabelSelector(network),),
                verdict=Verdict.ALLOW,
                traffic=(Traffic(None),),
            ),
        ),
    )
