"""What `netagent status` prints of an agent's answer."""

import json

import pytest

from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.types.v1 import types_pb2
from netagent.cli.output import format_age, format_bytes, print_table
from netagent.cli.status import print_status
from netagent.cli.views import status_view

NOW_S = 1_800_000_000


def make_status() -> pb.GetStatusResponse:
    status = pb.GetStatusResponse(
        host="a",
        version="0.1.0",
        connected=True,
        applied_revision=42,
        wireguard="wireguard-go",
        mtu_bytes=1408,
        peers=[
            pb.Peer(
                host="b",
                endpoint="192.0.2.2:51820",
                received_bytes=2048,
                sent_bytes=10,
                misdirected_forwarded=3,
                misdirected_dropped=1,
            ),
            pb.Peer(host="c", endpoint="192.0.2.3:51820"),
        ],
        endpoints=[
            pb.AttachedEndpoint(
                machine="blue/web", interface="na-web", state=pb.ENDPOINT_STATE_STAGED
            )
        ],
        conditions=[
            pb.Condition(
                code="no_handshake", severity=types_pb2.SEVERITY_WARNING, detail="c\x1b[31m"
            )
        ],
        counters=[
            pb.Counter(verdict="drop_denied_egress", packets=3, bytes=300),
            pb.Counter(verdict="drop_outside"),
            pb.Counter(verdict="drop_link_local", packets=9, bytes=900),
            pb.Counter(verdict="pass_to_mesh", packets=7, bytes=700),
        ],
        policies=[
            pb.PolicyInForce(network="blue", version=3, pairs=17),
            pb.PolicyInForce(network="green"),
        ],
        maps=[pb.MapUsage(name="endpoint", entries=1024, capacity=4096)],
        drift_mended=5,
    )
    status.peers[0].last_handshake.FromSeconds(NOW_S - 65)
    status.conditions[0].since.FromSeconds(NOW_S - 7200)
    return status


def test_people_see_ages_drops_and_shares(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(make_status(), NOW_S)

    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "revision 42" in rows
    assert "b 192.0.2.2:51820 1m 5s ago 2.0 KiB 10 B 3 forwarded, 1 dropped" in rows
    assert "c 192.0.2.3:51820 never 0 B 0 B -" in rows
    assert "blue/web staged - na-web - -" in rows
    assert "! drop_denied_egress 3 300 B" in rows
    assert "noise drop_link_local 9 900 B" in rows
    assert "pass_to_mesh 7 700 B" in rows
    assert not [row for row in rows if "drop_outside" in row]
    assert "blue 3 17" in rows
    assert "green built-in 0" in rows
    assert "endpoint 1024 4096 25.0%" in rows
    assert "drift 5 mended since the start" in rows


def test_what_others_wrote_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(make_status(), NOW_S)

    text = capsys.readouterr().out
    assert "warning  no_handshake  for 2h 0m  c\\x1b[31m" in text
    assert "\x1b" not in text


def test_agent_that_has_not_met_control_yet(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(pb.GetStatusResponse(host="a", version="0.1.0"), NOW_S)

    text = capsys.readouterr().out
    assert "control    not connected" in text
    assert "Conditions: none" in text
    assert "Peers: none" in text


def test_programs_see_whole_numbers_and_nulls() -> None:
    view = json.loads(json.dumps(status_view(make_status())))

    assert view["applied_revision"] == 42
    assert view["address"] is None
    assert [peer["last_handshake"] for peer in view["peers"]] == ["2027-01-15T07:58:55Z", None]
    assert view["endpoints"][0]["state"] == "staged"
    assert view["policies"][0] == {"network": "blue", "version": 3, "pairs": 17}
    assert view["conditions"][0]["severity"] == "warning"
    assert view["counters"][1] == {"verdict": "drop_outside", "packets": 0, "bytes": 0}


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(-1, "0s"), (59.9, "59s"), (60, "1m 0s"), (3_661, "1h 1m"), (90_000, "1d 1h")],
)
def test_age(age_s: float, text: str) -> None:
    assert format_age(age_s) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 50, "1024.0 TiB")]
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(("variable", "is_plain"), [("1", True), ("", False)])
def test_terminal_gets_bold_headers_unless_told_not_to(
    variable: str,
    is_plain: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    print_table(("NAME",), [("a",)])

    text = capsys.readouterr().out
    assert "NAME" in text
    assert ("\x1b" not in text) is is_plain
