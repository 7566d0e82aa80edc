"""Identities in use: what policies are compiled over."""

from __future__ import annotations

from netagent.control.identities import Identities
from netagent.model.addresses import make_id
from netagent.model.fleet import Identity, Machine


def machine(name: str, identity: int, **labels: str) -> Machine:
    number = int(name.removeprefix("m"))
    return Machine("n", name, make_id(1, 1, number), Identity(identity), labels, "h1", 1)


def make(own: tuple[int, ...] = ()) -> Identities:
    return Identities(lambda one: one.identity in own)


def test_a_second_machine_with_an_identity_changes_nothing() -> None:
    identities = make()
    identities.replace(None, machine("m1", 2, app="web"))
    records, digest = identities.records("n"), identities.digest("n")
    identities.changed.clear()

    identities.replace(None, machine("m2", 2, app="web"))
    identities.replace(machine("m1", 2, app="web"), None)

    assert identities.changed == set()
    assert identities.left == set()
    assert (identities.records("n"), identities.digest("n")) == (records, digest)


def test_only_a_machine_with_an_identity_of_its_own_is_found_by_name() -> None:
    identities = make(own=(3,))

    identities.replace(None, machine("m1", 2))
    identities.replace(None, machine("m2", 3))

    members = {number: one.members for number, one in identities.records("n").items()}
    assert members == {2: frozenset(), 3: {"m2"}}
    assert identities.owners() == ["n/m2"]


def test_an_identity_that_has_left_stays_until_it_is_forgotten() -> None:
    identities = make()
    identities.replace(None, machine("m1", 2, app="web"))
    identities.changed.clear()

    identities.replace(machine("m1", 2, app="web"), machine("m1", 3, app="db"))

    assert list(identities.records("n")) == [2, 3]
    identities.forget(identities.left)
    assert list(identities.records("n")) == [3]
    assert identities.changed == {"n"}


def test_an_identity_that_came_back_is_not_forgotten() -> None:
    identities = make()
    identities.replace(None, machine("m1", 2))
    identities.replace(machine("m1", 2), None)
    left = set(identities.left)

    identities.replace(None, machine("m2", 2))
    identities.forget(left)

    assert list(identities.records("n")) == [2]


def test_records_that_were_handed_out_never_change() -> None:
    identities = make()
    identities.replace(None, machine("m1", 2))
    before = identities.records("n")

    identities.replace(None, machine("m2", 3))

    assert list(before) == [2]


def test_the_digest_depends_on_what_there_is_and_not_on_how_it_came() -> None:
    one, other = make(), make()
    machines = [machine(f"m{number}", number, app=str(number % 3)) for number in range(2, 9)]
    for each in machines:
        one.replace(None, each)
    other.replace(None, machine("m20", 20))
    for each in reversed(machines):
        other.replace(None, each)
    other.replace(machine("m20", 20), None)
    assert one.digest("n") != other.digest("n")

    other.forget(other.left)

    assert one.digest("n") == other.digest("n")
    assert one.digest("n") != one.digest("other")
