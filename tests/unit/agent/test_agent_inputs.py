"""What people and the kernel hand to the agent: configuration, requests, link events."""

import struct
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from agent_rig import H1, H2, H3, WEB
from hypothesis import given
from hypothesis import strategies as st

from netagent.agent.attach import AttachOrder, parse_order
from netagent.agent.attached import EndpointState, endpoint_state, interface_name
from netagent.agent.conditions import Code, Conditions
from netagent.agent.config import AgentConfig
from netagent.agent.link_watch import LinkEvent, parse_events
from netagent.agent.state_lock import hold_state_lock
from netagent.model.errors import ConfigError, InvalidError, StateError
from netagent.model.fleet import Endpoint, Identity, Location, Transition


@pytest.mark.parametrize(
    ("change", "key"),
    [
        pytest.param({"name": "Host_1"}, "name", id="name"),
        pytest.param({"control": ""}, "control", id="control"),
        pytest.param(
            {"endpoint": Endpoint(ip_address("0.0.0.0"), 1)}, "endpoint", id="any address"
        ),
        pytest.param({"endpoint": Endpoint(ip_address("fe80::1"), 1)}, "endpoint", id="link-local"),
        pytest.param({"region": 4096}, "region", id="region"),
        pytest.param({"mesh_interface": "sixteen-letters!"}, "mesh_interface", id="long name"),
        pytest.param({"host_interface": "netagent0"}, "host_interface", id="one name for two"),
        pytest.param({"mtu_bytes": 1279}, "mtu_bytes", id="mtu"),
        pytest.param({"audit_interval_s": 0.0}, "audit_interval_s", id="interval"),
    ],
)
def test_wrong_configuration_is_named(config: AgentConfig, change: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: "):
        replace(config, **change)


def test_order_for_a_namespace() -> None:
    order = parse_order("red/web", "", "/run/netns/web", "02:00:00:00:00:0A")

    assert order == AttachOrder("red/web", None, Path("/run/netns/web"), b"\x02\0\0\0\0\x0a")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        pytest.param(("", "tap0", "", ""), "machine", id="no machine"),
        pytest.param(("a/b/c", "tap0", "", ""), "machine", id="three parts"),
        pytest.param(("red/Web", "tap0", "", ""), "machine", id="upper case"),
        pytest.param(("web", "", "", ""), "device", id="no device"),
        pytest.param(("web", "tap0", "/run/netns/web", ""), "device", id="two devices"),
        pytest.param(("web", "../../tap0", "", ""), "interface", id="path"),
        pytest.param(("web", "a-name-of-16-by.", "", ""), "interface", id="long name"),
        pytest.param(("web", "", "netns/web", ""), "netns", id="relative path"),
        pytest.param(("web", "tap0", "", "02:00"), "mac", id="short mac"),
        pytest.param(("web", "tap0", "", "01:00:00:00:00:01"), "mac", id="group mac"),
        pytest.param(("web", "tap0", "", "00:00:00:00:00:00"), "mac", id="zero mac"),
        pytest.param(("web", "tap0", "", "02:ea:61:00:00:01"), "mac", id="gateway's mac"),
    ],
)
def test_wrong_order_names_its_field(fields: tuple[str, str, str, str], named: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_order(*fields)

    assert caught.value.field == named


@given(st.integers(0, 2**64 - 1), st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True))
def test_interface_names_fit_the_kernel(stable_id: int, name: str) -> None:
    for is_taken in (lambda _: False, lambda _: True):
        assert 0 < len(interface_name(stable_id, f"red/{name}", is_taken)) <= 15


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_interface_names_of_last_resort_are_unique(one: int, other: int) -> None:
    names = {interface_name(i, "red/a-name-that-is-long", lambda _: True) for i in (one, other)}

    assert len(names) == len({one, other})


def test_interface_is_named_after_the_machine_where_that_is_free() -> None:
    assert interface_name(WEB, "red/web", lambda _: False) == "na-web"
    assert interface_name(WEB, "red/web", lambda name: name == "na-web") != "na-web"


@pytest.mark.parametrize(
    ("location", "transition", "state"),
    [
        pytest.param(H1, None, EndpointState.LIVE, id="here"),
        pytest.param(H1, (H1, H2), EndpointState.LIVE, id="about to leave"),
        pytest.param(H2, (H2, H1), EndpointState.STAGED, id="on its way here"),
        pytest.param(H2, (H1, H2), EndpointState.FENCED, id="has left, is forwarded"),
        pytest.param(H2, (H2, H3), EndpointState.FENCED, id="moves elsewhere"),
        pytest.param(H2, None, EndpointState.FENCED, id="elsewhere"),
        pytest.param(None, None, EndpointState.FENCED, id="nowhere"),
    ],
)
def test_state_follows_the_tables(location, transition, state: EndpointState) -> None:
    row = Location(location.locator, Identity(2), 1) if location else None
    moving = Transition(transition[0].locator, transition[1].locator, 2) if transition else None

    assert endpoint_state(row, moving, H1.locator) is state


def message(kind: int, name: bytes) -> bytes:
    padding = b"\0" * (-(len(name) + 1) % 4)
    attribute = struct.pack("=HH", 5 + len(name), 3) + name + b"\0" + padding
    other = struct.pack("=HHI", 8, 4, 1408)
    body = b"\0" * 16 + other + attribute
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_link_events_are_read_from_one_datagram() -> None:
    datagram = message(16, b"na-web") + message(20, b"eth0") + message(17, b"netagent0")

    assert list(parse_events(datagram)) == [
        LinkEvent("na-web", is_gone=False),
        LinkEvent("netagent0", is_gone=True),
    ]


@given(st.binary(max_size=80))
def test_no_datagram_confuses_the_reader(datagram: bytes) -> None:
    for event in parse_events(datagram):
        assert isinstance(event.name, str)


def test_conditions_keep_their_first_time_until_they_end() -> None:
    now = [100.0]
    conditions = Conditions(lambda: now[0])
    conditions.set(Code.CONTROL_UNREACHABLE, "refused")
    now[0] = 130.0
    conditions.set(Code.CONTROL_UNREACHABLE, "no answer")

    (condition,) = conditions.active()
    assert (condition.since_s, condition.detail) == (100.0, "no answer")
    conditions.clear(Code.CONTROL_UNREACHABLE)
    assert conditions.active() == []


def test_conditions_of_one_code_are_replaced_as_a_whole() -> None:
    conditions = Conditions(lambda: 100.0)
    conditions.replace(Code.NO_HANDSHAKE, {"h2": "silent", "h3": "silent"})
    conditions.set(Code.RECONCILE_FAILING, "no room")

    conditions.replace(Code.NO_HANDSHAKE, {"h3": "silent"})

    assert [(c.code, c.subject) for c in conditions.active()] == [
        (Code.NO_HANDSHAKE, "h3"),
        (Code.RECONCILE_FAILING, ""),
    ]


def test_every_condition_has_a_severity() -> None:
    assert all(code.severity for code in Code)


def test_one_agent_for_each_state_directory(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    with hold_state_lock(lock):
        second = hold_state_lock(lock)
        with pytest.raises(StateError, match="stop it first"):
            second.__enter__()

    with hold_state_lock(lock):
        assert lock.exists()
