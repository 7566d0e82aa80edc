"""Messages that bring agents from one state of a policy to another, made once for all of them."""

from __future__ import annotations

from collections.abc import Iterator

from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.convert_policy import policy_to_messages
from netagent.control.published import Published
from netagent.policy.delta import plan_delta

KEPT_MAX = 16
"""How many steps are kept; hosts that are told of one change are mostly told at the same time."""


class PolicyMessages:
    """Makes and keeps the messages of steps."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, bytes], _Shared] = {}

    def step(self, before: Published | None, after: Published) -> Iterator[pb.PolicyTable]:
        """Yield the parts that turn `before` (None: whatever is held) into `after`.

        The messages are shared: read them only.
        """
        key = before.content if before is not None else b"", after.content
        shared = self._kept.pop(key, None)
        if shared is None:
            shared = _Shared(_make(before, after))
        self._kept[key] = shared
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        return shared.read()


class _Shared:
    """What several read at their own pace and none has to make twice."""

    def __init__(self, source: Iterator[pb.PolicyTable]) -> None:
        self._source = source
        self._made: list[pb.PolicyTable] = []

    def read(self) -> Iterator[pb.PolicyTable]:
        index = 0
        while True:
            if index == len(self._made):
                part = next(self._source, None)
                if part is None:
                    return
                self._made.append(part)
            yield self._made[index]
            index += 1


def _make(before: Published | None, after: Published) -> Iterator[pb.PolicyTable]:
    delta = plan_delta(before.compiled, after.compiled) if before is not None else None
    yield from policy_to_messages(after.compiled, after.content, delta)
