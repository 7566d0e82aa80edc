"""`netagent policy explain` without files: what the hosts of both ends say."""

from __future__ import annotations

import pytest
from cli_fleet import Cli, connected_agent

from netagent.api.types.v1 import types_pb2

Question, Opinion = types_pb2.FlowQuestion, types_pb2.Opinion


@pytest.fixture(scope="module")
def live(fleet: Cli) -> Cli:
    fleet.ok("network", "create", "live")
    fleet.ok("network", "create", "other")
    fleet.ok("machine", "create", "live/web", "--host", "h1")
    fleet.ok("machine", "create", "live/db", "--host", "h2")
    fleet.ok("machine", "create", "other/nowhere", "--host", "")
    return fleet


def allow(flow: Question) -> Opinion:
    return Opinion(network="live", version=4, allowed=True, rule="r")


def deny(flow: Question) -> Opinion:
    return Opinion(network="live", version=3)


def fail(flow: Question) -> str:
    return "live/db is not located on this host"


def test_both_hosts_are_asked(live: Cli) -> None:
    with connected_agent(live, "h1", judge=allow), connected_agent(live, "h2", judge=deny):
        text = live.ok("policy", "explain", "web", "live/db", "tcp/22")
        view = live.json("policy", "explain", "web", "live/db", "tcp/22")

    assert text.splitlines() == [
        "live/web -> live/db tcp/22: denied",
        "  sender    allowed by rule 'r' of network live, version 4 (host h1)",
        "  receiver  denied by default of network live, version 3 (host h2)",
    ]
    assert (view["from"], view["to"], view["traffic"]) == ("live/web", "live/db", "tcp/22")
    assert view["verdict"] == "deny"
    assert view["opinions"][1] == {
        "at": "receiver",
        "host": "h2",
        "network": "live",
        "version": 3,
        "verdict": "deny",
        "rule": None,
        "audited": False,
        "audit_rule": None,
        "problem": None,
    }


def test_the_packet_is_asked_about_as_it_was_named(live: Cli) -> None:
    heard: list[Question] = []

    def listen(flow: Question) -> Opinion:
        heard.append(flow)
        return allow(flow)

    with connected_agent(live, "h1", judge=listen):
        text = live.ok("policy", "explain", "web", "2600::1", "icmp6/echo-request")
        live.ok("policy", "explain", "host", "web", "tcp/22")

    assert text.splitlines()[0] == "live/web -> 2600::1 icmp6/echo: allowed"
    assert text.splitlines()[2] == "  receiver  nobody is asked"
    assert [(flow.protocol, flow.port, flow.at_receiver) for flow in heard] == [
        (58, 128 << 8, False),
        (6, 22, True),
    ]


def test_audit_is_told(live: Cli) -> None:
    def audit(flow: Question) -> Opinion:
        return Opinion(network="live", version=1, allowed=True, audited=True, audit_rule="no-ssh")

    with connected_agent(live, "h1", judge=audit):
        text = live.ok("policy", "explain", "web", "2600::1", "tcp/22")

    assert (
        "allowed, in audit mode: rule 'no-ssh' of network live, version 1 would deny it (host h1)"
        in text
    )


def test_an_end_that_is_away_leaves_the_verdict_open(live: Cli) -> None:
    with connected_agent(live, "h1", judge=allow):
        result = live.run("policy", "explain", "web", "db", "tcp/22")
        view = live.run("policy", "explain", "web", "db", "tcp/22", "-o", "json")

    assert result.exit_code == view.exit_code == 3
    assert result.stdout.splitlines()[0] == "live/web -> live/db tcp/22: not known"
    assert "  receiver  no answer: the agent of host h2 is not connected" in result.stdout
    assert result.stderr == (
        "error: no answer from the receiver: the agent of host h2 is not connected\n"
    )
    assert '"verdict": null' in view.stdout


def test_one_end_that_denies_is_enough(live: Cli) -> None:
    with connected_agent(live, "h1", judge=deny), connected_agent(live, "h2", judge=fail):
        text = live.ok("policy", "explain", "web", "db", "tcp/22")

    assert text.splitlines()[0] == "live/web -> live/db tcp/22: denied"
    assert "no answer: host h2: live/db is not located on this host" in text


def test_what_cannot_be_asked(live: Cli) -> None:
    ask = ("policy", "explain")

    assert "did you mean 'live/web'?" in live.refused(4, *ask, "live/wbe", "live/db", "tcp/1")
    assert "there is no machine" in live.refused(4, *ask, "db", "zzzzzz", "tcp/1")
    assert "is on no host yet" in live.refused(1, *ask, "other/nowhere", "db", "tcp/1")
    assert "neither end is a machine" in live.refused(2, *ask, "2600::1", "2600::2", "tcp/1")
    assert "within the fleet's prefix" in live.refused(
        2, *ask, live.json("machine", "get", "db")["address"], "web", "tcp/1"
    )


def test_a_file_is_explained_in_the_place_of_what_is_in_force(live: Cli) -> None:
    text = "network: live\nrules:\n  - {name: dns, from: any, to: any, allow: [udp/53]}\n"
    live.ok("policy", "apply", "-", stdin="network: live\ndefault: allow\n")
    other = "network: other\ndefault: allow\n"

    would = live.ok("policy", "explain", "web", "db", "tcp/22", "--policy", "-", stdin=text)
    beside = live.ok("policy", "explain", "web", "db", "tcp/22", "--policy", "-", stdin=other)

    assert would.splitlines()[:2] == [
        "live/web -> live/db tcp/22: denied",
        "  sender    denied by default of network live, version 0",
    ]
    assert "  sender    allowed by default of network live, version 1\n" in beside
