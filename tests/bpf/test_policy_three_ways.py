"""Rules on labels, compiled entries and the kernel say the same of first packets of flows.

What is compared is all that follows: verdict, whichever rule decided and which one audit would have
followed, at each end that is asked. Packets are drawn at the edges of what the rules say.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from agreement import compare
from first_packets import Corners, Parties, draw_first_packet, judged_twice
from fleet_of_three import ASH
from host_under_test import HostUnderTest, read_clocks
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from oracle.programs import decide
from policy_worlds import fleets, policies

from netagent.policy.book import Rulebook, make_rulebook
from netagent.policy.language import AnySelector, Rule, Traffic, Verdict

pytestmark = pytest.mark.root

OPEN = Rule("open", (AnySelector(),), (AnySelector(),), Verdict.ALLOW, (Traffic(None),))
PACKETS_PER_BOOK = 200
BOOKS = 25
LONG_BOOKS = 600
SETTINGS = settings(
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@st.composite
def books(draw: st.DrawFn) -> Rulebook:
    """Generate policies of two networks that know of each other; a third has the built-in one."""
    least = draw(st.sampled_from((0, 2, 4, 6)))
    pairs = (("shop", "ops"), ("ops", "shop"))
    drawn = []
    for own, peer in pairs:
        policy = draw(policies(own=own, peer=peer, least=least))
        # Or hardly ever would one network consent to what the other does.
        is_open = draw(st.sampled_from((True, True, False)))
        drawn.append(replace(policy, rules=(*policy.rules, OPEN)) if is_open else policy)
    fleet = draw(fleets().filter(lambda fleet: bool(fleet.members)))
    return make_rulebook(drawn, fleet, {"shop": 3, "ops": 4})


def test_rules_entries_and_kernel_agree(
    hosts: dict[str, HostUnderTest], capsys: pytest.CaptureFixture[str]
) -> None:
    _agree(hosts[ASH], BOOKS, capsys)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_rules_entries_and_kernel_agree_on_a_hundred_thousand(
    hosts: dict[str, HostUnderTest], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _agree(hosts[ASH], LONG_BOOKS, capsys) >= 100_000


def _agree(host: HostUnderTest, books_drawn: int, capsys: pytest.CaptureFixture[str]) -> int:
    compared = 0

    @settings(SETTINGS, max_examples=books_drawn)
    @given(book=books(), random=st.randoms(use_true_random=True))
    def agree(book: Rulebook, random: Random) -> None:
        nonlocal compared
        compared += _compare_packets(host, book, random)

    agree()
    with capsys.disabled():
        print(f"\n{compared:,} packets under {books_drawn} sets of policies: no disagreement")
    return compared


def _compare_packets(host: HostUnderTest, book: Rulebook, random: Random) -> int:
    compiled = {book.fleet.networks[name]: one for name, one in book.compiled.items()}
    indices = host.enforce(compiled)
    parties, corners = Parties.of(book), Corners.of(book)
    by_rules, by_entries = judged_twice(book, compiled, parties, read_clocks(), indices)
    host.fill(by_entries)
    for _ in range(PACKETS_PER_BOOK):
        question = corners.draw(random)
        program, arrival = draw_first_packet(random, parties, *question)
        note(f"{question}: {program} of {arrival}")
        expected = decide(by_rules, program, arrival)
        assert decide(by_entries, program, arrival) == expected, question
        started_ns = read_clocks().coarse_ns
        result = host.run_and_forget(program, arrival, expected.effects.flows)
        compare(by_rules, program, arrival, expected, result, started_ns)
    assert not host.datapath.conntrack.items()
    return PACKETS_PER_BOOK
