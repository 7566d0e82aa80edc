"""What a probe's record says of a span: losses by direction, gaps, pauses."""

from __future__ import annotations

import os

import pytest

from integration.lab.probe import Record
from integration.lab.probe_process import Role, SharedRecord

MS = 1_000_000


def steady(count: int) -> list[tuple[int, int, int]]:
    """A packet each millisecond from 100 ms on; there after 0.2 ms, back after 0.4 ms."""
    starts = (100 * MS + number * MS for number in range(count))
    return [(at, at + 200_000, at + 400_000) for at in starts]


def test_nothing_is_lost_of_a_steady_flow() -> None:
    loss = Record(steady(100)).during(110 * MS, 150 * MS)

    assert (loss.sent, loss.lost_there, loss.lost_back) == (40, 0, 0)
    assert loss.gap_ms == 1.0
    assert loss.pause_ms == 1.0


def test_losses_are_told_apart_by_direction() -> None:
    packets = steady(100)
    packets[20] = (packets[20][0], 0, 0)
    packets[21:23] = [(sent, arrived, 0) for sent, arrived, _ in packets[21:23]]

    loss = Record(packets).during(100 * MS, 200 * MS)

    assert (loss.lost_there, loss.lost_back, loss.lost) == (1, 2, 3)
    assert loss.gap_ms == 4.0
    assert Record(packets).lost_between_ms(110 * MS, 200 * MS) == (10.0, 12.0)


def test_a_packet_whose_echo_came_back_was_not_lost_on_the_way_there() -> None:
    packets = steady(10)
    packets[5] = (packets[5][0], 0, packets[5][2])

    assert Record(packets).whole().lost == 0


def test_a_gap_that_begins_before_the_span_counts_whole() -> None:
    packets = [packet for packet in steady(100) if not 120 * MS <= packet[0] < 140 * MS]

    loss = Record(packets).during(130 * MS, 170 * MS)

    assert loss.gap_ms == 21.0
    assert loss.pause_ms == 21.0


@pytest.mark.parametrize(
    ("begin", "end", "gap_ms"),
    [
        pytest.param(110, 160, 50.0, id="no-echo-at-all"),
        pytest.param(90, 102, 10.4, id="before-the-first"),
        pytest.param(190, 230, 30.6, id="after-the-last"),
    ],
)
def test_the_ends_of_the_span_bound_a_gap(begin: int, end: int, gap_ms: float) -> None:
    packets = steady(100) if begin != 110 else [(at, 0, 0) for at, _, _ in steady(100)]

    assert Record(packets).during(begin * MS, end * MS).gap_ms == gap_ms


def test_an_echo_that_overtakes_another_makes_no_gap() -> None:
    packets = steady(100)
    packets[10] = (*packets[10][:2], packets[12][2] + 100_000)

    loss = Record(packets).during(100 * MS, 200 * MS)

    assert loss.lost == 0
    assert loss.gap_ms == 2.0


def test_noise_is_the_longest_gap_of_each_span() -> None:
    packets = steady(100)
    del packets[31:35]

    assert Record(packets).gaps(100 * MS, 200 * MS, 25 * MS) == [1.0, 1.0, 1.0, 5.0]


def test_two_processes_see_one_record() -> None:
    memory = os.memfd_create("test")
    try:
        ours = SharedRecord.make(memory, 8)
        theirs = SharedRecord(memory)
        theirs.sent[0], theirs.back[0] = 5, 9
        theirs.count_sent(1)
        theirs.set_ready(Role.SEND)

        assert ours.packets() == [(5, 0, 9)]
        assert ours.last_sent_ns() == 5
        assert (ours.is_ready(Role.SEND), ours.is_ready(Role.ECHO)) == (True, False)
        assert not theirs.is_stopped
        ours.stop()
        assert theirs.is_stopped
    finally:
        os.close(memory)
