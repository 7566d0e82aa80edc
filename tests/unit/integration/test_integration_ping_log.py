"""What a ping's log says of packets that were lost."""

from __future__ import annotations

from pathlib import Path

from integration.vm_migration.observer import read_answers


def log_of(directory: Path, answered: list[int], sent: int) -> Path:
    log = directory / "ping.log"
    lines = [
        f"[{100 + n / 1000:.6f}] 24 bytes: icmp_seq={n} ttl=64 time=0.500 ms" for n in answered
    ]
    log.write_text("\n".join([*lines, f"{sent} packets transmitted, {len(answered)} received"]))
    return log


def test_a_ping_without_an_answer_is_lost(tmp_path: Path) -> None:
    answers = read_answers(log_of(tmp_path, [1, 2, 4], 4))

    assert len(answers.lost) == 1
    assert answers.sent == 4


def test_pings_on_their_way_when_it_ends_are_not_lost(tmp_path: Path) -> None:
    answers = read_answers(log_of(tmp_path, [1, 2, 3], 5))

    assert answers.lost == []
    assert answers.sent == 3


def test_a_silence_at_the_end_is_lost(tmp_path: Path) -> None:
    assert len(read_answers(log_of(tmp_path, [1, 2, 3], 103)).lost) == 100
