"""Moves under every interleaving: control, three agents, and a network that does what it likes.

Batches and reports are delayed, lost with their stream, and delivered again; agents are killed
between two kernel writes, control between deciding and writing; plans of another control process
come late; destinations refuse; moves follow each other, are called, aborted and forced; the machine
is attached and detached anywhere, at last deleted; flows are carried under any epoch there was.

Held after every single kernel write:
1. One owner: who the machine belongs to changes only with a newer epoch, and each epoch has one.
2. Newest epoch wins: no kernel goes back to an older epoch, and none holds what was never decided.
3. Of the hosts that let the machine speak, and from which any one host accepts it, all but one have
   not heard of the newest epoch; and without a transition a host accepts it from one place only. So
   whoever has heard of a forced move accepts nothing from its source.
4. Nobody prunes the machine's row while it needs the network, nor an attachment of the owner.
5. A move commits on its own trigger: a call, or life that was reported of this very move.
6. Flows are taken over only of a move to this host, from that move's source, and not of an
   earlier move than the last that this host has heard of.
7. A floating address that the machine has at first, and others later, has rules 2 and 3 for itself,
   and is only ever where a holder of it was under that very epoch.
In the end, when all are connected and time has passed: no move is left, all hosts agree with the
store, and the machine can be reached at exactly one host, or at none when it was deleted; as can
the address when somebody has it.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import event, given, settings
from hypothesis import strategies as st
from move_world import NAMES, World

Happening = Callable[[World, str, int], None]

OFTEN = 6

HAPPENINGS: tuple[Happening, ...] = (
    *(World.all_goes_well_for_a_while,) * OFTEN,
    *(World.begin,) * OFTEN,
    *(World.send, World.deliver_batch, World.deliver_answer, World.write_an_action) * 3,
    *(World.connect,) * 3,
    *(World.call, World.machine_shows_life) * 2,
    World.abort,
    *(World.address_fails_over,) * 4,
    World.address_comes_back,
    World.address_is_released,
    World.attach,
    World.detach,
    World.delete,
    World.deliver_late_flows,
    World.deliver_an_old_batch_again,
    World.deliver_an_old_report_again,
    World.cut,
    World.agent_dies_in_its_next_batch,
    World.agent_is_killed,
    World.agent_cannot_take_its_next_batch,
    World.control_is_killed,
    World.plan_an_action,
    World.write_a_late_plan,
    World.time_passes,
)

steps = st.lists(
    st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from(NAMES), st.integers(0, 29)),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(anchored=st.sets(st.sampled_from(NAMES)), steps=steps)
def test_there_is_one_owner_and_the_newest_epoch_wins(
    anchored: set[str], steps: list[tuple[Happening, str, int]]
) -> None:
    world = World(anchored)

    for happen, host, nth in steps:
        happen(world, host, nth)
        world.check()
    world.end()

    for ended in world.control.view.moves.items():
        event(f"a move ended {ended[1].value.move.phase.value}")
