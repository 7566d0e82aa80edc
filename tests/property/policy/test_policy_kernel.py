"""Entries looked up in the kernel's maps decide as the compiled ones do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel.namespaces import mount_bpffs, own_namespaces
from policy_worlds import fleets, interesting_ports, pairs_asked, policies

from netagent.dataplane.datapath import Datapath
from netagent.dataplane.policy_maps import PolicyMaps
from netagent.policy.book import separate_named
from netagent.policy.compiler import compile_policy
from netagent.policy.lookup import evaluate_compiled, key_of

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyMaps]:
    with own_namespaces():
        bpffs = mount_bpffs(tmp_path_factory.mktemp("bpffs"))
        with Datapath.open(bpffs / "netagent") as opened:
            yield opened.policies


@settings(max_examples=20, deadline=None)
@given(policies(), fleets(), st.data())
def test_the_kernels_entries_say_what_the_compiled_ones_do(maps, policy, world, data):
    world = separate_named(world, [policy])
    entries = compile_policy(policy, world, 7).entries
    maps.apply(entries)
    asked = pairs_asked(policy, world)
    if len(asked) > 20:
        asked = data.draw(st.lists(st.sampled_from(asked), min_size=20, max_size=20))
    for source, destination in asked:
        key = key_of(entries, world, source, destination)
        ends = [
            party.address or identity
            for party, identity in ((source, key.source), (destination, key.destination))
        ]
        for protocol, port in interesting_ports(policy):
            expected = evaluate_compiled(entries, key, protocol, port)
            found = maps.ask(entries.number, key.direction, *ends, protocol, port)
            assert found is not None
            rule = entries.rules.get(found.rule)
            audit = entries.rules.get(found.audit_rule or 0)
            assert (found.verdict, rule) == (expected.verdict, expected.rule)
            assert (found.audit_rule is not None, audit) == (
                expected.is_audited,
                expected.audit_rule,
            )
            assert found.version == 7
