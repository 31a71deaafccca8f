"""The process behind an Excel file: what it knows, and that nothing of it stays, whoever dies or leaves."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from core import db, errors
from core.finance.datasets.columns import Column, Dataset, Query, Type
from core.finance.files import excel_file, writing
from core.finance.files.copying import Progress
from tests.factories import TESTS
from tests.finance.files_read import file_of, made_up, read_xlsx, sheets_of

pytestmark = pytest.mark.usefixtures("database")

ROOT = Path(__file__).parents[2]
FOREIGN = ("sqlalchemy", "streamlit", "pandas", "numpy", "psycopg", "pyarrow", "structlog", "pydantic",
           "multiprocessing", "asyncio", "ssl")  # fmt: skip
OURS = {
    "core", "core.finance", "core.finance.datasets", "core.finance.datasets.columns",
    "core.finance.files", "core.finance.files.cells", "core.finance.files.dictionary",
    "core.finance.files.excel_book", "core.finance.files.excel_cells",
    "core.finance.files.excel_layout", "core.finance.files.excel_process",
}  # fmt: skip
# A parent that sends some rows, with or without their end, says who writes them, and waits to be killed.
PARENT = """
import sys, time
from pathlib import Path
from core.finance.datasets.columns import Column, Type
from core.finance.files.excel_file import _Writer
from core.finance.files.excel_layout import END, Layout
path = Path(sys.argv[1])
with _Writer(path) as writer:
    writer.send(Layout("usage", "UTC", (Column("a", Type.TEXT, "A."),), 10**6, 10**9).line())
    for n in range(int(sys.argv[2])):
        writer.send(("%064d\\n" % (n * 7919 ** 9)).encode() * 1000)
    if sys.argv[3] == "whole":
        writer.send(END.encode())
    print(writer._process.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of this test are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def long(count: int = 20_000) -> Dataset:
    """Far more rows than the pipe holds."""
    select = f"select n::bigint as a, repeat(md5(n::text), 32) as b from generate_series(1, {count}) as n"
    columns = made_up([], Type.INTEGER, Type.TEXT).columns
    return Dataset("usage", columns, Query.ordered(select, "n", {}), "UTC")


@contextmanager
def begun(found: Dataset, progress: Progress) -> Iterator[tuple[Generator[bytes], psutil.Process]]:
    """A file of which some rows were sent, and the process that writes it."""
    with db.transaction(TESTS) as session:
        blocks = writing.write(session, found, "xlsx", progress)
        assert next(blocks) == b""
        (writer,) = writers()
        try:
            yield blocks, writer
        finally:
            blocks.close()


def writers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if named(one)]


def named(process: psutil.Process) -> bool:
    try:
        return "core.finance.files.excel_process" in process.cmdline()
    except psutil.Error:
        return False


def eventually(is_so: Callable[[], bool], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.05)


def assert_nothing_left(folder: Path, writer: psutil.Process) -> None:
    assert not writer.is_running() and not writers()
    assert list(folder.iterdir()) == []


def test_it_imports_next_to_nothing() -> None:
    said = "import sys, core.finance.files.excel_process; print(*sys.modules)"
    known = set(
        subprocess.check_output([sys.executable, "-c", said], cwd=ROOT, text=True, env={}).split()
    )
    assert {name for name in known if name.partition(".")[0] == "core"} == OURS
    assert not known & set(FOREIGN)


def test_it_is_told_no_secret_and_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "a secret")
    with begun(long(), Progress()) as (_, writer):
        assert set(writer.environ()) <= {*excel_file._INHERITED, "LC_CTYPE"}
        eventually(lambda: writer.nice() >= min(19, psutil.Process().nice() + 10))
        fds = [one.path for one in writer.open_files()]
        assert all("purser-" in path for path in fds)
        assert writer.net_connections() == []


def test_one_that_is_killed_refuses_the_file(folder: Path) -> None:
    with begun(long(), Progress()) as (blocks, writer):
        writer.kill()
        with pytest.raises(errors.Unavailable):
            list(blocks)
        assert_nothing_left(folder, writer)
    with db.transaction(TESTS) as session:
        assert session.scalar(text("select 1")) == 1


def test_one_that_is_killed_after_the_last_row_refuses_the_file(folder: Path) -> None:
    with begun(made_up([(1,)], Type.INTEGER), Progress()) as (blocks, writer):
        writer.suspend()
        assert next(blocks) == b""  # the end is sent
        writer.kill()
        with pytest.raises(errors.Unavailable):
            list(blocks)
        assert_nothing_left(folder, writer)


def test_one_that_fails_refuses_the_file_and_says_nothing_of_it(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    select = "select case when n > 9000 then 'NaN'::numeric else n end as a from generate_series(1, 10000) n"
    found = Dataset("usage", (Column("a", Type.DECIMAL, "A."),), Query(select, select, {}), "UTC")
    with pytest.raises(errors.Unavailable):
        file_of(found, "xlsx")
    assert "NaN" not in capfd.readouterr().err
    assert not writers() and list(folder.iterdir()) == []


def test_one_that_cannot_be_started_refuses_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    open_before = psutil.Process().num_fds()
    for _ in range(5):
        with pytest.raises(errors.Unavailable):
            file_of(made_up([(1,)], Type.INTEGER), "xlsx")
    assert psutil.Process().num_fds() <= open_before + 1
    assert list(folder.iterdir()) == []


def test_a_file_given_up_ends_it(folder: Path) -> None:
    with begun(long(), Progress()) as (blocks, writer):
        blocks.close()
        assert_nothing_left(folder, writer)
    with db.transaction(TESTS) as session:
        assert session.scalar(text("select 1")) == 1


def test_a_file_given_up_while_it_is_sent_leaves_nothing(folder: Path) -> None:
    with begun(long(2_000), Progress()) as (blocks, writer):
        assert any(blocks)
        blocks.close()
        assert_nothing_left(folder, writer)


def test_a_query_that_is_ended_ends_it(folder: Path) -> None:
    progress = Progress()
    with db.transaction(TESTS) as session:
        blocks = writing.write(session, long(200_000), "xlsx", progress)
        next(blocks)
        (writer,) = writers()
        progress.cancel()
        with pytest.raises(errors.Unavailable):
            list(blocks)
        assert_nothing_left(folder, writer)
        session.rollback()


def test_rows_wait_for_one_that_is_slow() -> None:
    progress, taken = Progress(), list[bytes]()
    with begun(long(), progress) as (blocks, writer):
        writer.suspend()
        reader = threading.Thread(target=lambda: taken.extend(blocks), daemon=True)
        reader.start()
        time.sleep(1.5)
        held = progress.rows
        assert reader.is_alive() and held < 2_000  # some blocks of 128 KB, of a kilobyte each row
        writer.resume()
        reader.join(60)
    read = read_xlsx(b"".join(taken))
    assert [row["a"] for row in read] == list(range(1, 20_001)) and progress.rows == 20_000


def test_one_that_does_nothing_any_more_refuses_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excel_file, "_PATIENCE_S", 0.3)
    with begun(long(), Progress()) as (blocks, writer):
        writer.suspend()
        with pytest.raises(errors.Unavailable):
            list(blocks)
        assert_nothing_left(folder, writer)


def test_one_that_never_ends_refuses_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excel_file, "_PACKING_PATIENCE_S", 0.3)
    with begun(made_up([(1,)], Type.INTEGER), Progress()) as (blocks, writer):
        writer.suspend()
        with pytest.raises(errors.Unavailable):
            list(blocks)
        assert_nothing_left(folder, writer)


def test_one_that_is_asked_to_stop_tidies_up(folder: Path) -> None:
    with begun(long(), Progress()) as (_, writer):
        eventually(lambda: bool(list(folder.glob("*/tmp*"))))
        writer.terminate()
        eventually(lambda: list(folder.iterdir()) == [])


@pytest.mark.faults
@pytest.mark.parametrize(("blocks", "how"), [(2, "begun"), (400, "begun"), (400, "whole")])
def test_a_parent_that_is_killed_takes_it_along(blocks: int, how: str, folder: Path) -> None:
    inside = folder / "purser-killed"
    inside.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(inside / "export.xlsx"), str(blocks), how],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    writer = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not inside.exists() and not (writer.is_running() and named(writer)))


def test_its_memory_does_not_grow_with_the_rows() -> None:
    """The rows hold 100 MB of text."""
    progress, most, n = Progress(), 0, 0
    with begun(long(100_000), progress) as (blocks, writer):
        for n, _ in enumerate(blocks):
            if progress.rows < 100_000 and n % 20 == 0:
                most = max(most, writer.memory_info().rss)
    assert progress.rows == 100_000 and n > 500
    assert 0 < most < 70 * 2**20


def test_a_file_may_be_packed_for_longer_than_a_transaction_may_idle() -> None:
    with db.transaction(TESTS) as session:
        list(writing.write(session, made_up([(1,)], Type.INTEGER), "xlsx", Progress()))
        limit = session.scalar(text("show idle_in_transaction_session_timeout"))
    assert limit == "1h"


def test_many_at_once_do_not_mix() -> None:
    found = [made_up([(n,)] * 50, Type.INTEGER, totals=[0]) for n in range(1, 4)]
    made = dict[int, bytes]()

    def one(n: int) -> None:
        made[n] = file_of(found[n], "xlsx")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [sheets_of(made[n])["Totals"][2][1] for n in range(3)] == [50, 100, 150]
