"""Flows on their way between two agents: values to messages of bounded size, and back, checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netagent.api.agent.v1 import carry_service_pb2 as pb
from netagent.model.errors import InvalidError
from netagent.model.flows import FLOW_FLAGS_MAX, FLOW_KEY_BYTES, CarriedFlow

FLOWS_MAX = 4_096
"""Most flows of one message: some 170 KB."""


def flows_to_messages(flows: Sequence[CarriedFlow]) -> Iterator[pb.CarriedFlows]:
    """Yield messages of at most FLOWS_MAX flows."""
    for start in range(0, len(flows), FLOWS_MAX):
        part = flows[start : start + FLOWS_MAX]
        yield pb.CarriedFlows(
            keys=b"".join(flow.key for flow in part),
            ages_ns=[flow.age_ns for flow in part],
            flags=[flow.flags for flow in part],
        )


def flows_from_message(message: pb.CarriedFlows) -> list[CarriedFlow]:
    """Return the flows; InvalidError when the columns do not fit together."""
    count = len(message.ages_ns)
    if len(message.keys) != count * FLOW_KEY_BYTES or len(message.flags) != count:
        raise InvalidError("flows", "its columns have different lengths")
    if count > FLOWS_MAX:
        raise InvalidError("flows", f"has {count} flows, more than {FLOWS_MAX}")
    if any(flags > FLOW_FLAGS_MAX for flags in message.flags):
        raise InvalidError("flows.flags", f"has bits beyond {FLOW_FLAGS_MAX}")
    keys = message.keys
    return [
        CarriedFlow(keys[at : at + FLOW_KEY_BYTES], age_ns, flags)
        for at, age_ns, flags in zip(
            range(0, len(keys), FLOW_KEY_BYTES), message.ages_ns, message.flags, strict=True
        )
    ]
