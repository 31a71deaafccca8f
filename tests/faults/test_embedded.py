"""The two-command install: the embedded database comes and goes with the app, however that ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from core import postgres
from tests.processes import ROOT, AppProcess

pytestmark = pytest.mark.faults
SECRETS = {
    "SECRET_KEY": "Zq3v9Xk1Lw7Rt5Yb2Nc8Md4Pf6Gh0JsVu",
    "ENCRYPTION_KEYS": "a8Qe2Wr5Ty7Ui9Op3As4Df6Gh1Jk0LzXc",
}


def postmaster_pid(app: AppProcess) -> int:
    file = Path(app.environment["PURSER_DATA_DIR"]) / "pg" / "postmaster.pid"
    return int(file.read_text().splitlines()[0])


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the database outlived the app"
        time.sleep(0.1)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_database_ends_with_the_app_and_starts_again_quickly(
    sign: signal.Signals, tmp_path: Path
) -> None:
    app = AppProcess(tmp_path, {})
    app.start()
    pid = postmaster_pid(app)
    app.stop(sign)
    wait_gone(pid)
    began = time.monotonic()
    app.start()
    assert time.monotonic() - began < 15
    assert json.loads(app.command("check").stdout) == {"violations": []}
    app.stop()


def test_the_start_prints_the_address_and_the_demo_sign_in_and_no_warning(tmp_path: Path) -> None:
    with AppProcess(tmp_path, {}) as app:
        time.sleep(4)  # what pages need is imported after the first request
        printed = app.log.read_text()
    assert f"http://localhost:{app.port}" in printed
    assert "demo@purser.example" in printed
    assert "purser-demo" in printed
    assert "warning" not in printed.lower()
    assert "ScriptRunContext" not in printed


def test_production_refuses_missing_secrets_and_says_which(tmp_path: Path) -> None:
    app = AppProcess(tmp_path, {"APP_ENV": "production"})
    ended = subprocess.run(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(app.port)],
        cwd=ROOT, env=app.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode != 0
    assert "SECRET_KEY is missing" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_production_has_no_demo_and_no_superuser(tmp_path: Path) -> None:
    with AppProcess(tmp_path, {"APP_ENV": "production", **SECRETS}) as app:
        assert "demo@purser.example" not in app.log.read_text()
        keeper = postgres.start(Path(app.environment["PURSER_DATA_DIR"]))
        with psycopg.connect(keeper.url) as connection:
            logins = {
                row[0]
                for row in connection.execute(
                    "select usename from pg_stat_activity where backend_type = 'client backend'"
                    " and pid <> pg_backend_pid()"
                )
            }
            demo = connection.execute("select count(*) from app.models where provider = 'demo'")
            assert demo.fetchone() == (0,)
        keeper.stop()
    assert logins == {"app_rw", "app_jobs"}


def test_production_refuses_a_superuser_login(tmp_path: Path) -> None:
    keeper = postgres.start(tmp_path / "own")
    app = AppProcess(tmp_path, {"APP_ENV": "production", "DATABASE_URL": keeper.url, **SECRETS})
    ended = subprocess.run(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(app.port)],
        cwd=ROOT, env=app.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    keeper.stop()
    assert ended.returncode != 0
    assert "superuser" in ended.stdout + ended.stderr
