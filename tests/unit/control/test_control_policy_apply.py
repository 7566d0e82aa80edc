"""PolicyService: what is refused, what comes into force, and its history."""

from __future__ import annotations

import grpc
import pytest
from control_fleet import Fleet, refused
from control_policies import (
    BLUE_OPENS,
    NAMES_ONE,
    RED_OPENS,
    WEB_TO_DB,
    apply,
    identity,
    populate,
    rollback,
    verdict,
    versions,
)

from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.control import policy_apply, policy_service
from netagent.control.named_identities import NamedIdentities
from netagent.policy.language import Verdict


async def test_all_that_is_wrong_is_said_at_once_and_nothing_applied(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    bad = (
        WEB_TO_DB.replace("5432", "70000")
        + "  - {name: x, from: any, to: {machine: nobody}, alow: [tcp]}\n"
    )

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "blue.yaml:6:"):
        await apply(fleet.stubs, bad)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await apply(fleet.stubs, bad)
    details = (caught.value.details() or "").splitlines()
    assert len(details) >= 2
    assert all(line.startswith("blue.yaml:") for line in details)
    assert await versions(fleet.stubs, "blue") == []


async def test_a_test_that_fails_refuses_the_policy(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    text = WEB_TO_DB + "tests:\n  - {from: web-1, to: db-1, allow: [tcp/22]}\n"

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "blue.yaml:8:"):
        await apply(fleet.stubs, text)


async def test_a_dry_run_says_what_would_change_and_changes_nothing(fleet: Fleet) -> None:
    await populate(fleet.stubs)

    response = await apply(fleet.stubs, WEB_TO_DB, dry_run=True)

    assert (response.applied, response.policy.version) == (False, 1)
    effects = {change.effect for change in response.changes}
    assert effects == {pb.AccessChange.EFFECT_CLOSES}
    async with refused(grpc.StatusCode.NOT_FOUND, "network: blue has the built-in policy"):
        await fleet.stubs.policies.GetPolicy(pb.GetPolicyRequest(network="blue"))


async def test_a_policy_comes_into_force_only_over_the_version_that_was_expected(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB, expected_version=0)

    async with refused(grpc.StatusCode.ABORTED, "expected_version: version 1"):
        await apply(fleet.stubs, NAMES_ONE, expected_version=0)

    assert (await apply(fleet.stubs, NAMES_ONE, expected_version=1)).policy.version == 2


async def test_the_same_text_again_makes_no_version(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB)

    again = await apply(fleet.stubs, WEB_TO_DB)

    assert (again.applied, again.policy.version) == (False, 1)


async def test_history_and_rollback(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, WEB_TO_DB)
    await apply(fleet.stubs, NAMES_ONE)

    back = await rollback(fleet.stubs, "blue", 1)

    assert (back.policy.version, back.policy.rolled_back_to) == (3, 1)
    assert back.policy.text == WEB_TO_DB
    assert await versions(fleet.stubs, "blue") == [3, 2, 1]
    found = await fleet.stubs.policies.GetPolicy(pb.GetPolicyRequest(network="blue", version=2))
    assert found.policy.text == NAMES_ONE
    async with refused(
        grpc.StatusCode.NOT_FOUND, "version: network blue has no policy of version 9"
    ):
        await rollback(fleet.stubs, "blue", 9)


async def test_a_policy_that_does_not_fit_leaves_no_trace(
    fleet: Fleet,
) -> None:
    await populate(fleet.stubs)
    # Each machine of 600 has labels of its own, so that every pair needs an entry: 360,000.
    for number in range(600):
        await fleet.stubs.machine(f"red/m{number}", n=str(number))
    await fleet.stubs.machine("red/like-one", "h1")
    rules = "".join(
        f"  - {{name: r{number}, from: {{labels: {{n: '{number}'}}}},"
        f" to: any, allow: [tcp/{number}]}}\n"
        for number in range(600)
    )
    rules += "  - {name: last, from: {machine: one}, to: any, allow: [udp]}\n"
    before = await identity(fleet.stubs, "red/one")

    async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "the policies do not fit: pairs: "):
        await apply(fleet.stubs, "network: red\nrules:\n" + rules)

    assert await versions(fleet.stubs, "red") == []
    assert await identity(fleet.stubs, "red/one") == before


async def test_what_a_crash_left_half_way_is_settled_at_the_next_start(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, NAMES_ONE)

    async def crash(*_: object) -> None:
        """Do nothing, as control does once it is dead."""

    with monkeypatch.context() as dead:
        dead.setattr(NamedIdentities, "settle", crash)
        await apply(fleet.stubs, NAMES_ONE.replace("web-1", "db-1"))
    await fleet.stop()
    await fleet.start()

    web = await identity(fleet.stubs, "blue/web-1")
    assert web == await identity(fleet.stubs, "blue/web-2")
    agent = await fleet.agent("h1")
    assert await verdict(agent, fleet.stubs, "blue/db-1", "blue/web-1", 80) is Verdict.DENY


async def test_a_network_that_is_not_there_is_not_found(fleet: Fleet) -> None:
    async with refused(grpc.StatusCode.NOT_FOUND, "network: there is no network blue"):
        await apply(fleet.stubs, WEB_TO_DB)


async def test_an_empty_text_is_refused(fleet: Fleet) -> None:
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "text: is empty"):
        await apply(fleet.stubs, "\n")


async def test_a_text_that_is_too_large_is_refused(fleet: Fleet) -> None:
    await populate(fleet.stubs)

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "text: 1,048,577 bytes"):
        await apply(fleet.stubs, WEB_TO_DB.ljust((1 << 20) + 1, "\n"))

    assert (await apply(fleet.stubs, WEB_TO_DB.ljust(1 << 20, "\n"))).applied


async def test_more_changes_than_an_answer_can_hold_are_counted(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_service, "LINES_MAX", 1)
    await populate(fleet.stubs)

    answer = await apply(fleet.stubs, WEB_TO_DB, dry_run=True)

    assert len(answer.changes) == 1
    assert answer.warnings[-1].startswith("only the first 1 of ")


async def test_warnings_come_back_and_stop_nothing(fleet: Fleet) -> None:
    await populate(fleet.stubs)

    applied = await apply(fleet.stubs, WEB_TO_DB.replace("app: db", "app: nobody"))

    assert applied.applied
    (warning,) = applied.warnings
    assert warning.startswith("blue.yaml:5:")
    assert "matches nobody today" in warning


async def test_policies_in_force_are_listed_without_built_in_ones(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    for text in (WEB_TO_DB, RED_OPENS):
        await apply(fleet.stubs, text)

    pages = []
    token = ""
    while not pages or token:
        request = pb.ListPoliciesRequest(page_size=1, page_token=token)
        response = await fleet.stubs.policies.ListPolicies(request)
        pages.append([(one.network, one.version, one.text) for one in response.policies])
        token = response.next_page_token
    await rollback(fleet.stubs, "blue", 0)

    assert pages == [[("blue", 1, "")], [("red", 1, "")]]
    listed = await fleet.stubs.policies.ListPolicies(pb.ListPoliciesRequest())
    assert [one.network for one in listed.policies] == ["red"]
    current = await fleet.stubs.policies.GetPolicy(pb.GetPolicyRequest(network="blue"))
    assert (current.policy.version, current.policy.text) == (2, "")
    assert current.policy.rolled_back_to == 0


async def test_the_oldest_versions_are_forgotten(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_apply, "VERSIONS_MAX", 3)
    await populate(fleet.stubs)

    for port in range(1, 6):
        await apply(fleet.stubs, WEB_TO_DB.replace("5432", str(port)))

    assert await versions(fleet.stubs, "blue") == [5, 4, 3]
    async with refused(grpc.StatusCode.NOT_FOUND, "version: network blue has no policy of"):
        await rollback(fleet.stubs, "blue", 2)


async def test_a_rollback_is_checked_like_any_policy(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    await apply(fleet.stubs, NAMES_ONE)
    await apply(fleet.stubs, WEB_TO_DB)
    await fleet.stubs.delete("blue/web-1")

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "blue version 1:"):
        await rollback(fleet.stubs, "blue", 1)
    async with refused(grpc.StatusCode.ABORTED, "expected_version: version 2"):
        await rollback(fleet.stubs, "blue", 0, expected_version=1)
    tried = await rollback(fleet.stubs, "blue", 0, dry_run=True)

    assert (tried.applied, tried.policy.version) == (False, 3)
    assert await versions(fleet.stubs, "blue") == [2, 1]


async def test_tests_are_run_with_the_policies_of_other_networks_in_force(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    tested = BLUE_OPENS + "tests:\n  - {from: web-1, to: red/one, allow: [tcp/80]}\n"

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "blue.yaml:5:"):
        await apply(fleet.stubs, tested)
    await apply(fleet.stubs, RED_OPENS)

    assert (await apply(fleet.stubs, tested)).applied


async def test_a_long_list_of_problems_ends_in_how_many_more_there_are(fleet: Fleet) -> None:
    await populate(fleet.stubs)
    rules = "".join(
        f"  - {{name: r{number}, from: {{machine: nobody-{number}}}, to: any, allow: [any]}}\n"
        for number in range(300)
    )

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await apply(fleet.stubs, "network: blue\nrules:\n" + rules)

    lines = (caught.value.details() or "").splitlines()
    assert all(line.startswith("blue.yaml:") for line in lines[:-1])
    assert lines[-1].startswith(f"and {300 - len(lines) + 1} more")
