"""`netagent flows` and `netagent policy counters`, against the agent's real local API."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cli_agent import TIME_NS, LocalAgent, local_agent, seen
from cli_fleet import COMMAND, DEADLINE_S

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.cli.flow_lines import flow_row
from netagent.cli.views import flow_view
from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import EventKind

NEW = seen(
    {"kind": EventKind.FLOW, "verdict": Verdict.PASS_TO_MESH, "rule": 1, "destination_port": 80},
    rule="web",
)
AUDITED = seen(
    {"kind": EventKind.AUDIT, "verdict": Verdict.PASS_TO_MESH, "audit_rule": 2, "is_audited": True},
    audit_rule="no-ssh",
)
SPOOFED = seen(
    {"verdict": Verdict.DROP_SPOOFED_MAC, "network": 0, "protocol": 0},
    source_name="",
    destination_name="",
    network="",
)
PING = seen(
    {"protocol": 58, "icmp_type": 128, "destination_port": 0}, destination_name="host:host-b"
)


@pytest.fixture
def agent() -> Iterator[LocalAgent]:
    with TemporaryDirectory(prefix="na-") as name, local_agent(Path(name)) as running:
        yield running


def follow(agent: LocalAgent, *args: str) -> subprocess.Popen[str]:
    command = [COMMAND, "--agent-socket", agent.cli.agent_socket, "flows", "--follow", *args]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_flows_are_a_table_with_names(agent: LocalAgent) -> None:
    agent.report(seen(), NEW, AUDITED, SPOOFED, PING)

    header, *lines = agent.cli.ok("flows").splitlines()

    assert header.split() == ["TIME", "KIND", "VERDICT", "FROM", "TO", "TRAFFIC", "DECIDED", "BY"]
    decided = header.index("DECIDED BY")
    assert [line[decided:] for line in lines] == [
        "default of network shop, version 3",
        "rule 'web' of network shop, version 3",
        "default of network shop, version 3; audit: rule 'no-ssh' would deny it",
        "-",
        "default of network shop, version 3",
    ]
    cells = [line[header.index("KIND") : decided].split() for line in lines]
    assert cells == [
        ["drop", "drop_denied_egress", "shop/web", "shop/db", "tcp/22"],
        ["flow", "pass_to_mesh", "shop/web", "shop/db", "tcp/80"],
        ["audit", "pass_to_mesh", "shop/web", "shop/db", "tcp/22"],
        ["drop", "drop_spoofed_mac", "fd00::1", "fd00::2", "-"],
        ["drop", "drop_denied_egress", "shop/web", "host:host-b", "icmp6/echo"],
    ]


def test_flows_for_programs_are_a_line_each(agent: LocalAgent) -> None:
    agent.report(seen(), AUDITED, SPOOFED, PING)

    lines = agent.cli.ok("flows", "-o", "json").splitlines()

    drop, audit, spoofed, ping = map(json.loads, lines)
    assert drop == {
        "time": "2027-01-15T08:00:00.123456789Z",
        "kind": "drop",
        "verdict": "drop_denied_egress",
        "program": "from_machine",
        "from": {"name": "shop/web", "address": "fd00::1"},
        "to": {"name": "shop/db", "address": "fd00::2"},
        "traffic": "tcp/22",
        "protocol": 6,
        "source_port": 40_000,
        "destination_port": 22,
        "icmp_type": None,
        "icmp_code": None,
        "bytes": 94,
        "network": "shop",
        "version": 3,
        "direction": "inside",
        "rule": None,
        "audited": False,
        "audit_rule": None,
    }
    assert (audit["audited"], audit["audit_rule"]) == (True, "no-ssh")
    assert (spoofed["network"], spoofed["version"], spoofed["traffic"]) == (None, None, None)
    assert (ping["icmp_type"], ping["traffic"]) == (128, "icmp6/echo")


def test_flows_can_be_chosen(agent: LocalAgent) -> None:
    agent.report(seen(), NEW, seen(source_name="ops/web"))

    dropped = agent.cli.ok("flows", "--dropped", "-o", "json").splitlines()
    of_machine = agent.cli.ok("flows", "--machine", "ops/web", "-o", "json").splitlines()
    of_name = agent.cli.ok("flows", "--machine", "web", "-o", "json").splitlines()
    nothing = agent.cli.run("flows", "--machine", "none")

    assert [len(each) for each in (dropped, of_machine, of_name)] == [2, 1, 3]
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr == "no flow is remembered here that was asked for\n"
    assert "'a/b/c' is not NETWORK/NAME" in agent.cli.refused(2, "flows", "--machine", "a/b/c")


def test_following_goes_on_until_it_is_interrupted(agent: LocalAgent) -> None:
    agent.report(seen())
    with follow(agent) as process:
        header, first = read_line(process), read_line(process)
        agent.report(NEW, suppressed=40, lost=2)
        second = read_line(process)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=DEADLINE_S)

    assert header.startswith("TIME ")
    assert "tcp/22" in first
    assert "rule 'web' of network shop, version 3" in second
    assert (process.returncode, rest) == (0, "")
    assert errors == (
        "missing here: 40 more than the data path reports, 2 more than could be read in time\n"
    )


def test_programs_that_follow_are_told_losses_in_order(agent: LocalAgent) -> None:
    agent.report(seen())
    with follow(agent, "-o", "json") as process:
        first = json.loads(read_line(process))
        agent.report(NEW, suppressed=40)
        losses, second = json.loads(read_line(process)), json.loads(read_line(process))
        agent.stop()
        _, errors = process.communicate(timeout=DEADLINE_S)

    assert (first["kind"], second["kind"]) == ("drop", "flow")
    assert losses == {"kind": "losses", "suppressed": 40, "lost": 0}
    assert process.returncode == 3
    assert errors == "error: the agent has stopped, and with it the flows\n"


def test_following_may_have_an_end(agent: LocalAgent) -> None:
    agent.report(seen())

    text = agent.cli.ok("flows", "--follow", "--timeout", "0.5")

    assert len(text.splitlines()) == 2


def test_names_cannot_steer_the_terminal(agent: LocalAgent) -> None:
    agent.report(seen(source_name="a\x1b[31m"))

    assert "\x1b" not in agent.cli.ok("flows")


@pytest.mark.parametrize(
    ("day", "text"), [(15, "08:00:00.123"), (16, "2027-01-15 08:00:00.123")], ids=["today", "older"]
)
def test_times_of_other_days_bear_a_date(day: int, text: str) -> None:
    flow = pb.Flow(kind=pb.FLOW_KIND_DROP)
    flow.time.FromNanoseconds(TIME_NS)

    row = flow_row(flow, flow_view(flow), datetime(2027, 1, day, 12, tzinfo=UTC))

    assert row[0] == text


def test_counters_are_told_by_rule_and_side_the_default_last(agent: LocalAgent) -> None:
    header, *lines = agent.cli.ok("policy", "counters").splitlines()

    assert header.split() == ["NETWORK", "RULE", "SIDE", "ALLOWED", "DENIED", "AUDITED"]
    assert [" ".join(line.split()) for line in lines] == [
        "shop apps receiver 1 (94 B) - -",
        "shop web sender 7 (4.0 KiB) - -",
        "shop (default) sender - 3 (282 B) 1 (94 B)",
        "shop (default) receiver - - -",
    ]


def test_counters_for_programs(agent: LocalAgent) -> None:
    counters = agent.cli.json("policy", "counters", "shop")["counters"]

    assert counters[0] == {
        "network": "shop",
        "rule": None,
        "side": "sender",
        "allowed_packets": 0,
        "allowed_bytes": 0,
        "denied_packets": 3,
        "denied_bytes": 282,
        "audited_packets": 1,
        "audited_bytes": 94,
    }


def test_counters_of_a_network_that_is_not_here(agent: LocalAgent) -> None:
    message = agent.cli.refused(4, "policy", "counters", "shpo")

    assert message == (
        "error: this host has no machine of network shpo, and so no policy of it;"
        " did you mean 'shop'?\n"
    )
