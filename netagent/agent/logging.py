"""Where the agent's log goes: one event a line, a constant message and then key=value fields."""

from __future__ import annotations

import logging
import sys


def configure_logging() -> None:
    """Send events of INFO and above to standard error, with time and level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("netagent.agent")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
