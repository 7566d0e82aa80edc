"""Which peers WireGuard cannot reach. Source: WireGuard paper, section 6.1 (timers).

Every peer is kept alive, so a session is renewed every two minutes and is dead after three.
"""

from __future__ import annotations

from collections.abc import Mapping

SESSION_LIFETIME_S = 180.0
FIRST_HANDSHAKE_S = 15.0
"""Three attempts of five seconds."""


class Handshakes:
    """Remembers since when each peer has been known. Times are Unix seconds."""

    def __init__(self) -> None:
        self._known_since_s: dict[bytes, float] = {}

    def find_silent(
        self, last_handshakes_s: Mapping[bytes, float], now_s: float
    ) -> tuple[bytes, ...]:
        """Return the keys of the peers without a living session, sorted.

        last_handshakes_s: of every peer there is, 0 before the first.
        """
        self._known_since_s = {
            key: self._known_since_s.get(key, now_s) for key in last_handshakes_s
        }
        return tuple(
            key
            for key, last_s in sorted(last_handshakes_s.items())
            if (last_s and now_s - last_s > SESSION_LIFETIME_S)
            or (not last_s and now_s - self._known_since_s[key] >= FIRST_HANDSHAKE_S)
        )
