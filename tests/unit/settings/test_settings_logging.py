"""One event is one line, whatever is in it."""

import io
import logging
from collections.abc import Iterator

import pytest

from netagent.settings.logging import configure_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Return where the log goes; the loggers are put back afterwards."""
    ours = logging.getLogger("netagent")
    before = ours.handlers[:], ours.level, ours.propagate
    yield io.StringIO()
    ours.handlers[:], ours.level, ours.propagate = before


def test_level_is_honoured_below_and_above(stream: io.StringIO) -> None:
    configure_logging("debug", stream)
    logging.getLogger("netagent.agent.sync").debug("batch applied revision=7")
    configure_logging("error", stream)
    logging.getLogger("netagent.agent.sync").warning("unseen")

    (line,) = stream.getvalue().splitlines()

    assert line.endswith("DEBUG batch applied revision=7")


def test_traceback_and_line_breaks_stay_on_the_line(stream: io.StringIO) -> None:
    configure_logging("info", stream)
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        logging.getLogger("netagent.x").exception("call failed detail=%s", "two\nlines")

    (line,) = stream.getvalue().splitlines()

    assert "call failed detail=two\\nlines traceback=" in line
    assert "ValueError: bad" in line
