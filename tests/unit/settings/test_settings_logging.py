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


def test_own_handlers_of_a_part_do_not_double_lines(stream: io.StringIO) -> None:
    part = logging.getLogger("netagent.some_part")
    part.addHandler(logging.StreamHandler(stream))
    part.setLevel(logging.ERROR)

    configure_logging("info", stream)
    part.info("once")

    assert stream.getvalue().count("once") == 1


def test_traceback_and_line_breaks_stay_on_the_line(stream: io.StringIO) -> None:
    configure_logging("info", stream)
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        logging.getLogger("netagent.x").exception("call failed detail=%s", "two\nlines")

    (line,) = stream.getvalue().splitlines()

    assert "call failed detail=two\\nlines traceback=" in line
    assert "ValueError: bad" in line
