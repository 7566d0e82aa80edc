"""Delays grow, spread and start over; peers without a living session are found."""

import pytest

from netagent.reconcile.backoff import Backoff, BackoffPolicy
from netagent.reconcile.handshakes import Handshakes
from netagent.reconcile.reconnect import LOST_POLICY, REFUSED_POLICY, Loss, Reconnect

ALICE, BOB = b"a" * 32, b"b" * 32


def test_delays_grow_to_the_greatest_and_start_over() -> None:
    backoff = Backoff(BackoffPolicy(first_s=1.0, most_s=5.0, factor=2.0))

    assert [backoff.fail(1.0) for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    backoff.succeed()
    assert backoff.fail(1.0) == 1.0


def test_jitter_spreads_over_the_upper_half() -> None:
    policy = BackoffPolicy(first_s=4.0, most_s=4.0)

    assert Backoff(policy).fail(0.0) == 2.0
    assert Backoff(policy).fail(1.0) == 4.0


def test_ten_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(BackoffPolicy())

    assert max(backoff.fail(1.0) for _ in range(10_000)) == 5.0


@pytest.mark.parametrize(
    ("loss", "policy"),
    [
        pytest.param(Loss.UNREACHABLE, LOST_POLICY, id="unreachable"),
        pytest.param(Loss.REFUSED, REFUSED_POLICY, id="refused"),
    ],
)
def test_a_stream_that_stood_begins_with_the_first_delay(loss: Loss, policy: BackoffPolicy) -> None:
    reconnect = Reconnect()
    for _ in range(5):
        reconnect.lose(loss, 1.0)
    assert reconnect.establish()

    retry = reconnect.lose(loss, 1.0)

    assert (retry.delay_s, retry.is_first) == (policy.first_s, True)
    assert not reconnect.is_up


def test_a_peer_is_silent_after_its_session_died() -> None:
    handshakes = Handshakes()

    assert handshakes.find_silent({ALICE: 1000.0, BOB: 900.0}, now_s=1100.0) == (BOB,)


def test_a_peer_has_time_for_its_first_handshake() -> None:
    handshakes = Handshakes()

    assert handshakes.find_silent({ALICE: 0.0}, now_s=1000.0) == ()
    assert handshakes.find_silent({ALICE: 0.0}, now_s=1015.0) == (ALICE,)
