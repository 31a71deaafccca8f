"""`make`'s own install into an empty environment, by the oldest pip of Python 3.11 and by today's, from
an index that serves newer releases than the locked ones. Takes minutes: `make test-deep`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.install.packages import ROOT, empty_environment, make_wheel, versions
from tests.install.test_lock import locked

pytestmark = [pytest.mark.deep, pytest.mark.timeout(900)]


@pytest.mark.parametrize("pip", ["pip==22.3", "pip"], ids=["oldest pip", "today's pip"])
def test_both_locks_install_into_an_empty_environment(pip: str, tmp_path: Path) -> None:
    folder, index = tmp_path / "venv", tmp_path / "index"
    python = empty_environment(folder)
    subprocess.run([python, "-m", "pip", "install", "-qq", "--upgrade", pip], check=True)
    index.mkdir()
    for name in ("coverage", "pytest_cov", "streamlit", "sqlalchemy"):
        make_wheel(index, name, "9999.0")
    links = f"{index} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    made = subprocess.run(
        ["make", f"VENV={folder}", f"{folder}/dev"],
        cwd=ROOT,
        env={**os.environ, "PIP_FIND_LINKS": links},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert made.stderr == "", "the first start prints no warning"
    assert locked("requirements-dev.txt").items() <= versions(python).items()
    subprocess.run([python, "-m", "pip", "check"], check=True)
