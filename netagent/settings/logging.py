"""Where the daemons' log goes: standard error, one event a line, `level message key=value…`."""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")


class EventFormatter(logging.Formatter):
    """Time, level, message and fields on one line; a traceback becomes a quoted field."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the event's line; whatever would break it is quoted as in JSON."""
        trace = record.exc_text
        if trace is None and record.exc_info:
            trace = self.formatException(record.exc_info)
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        line = "\\n".join(self.formatMessage(record).splitlines())
        return f"{line} traceback={json.dumps(trace)}" if trace else line


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send the events of netagent's loggers of at least `level` to a stream (standard error).

    level: one of LEVELS. Idempotent.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(EventFormatter())
    ours = logging.getLogger("netagent")
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False
