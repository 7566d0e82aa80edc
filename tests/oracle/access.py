"""Access: who may talk to whom. The numbers are those of "Access" in docs/architecture.md."""

from __future__ import annotations

from dataclasses import replace

from netagent.dataplane.abi import Verdict
from netagent.dataplane.abi_flows import (
    FlowFlag,
    FlowStateRow,
    FragmentRow,
    FragmentStateRow,
)
from netagent.model.addresses import HOST_NETWORK
from oracle.evaluation import Judgement, evaluate, remembered_judgement
from oracle.flows import (
    ASKED,
    ECHO_REQUEST,
    FRAGMENT_TIMEOUT_NS,
    NO_FLAGS,
    Talk,
    begins_anew,
    flags_of,
    goes_back,
    is_alive,
    is_of,
    talk_of,
)
from oracle.packet import ICMPV6, Packet
from oracle.policies import End
from oracle.quote import Quote, read_quote
from oracle.world import Dropped, Effects, World


def check_access(world: World, packet: Packet, source: End, destination: End) -> Effects:
    """Return what an allowed packet leaves behind; raises Dropped."""
    if source.network == destination.network == HOST_NETWORK:  # 1.
        return Effects()
    if packet.is_later_fragment:  # 2.
        return _follow_fragment(world, _fragment_of(packet, source, destination))
    related = _relate(world, packet, source, destination)  # 3.
    if related is not None:
        return related.effects(world)
    judgement = _judge(world, packet, source, destination)
    effects = judgement.effects(world)
    if judgement.verdict is not None:
        raise Dropped(judgement.verdict, effects)
    if packet.is_fragment:
        rules = judgement.rules(world)
        kept = FragmentStateRow(
            world.seen_ns, world.generation, rules["egress_rule"], rules["ingress_rule"]
        )
        fragments = {_fragment_of(packet, source, destination): kept}
        effects = replace(effects, fragments=fragments)
    return effects


def _fragment_of(packet: Packet, source: End, destination: End) -> FragmentRow:
    assert packet.identification is not None
    outside = source.outside if source.outside is not None else destination.outside
    return FragmentRow(
        source.lower, destination.lower, outside or 0, packet.identification, outside is not None
    )


def _follow_fragment(world: World, fragment: FragmentRow) -> Effects:
    state = world.fragments.get(fragment)
    if (
        state is None
        or state.generation != world.generation
        or world.seen_ns - state.seen_ns > FRAGMENT_TIMEOUT_NS
    ):
        raise Dropped(Verdict.DROP_FRAGMENT)
    return remembered_judgement(state.egress_rule, 0, state.ingress_rule, 0).effects(world)


def _relate(world: World, packet: Packet, source: End, destination: End) -> Judgement | None:
    """Return what is said of the flow that an error quotes, if it is known and allowed."""
    quote = read_quote(packet, world.fleet) if packet.is_icmp_error else None
    if quote is None:
        return None
    is_to_source = quote.is_to(source)
    if not quote.is_from(destination) or (source.is_machine and not is_to_source):
        return None
    far = source if is_to_source else quote.destination
    if far.id is not None and far.id not in world.locations:
        return None
    return _follow_quoted(world, quote, destination, far)


def _follow_quoted(world: World, quote: Quote, near: End, far: End) -> Judgement | None:
    talk = talk_of(near, far, quote.protocol, quote.transport)
    state = _find(world, talk)
    if talk is None or state is None:
        return None
    judgement, evaluated = _follow_flow(world, talk, state, near, far)
    if judgement.verdict is not None:
        return None
    return replace(judgement, flows={talk.flow: evaluated})


def _find(world: World, talk: Talk | None) -> FlowStateRow | None:
    """Return the entry of the known flow that a packet is of, or None."""
    state = world.flows.get(talk.flow) if talk else None
    if talk is None or state is None or not is_of(talk, state):
        return None
    return state if is_alive(talk.flow, state, world.seen_ns) else None


def _judge(world: World, packet: Packet, source: End, destination: End) -> Judgement:
    talk = talk_of(source, destination, packet.protocol, packet.transport)
    state = None if begins_anew(packet) else _find(world, talk)  # 4.
    if talk is not None and state is not None:  # 5.
        judgement, evaluated = _follow_flow(world, talk, state, source, destination)
        if judgement.verdict is not None:
            return replace(judgement, flows={talk.flow: None})
        added = flags_of(packet, talk)
        if goes_back(talk, state):
            added |= FlowFlag.ANSWERED
        renewed = replace(evaluated, seen_ns=world.seen_ns, flags=evaluated.flags | added)
        return replace(judgement, flows={talk.flow: renewed})
    port = packet.ports[1]  # 6.
    if packet.icmp_type is not None:
        port = packet.icmp_type << 8 | packet.icmp_code
    judgement = evaluate(world, source, destination, packet.protocol, port)
    if judgement.verdict is not None or talk is None or talk.is_reply:
        return judgement
    flags = _asked(source, destination) | flags_of(packet, talk)
    if talk.is_from_high:
        flags |= FlowFlag.FROM_HIGH
    begun = FlowStateRow(world.seen_ns, world.generation, flags, **judgement.rules(world))
    return replace(judgement, flows={talk.flow: begun}, is_new_flow=True)


def _follow_flow(
    world: World, talk: Talk, state: FlowStateRow, source: End, destination: End
) -> tuple[Judgement, FlowStateRow]:
    """Return what is said of a known flow, and its entry as evaluated now."""
    if goes_back(talk, state):
        source, destination = destination, source
    asked = _asked(source, destination)
    if state.generation == world.generation and state.flags & asked == asked:
        rules = state.egress_rule, state.egress_audit, state.ingress_rule, state.ingress_audit
        return remembered_judgement(*rules), state
    flow, began_high = talk.flow, state.flags & FlowFlag.FROM_HIGH
    port = flow.low_port if began_high else flow.high_port
    if flow.protocol == ICMPV6:
        port = ECHO_REQUEST << 8
    judgement = evaluate(world, source, destination, flow.protocol, port)
    # Ends that were asked under the same policies count as asked still.
    kept = state.flags if state.generation == world.generation else state.flags & ~ASKED
    evaluated = replace(
        state, generation=world.generation, flags=kept | asked, **judgement.rules(world)
    )
    return judgement, evaluated


def _asked(source: End, destination: End) -> FlowFlag:
    flags = NO_FLAGS
    if source.is_here:
        flags |= FlowFlag.ASKED_EGRESS
    if destination.is_here:
        flags |= FlowFlag.ASKED_INGRESS
    return flags
