"""The command line as a fixture."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from core import db, settings
from core.commands.program import main
from core.db import Database
from tests.core.cli import Answer, Run


@pytest.fixture
def run(
    database: Database, database_url: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Run]:  # fmt: skip
    """Runs one command; the test's own connection and logging are as before afterwards."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    settings.current.cache_clear()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def command(*arguments: str, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        try:
            status = main(arguments)
        finally:
            db.install(database)
            root.handlers[:], root.level = handlers, level
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    yield command
    settings.current.cache_clear()
