"""How an Excel file is made: in bounded memory, and nothing of it stays, however the making ends."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from core import db, errors
from core.finance.datasets.columns import Column, Dataset, Query, Type
from core.finance.files import folders, writing
from core.finance.files.copying import Progress
from tests.factories import TESTS
from tests.finance.files_read import file_of, made_up, read_xlsx, sheets_of

pytestmark = pytest.mark.usefixtures("database")

ROOT = Path(__file__).parents[2]
# Makes a sheet in a folder, as a build does, says so, and waits to be killed.
MAKER = """
import sys, tempfile, time
from core.finance.datasets.columns import Column, Dataset, Query, Type
from core.finance.files import folders
from core.finance.files.excel_book import Book
tempfile.tempdir = sys.argv[1]
with folders.folder() as folder:
    found = Dataset("usage", (Column("a", Type.TEXT, "A."),), Query("", "", {}), "UTC")
    book = Book(folder / "export.xlsx", found, 10**6, 10**9)
    for n in range(100):
        book.add_all(("%064d\\n" % n) * 1000)
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files of this test are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def long(count: int = 20_000) -> Dataset:
    """Of a kilobyte each row."""
    select = f"select n::bigint as a, repeat(md5(n::text), 32) as b from generate_series(1, {count}) as n"
    columns = made_up([], Type.INTEGER, Type.TEXT).columns
    return Dataset("usage", columns, Query.ordered(select, "n", {}), "UTC")


@contextmanager
def begun(found: Dataset, progress: Progress) -> Iterator[Generator[bytes]]:
    """A file of which some rows were written."""
    with db.transaction(TESTS) as session:
        blocks = writing.write(session, found, "xlsx", progress)
        assert next(blocks) == b""
        try:
            yield blocks
        finally:
            blocks.close()


@contextmanager
def maker(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that makes a file, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAKER, str(place)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_a_file_given_up_leaves_nothing(place: Path) -> None:
    with begun(long(), Progress()) as blocks:
        assert list(place.iterdir())
        blocks.close()
        assert list(place.iterdir()) == []
    with db.transaction(TESTS) as session:
        assert session.scalar(text("select 1")) == 1


def test_a_file_given_up_while_it_is_sent_leaves_nothing(place: Path) -> None:
    with begun(long(2_000), Progress()) as blocks:
        assert any(blocks)
        blocks.close()
        assert list(place.iterdir()) == []


def test_files_given_up_keep_no_descriptor() -> None:
    open_before = psutil.Process().num_fds()
    for _ in range(5):
        with begun(long(2_000), Progress()) as blocks:
            blocks.close()
    gc.collect()
    assert psutil.Process().num_fds() <= open_before + 1


def test_a_query_that_is_ended_leaves_nothing(place: Path) -> None:
    def ended() -> None:
        progress = Progress()
        with begun(long(200_000), progress) as blocks:
            progress.cancel()
            list(blocks)

    with pytest.raises(errors.Unavailable):
        ended()
    assert list(place.iterdir()) == []


def test_a_value_without_a_cell_refuses_the_file_and_is_not_said(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    select = "select case when n > 9000 then 'NaN'::numeric else n end as a from generate_series(1, 10000) n"
    found = Dataset("usage", (Column("a", Type.DECIMAL, "A."),), Query(select, select, {}), "UTC")
    with pytest.raises((TypeError, ValueError)):
        file_of(found, "xlsx")
    assert "NaN" not in "".join(capfd.readouterr())
    assert list(place.iterdir()) == []


def test_a_disk_that_takes_no_more_refuses_the_file_for_now(place: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(errors.Unavailable):
            file_of(long(5_000), "xlsx")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(place.iterdir()) == []
    assert len(read_xlsx(file_of(long(10), "xlsx"))) == 10


def test_what_a_killed_process_left_is_removed_by_the_next_file(place: Path) -> None:
    with maker(place) as (process, folder):
        process.kill()
        process.wait()
        assert list(folder.iterdir()), "it could not tidy up"
        file_of(made_up([(1,)], Type.INTEGER), "xlsx")
        assert list(place.iterdir()) == []


def test_what_another_process_works_in_is_left_alone(place: Path) -> None:
    with maker(place) as (process, folder):
        file_of(made_up([(1,)], Type.INTEGER), "xlsx")
        assert process.poll() is None and list(folder.iterdir())


def test_a_link_of_that_name_is_not_followed(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mine = tmp_path_factory.mktemp("mine")
    (mine / "kept").touch()
    (place / "purser-file-x").symlink_to(mine)
    folders.sweep()
    assert (mine / "kept").exists()


def test_folders_made_while_others_sweep_stay(place: Path) -> None:
    def one(_: int) -> bool:
        with folders.folder() as folder:
            (folder / "a").touch()
            folders.sweep()
            return (folder / "a").exists()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(one, range(400)))
    assert list(place.iterdir()) == []


def test_memory_does_not_grow_with_the_rows() -> None:
    """The rows hold 100 MB of text."""
    file_of(long(2_000), "xlsx")
    progress, process = Progress(), psutil.Process()
    before = most = process.memory_info().rss
    with begun(long(100_000), progress) as blocks:
        for n, _ in enumerate(blocks):
            if n % 20 == 0:
                most = max(most, process.memory_info().rss)
    assert progress.rows == 100_000
    assert most - before < 30 * 2**20


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
