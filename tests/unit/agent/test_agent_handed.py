"""Which interfaces of a host may be handed to a machine."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from netagent.agent.handed import check_handed_interface
from netagent.dataplane.link_use import LinkUse
from netagent.model.errors import InvalidError, StateError

ENDPOINT = ip_address("10.9.0.1")
TAP = LinkUse("tun", True, False, None, (), False)


@pytest.mark.parametrize("kind", ["tun", "veth"])
def test_what_is_the_machines_alone_is_taken(kind: str) -> None:
    check_handed_interface("tap0", replace(TAP, kind=kind), ENDPOINT)


@pytest.mark.parametrize(
    ("name", "change", "error", "why"),
    [
        pytest.param("lo", {"kind": ""}, InvalidError, "the host's loopback", id="lo"),
        pytest.param("na-web", {"is_ours": True}, InvalidError, "the agent's own", id="ours"),
        pytest.param("u0", {"addresses": (ENDPOINT,)}, StateError, "endpoint", id="endpoint"),
        pytest.param(
            "u1",
            {"addresses": (ip_address("2001:db8::1"),)},
            StateError,
            "2001:db8::1",
            id="address",
        ),
        pytest.param("u2", {"has_default_route": True}, StateError, "default route", id="route"),
        pytest.param("tap1", {"master": "br0"}, StateError, "a port of br0", id="bridge port"),
        pytest.param("tun0", {"is_ethernet": False}, InvalidError, "Ethernet", id="layer 3"),
        pytest.param("br0", {"kind": "bridge"}, InvalidError, "a bridge interface", id="bridge"),
        pytest.param("eth0", {"kind": ""}, InvalidError, "hardware", id="hardware"),
    ],
)
def test_what_the_host_needs_is_refused(name: str, change: dict, error: type, why: str) -> None:
    with pytest.raises(error, match=f"^interface: {name} .*{why}") as caught:
        check_handed_interface(name, replace(TAP, **change), ENDPOINT)

    assert "give a tap" in str(caught.value)
