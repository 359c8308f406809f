import logging
import re
from collections.abc import Iterator

import pytest

from experiments.logs import LOGGER, TERMINAL, configure_logging


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    yield
    LOGGER.setLevel(logging.INFO)


def test_each_line_in_a_file_has_a_time_and_a_level(capsys: pytest.CaptureFixture[str]) -> None:
    LOGGER.info("two\nlines")
    LOGGER.warning("careful")
    LOGGER.error("wrong")
    output = capsys.readouterr()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(f"{time} info: two\n{time} info: lines\n", output.out)
    assert re.fullmatch(f"{time} warning: careful\n{time} error: wrong\n", output.err)


def test_a_terminal_shows_messages_without_a_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TERMINAL, "1")
    LOGGER.info("reading")
    LOGGER.warning("careful")
    assert capsys.readouterr() == ("reading\n", "warning: careful\n")


def test_verbose_shows_debug_messages_with_the_cause_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    LOGGER.debug("not shown")
    configure_logging(verbose=True)
    configure_logging()  # a later call, such as that of a session, keeps the level
    LOGGER.debug("the cause", exc_info=ValueError("found 3"))
    lines = capsys.readouterr().out.splitlines()
    assert all(" debug: " in line for line in lines)
    assert lines[0].endswith("the cause")
    assert lines[-1].endswith("ValueError: found 3")
