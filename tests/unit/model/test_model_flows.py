"""What is carried again: new flows, those that had a packet, those whose state is another."""

from dataclasses import replace

import pytest

from netagent.model import flows
from netagent.model.addresses import StableId
from netagent.model.flows import CarriedFlow, SentFlows

S = 1_000_000_000


def flow(number: int, age_ns: int = 0, flags: int = 2) -> CarriedFlow:
    return CarriedFlow(number.to_bytes(32, "big"), age_ns, flags)


def test_at_first_everything_is_new() -> None:
    sent = SentFlows()
    both = [flow(1), flow(2)]
    assert sent.find_changed(both, 0) == both
    assert len(sent) == 0


@pytest.mark.parametrize(
    ("then", "is_sent_again"),
    [
        pytest.param(flow(1, 100 * S), False, id="idle"),
        pytest.param(flow(1, 99 * S), False, id="a-packet-just-after"),
        pytest.param(flow(1, 98 * S), True, id="a-packet-later"),
        pytest.param(flow(1, 100 * S, flags=18), True, id="closed"),
        pytest.param(flow(2, 100 * S), True, id="another"),
    ],
)
def test_what_has_changed_is_sent_again(then: CarriedFlow, is_sent_again: bool) -> None:
    sent = SentFlows()
    sent.note([flow(1)], 0)
    assert (sent.find_changed([then], 100 * S) == [then]) is is_sent_again


def test_what_was_sent_twice_counts_once() -> None:
    sent = SentFlows()
    sent.note([flow(1), flow(2)], 0)
    sent.note([flow(2, flags=18)], S)
    assert len(sent) == 2
    assert sent.find_changed([flow(2, flags=18)], S) == []


def test_of_too_many_the_quiet_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "FLOWS_CARRIED_MAX", 2)
    changed = SentFlows().find_changed([flow(n, age_ns=n * S) for n in (3, 1, 2)], 9 * S)
    assert [each.age_ns for each in changed] == [S, 2 * S]


def test_a_flow_has_two_ends() -> None:
    key = bytes(7) + b"\1" + bytes(7) + b"\2" + bytes(7) + b"\3" + bytes(8)
    one = replace(flow(0), key=key)
    assert [one.has_end(StableId(number)) for number in (1, 2, 3)] == [True, True, False]
