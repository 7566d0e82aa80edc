"""The text form of protocols and ports: docs/policy.md, "Protocols".

Numbers: IANA protocol numbers; ICMPv6 types of RFC 4443. The types that never cross the overlay are
those that the packet path refuses (docs/architecture.md, from_machine, line 10).
"""

from __future__ import annotations

from collections.abc import Iterable

from netagent.policy.language import Traffic

ICMP6 = 58
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp6": ICMP6}
ANY = "any"

ICMP6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo": 128,
    "echo-request": 128,
    "echo-reply": 129,
}
ICMP6_NEVER_CROSS = frozenset((*range(130, 138), 143))
"""MLD, neighbour and router discovery."""

_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_TYPE_NAMES = {number: name for name, number in ICMP6_TYPES.items() if name != "echo-request"}


class TrafficTextError(ValueError):
    """The text is not traffic. args: what is wrong, and a hint that may be empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def parse_traffic(text: str) -> tuple[Traffic, ...]:
    """Return the traffic that `tcp/80,443`, `icmp6/echo`, `udp` or `any` stands for.

    Raises TrafficTextError.
    """
    if text == ANY:
        return (Traffic(None),)
    name, slash, rest = text.partition("/")
    protocol = PROTOCOLS.get(name)
    if protocol is None:
        raise TrafficTextError(
            f"{text!r} is not a protocol", "write tcp/PORT, udp/PORT, sctp/PORT, icmp6/TYPE or any"
        )
    if not slash:
        return (Traffic(protocol),)
    parse = _parse_type if protocol == ICMP6 else _parse_ports
    return tuple(parse(protocol, text, part.strip()) for part in rest.split(","))


def _parse_ports(protocol: int, text: str, part: str) -> Traffic:
    low, dash, high = part.partition("-")
    first = _parse_number(text, "port", low.strip(), 0xFFFF)
    last = _parse_number(text, "port", high.strip(), 0xFFFF) if dash else first
    if last < first:
        raise TrafficTextError(
            f"{text!r}: the range {first}-{last} is reversed",
            f"write {text.partition('/')[0]}/{last}-{first}",
        )
    return Traffic(protocol, first, last)


def _parse_type(protocol: int, text: str, part: str) -> Traffic:
    number = ICMP6_TYPES.get(part)
    if number is None:
        if part and not part.isdecimal():
            raise TrafficTextError(
                f"{text!r}: no ICMPv6 type is called {part!r}",
                f"use {', '.join(ICMP6_TYPES)} or a number",
            )
        number = _parse_number(text, "ICMPv6 type", part, 0xFF)
    if number in ICMP6_NEVER_CROSS:
        raise TrafficTextError(
            f"{text!r}: ICMPv6 type {number} never crosses the overlay, no rule is asked about it",
            "leave it out; neighbour discovery of the gateway always works",
        )
    return Traffic(protocol, number << 8, number << 8 | 0xFF)


def _parse_number(text: str, what: str, digits: str, most: int) -> int:
    if not (digits.isascii() and digits.isdecimal()):
        raise TrafficTextError(f"{text!r}: {digits!r} is not a {what}", f"use 0 to {most}")
    # Bounded before int(): a number of a million digits would take a second to convert.
    if len(digits) > 6 or int(digits) > most:
        raise TrafficTextError(
            f"{text!r}: {what} {digits[:20]} is not within 0 to {most}",
        )
    return int(digits)


def format_traffic(traffic: Iterable[Traffic]) -> str:
    """Return traffic in the language, sorted, one protocol after the other: `tcp/80,443, udp`."""
    parts: dict[int | None, list[str]] = {}
    for item in sorted(traffic, key=lambda one: (one.protocol or 0, one.first)):
        parts.setdefault(item.protocol, []).append(_format_range(item))
    return ", ".join(
        _protocol_name(protocol)
        if "" in ranges
        else f"{_protocol_name(protocol)}/{','.join(ranges)}"
        for protocol, ranges in parts.items()
    )


def format_point(protocol: int, port: int) -> str:
    """Return one protocol and port as `tcp/443`; `icmp6/echo`; protocols without ports bare."""
    if protocol not in _PROTOCOL_NAMES:
        return _protocol_name(protocol)
    return format_traffic([Traffic(protocol, port, port)])


def _protocol_name(protocol: int | None) -> str:
    if protocol is None:
        return ANY
    return _PROTOCOL_NAMES.get(protocol, f"protocol {protocol}")


def _format_range(item: Traffic) -> str:
    if item.first == 0 and item.last == 0xFFFF:
        return ""
    if item.protocol == ICMP6:
        first, last = item.first >> 8, item.last >> 8
        if first == last:
            return _TYPE_NAMES.get(first, str(first))
        return f"{first}-{last}"
    return str(item.first) if item.first == item.last else f"{item.first}-{item.last}"
