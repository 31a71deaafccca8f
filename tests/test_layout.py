"""The house's own rules, measured: sizes, names, imports, sole importers, documentation."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX, FUNCTION_LINES_MAX = 400, 60
_NOT_SUBJECTS = {"service", "manager", "helper", "helpers", "utils", "util", "common", "misc"}


def python_files(*folders: str) -> list[Path]:
    files = [ROOT / "app.py"]
    for folder in folders:
        files += sorted((ROOT / folder).rglob("*.py"))
    return [file for file in files if file.name != "0001_ground.py"]


OURS = python_files("core", "pages", "benchmarks", "migrations")
ALL = [*OURS, *sorted((ROOT / "tests").rglob("*.py"))]
named = pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.relative_to(ROOT)))


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@named
def test_files_and_functions_stay_small(file: Path) -> None:
    lines_max = FILE_LINES_MAX if file in OURS else 2 * FILE_LINES_MAX
    assert len(file.read_text().splitlines()) <= lines_max
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@named
def test_no_import_hides_in_a_function(file: Path) -> None:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{node.name} imports inside"


@pytest.mark.parametrize("file", OURS, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_are_named_for_a_subject_and_say_what_they_are_for(file: Path) -> None:
    assert file.stem not in _NOT_SUBJECTS
    if file.read_text().strip():
        assert ast.get_docstring(tree_of(file)), "a file opens with what it is for"


def imported_modules(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importers(module: str, files: list[Path]) -> set[str]:
    return {
        str(file.relative_to(ROOT))
        for file in files
        if any(name == module or name.startswith(f"{module}.") for name in imported_modules(file))
    }


def test_one_file_imports_openai() -> None:
    assert importers("openai", python_files("core", "pages")) == {"core/catalog/providers.py"}


def test_one_file_imports_stripe() -> None:
    files = python_files("core", "pages", "benchmarks", "migrations")
    assert importers("stripe", files) == {"core/billing/stripe_api/connection.py"}


def test_pages_never_import_the_http_room() -> None:
    assert importers("core.http", sorted((ROOT / "pages").rglob("*.py"))) == set()


def test_one_file_touches_the_session_state() -> None:
    users = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "pages").rglob("*.py")
        if "session_state"
        in {n.attr for n in ast.walk(tree_of(file)) if isinstance(n, ast.Attribute)}
    }
    assert users == {"pages/widgets/session.py"}


def test_only_the_gate_makes_an_open_call() -> None:
    """Every provider call needs an OpenCall, so a provider cannot be reached around the gate."""
    makers = {
        file.relative_to(ROOT).as_posix()
        for file in python_files("core", "pages")
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) == "OpenCall"
    }
    assert makers == {"core/quota/gate.py"}


def test_only_the_engine_streams_and_it_streams_an_open_call() -> None:
    streams = [
        (file.relative_to(ROOT).as_posix(), ast.unparse(node))
        for file in python_files("core", "pages")
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "stream"
    ]
    assert [name for name, _ in streams] == ["core/chat/engine.py"]
    assert "call, run.request" in streams[0][1]


def test_no_page_shadows_a_module() -> None:
    pages = {file.stem for file in (ROOT / "pages").glob("*.py")}
    code = (
        "import importlib.util,sys;"
        f"print([n for n in {sorted(pages)!r} if importlib.util.find_spec(n)])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert result.stdout.strip() == "[]"


def test_importing_the_core_does_nothing_and_needs_no_streamlit() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in (ROOT / "core").rglob("*.py")
        if file.name not in {"__init__.py", "__main__.py", "postgres_keeper.py"}
    ]
    code = (
        f"import sys; [__import__(m) for m in {modules!r}]; assert 'streamlit' not in sys.modules"
    )
    environment = {"PATH": "/usr/bin", "HOME": "/nonexistent"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


@pytest.mark.parametrize(
    ("modules", "libraries"),
    [
        ("core.http.process, core.http.routes, core.worker", {"plotly"}),
        ("pages.widgets.frame, pages.widgets.thread, pages.widgets.composer", set()),
    ],
    ids=["start", "chat"],  # Streamlit itself brings plotly
)
def test_libraries_of_tables_and_charts_come_with_the_first_of_them(
    modules: str, libraries: set[str]
) -> None:
    """They take tens of megabytes: whoever draws a table or writes a Parquet file imports them."""
    late = {"numpy", "pandas", "pyarrow", "xlsxwriter"} | libraries
    result = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print({late!r} & {{*sys.modules}})"],
        capture_output=True, text=True, check=True, cwd=ROOT,
        env={"PATH": "/usr/bin", "HOME": "/nonexistent"},
    )  # fmt: skip
    assert result.stdout.strip() == "set()"


def test_markup_is_never_trusted() -> None:
    offenders = [
        file
        for file in (ROOT / "pages").rglob("*.py")
        if re.search(r"unsafe_allow_(html|javascript)\s*=\s*True", file.read_text())
    ]
    assert offenders == []


def test_a_session_setting_never_outlives_its_transaction() -> None:
    """A set_config(..., false) would reach the next client of a pooled connection."""
    for file in [*(ROOT / "core").rglob("*.sql"), *(ROOT / "core").rglob("*.py")]:
        assert not re.search(r"set_config\([^)]*,\s*false\)", file.read_text()), file


def test_locked_requirements_name_no_registry() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        locked = (ROOT / name).read_text()
        assert "--hash=sha256:" in locked
        assert "://" not in locked


def _used_of_streamlit(file: Path) -> set[str]:
    """What a file takes from Streamlit by name, however it was imported."""
    tree = tree_of(file)
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamlit"):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            found |= {str(getattr(word, "value", "")) for word in node.args}
    return found


@pytest.mark.parametrize(
    ("names", "only"),
    [
        # They keep the arguments of the run that drew them, so the identity too.
        ({"fragment", "experimental_fragment", "dialog", "experimental_dialog", "dialog_decorator"},
         {"pages/widgets/fragments.py"}),
        # They keep what was read for one person; these two files key it by tenant, person and role.
        ({"cache_data", "cache_resource", "experimental_memo", "experimental_singleton"},
         {"pages/widgets/cached.py", "pages/widgets/inbox.py"}),
    ],
    ids=["fragments", "caches"],
)  # fmt: skip
def test_what_outlives_a_run_is_made_in_one_place(names: set[str], only: set[str]) -> None:
    users = {
        file.relative_to(ROOT).as_posix()
        for file in [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
        if names & (_used_of_streamlit(file) - ({"fragment", "dialog"} & _of_ours(file)))
    }
    assert users == only


def _of_ours(file: Path) -> set[str]:
    """The names a file takes from our own fragments only."""
    attributes = [n for n in ast.walk(tree_of(file)) if isinstance(n, ast.Attribute)]
    return {
        name
        for name in ("fragment", "dialog")
        if all(ast.unparse(a.value) == "fragments" for a in attributes if a.attr == name)
    }


_IDENTITIES = {"who", "principal", "operator", "desk", "signed_in"}


def _callbacks(tree: ast.Module) -> list[ast.AST]:
    """Everything that a widget may call or hand over later: its callbacks and their arguments."""
    functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    found: list[ast.AST] = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        of = {word.arg: word.value for word in call.keywords}
        acts = [value for name, value in of.items() if re.fullmatch(r"on_[a-z_]+", name or "")]
        acts += [of["data"]] if getattr(call.func, "attr", "") == "download_button" else []
        if not acts:
            continue
        found += [of[name] for name in ("args", "kwargs") if name in of]
        for act in acts:
            found += [functions.get(act.id, act) if isinstance(act, ast.Name) else act]
    return found


def test_a_callback_carries_no_identity() -> None:
    """It runs later than what drew it: it asks who clicks, and must not be handed who looked."""
    carried = [
        f"{file.relative_to(ROOT)}:{part.lineno}"  # type: ignore[attr-defined]
        for file in sorted((ROOT / "pages").rglob("*.py"))
        for part in _callbacks(tree_of(file))
        for node in ast.walk(part)
        if (isinstance(node, ast.Name) and node.id in _IDENTITIES)
        or (isinstance(node, ast.Attribute) and node.attr in _IDENTITIES)
    ]
    assert carried == []


def test_a_part_of_a_page_gets_who_looks_as_its_first_argument() -> None:
    """And is handed no other identity, which would be that of the run that drew it."""
    seen = 0
    for file in sorted((ROOT / "pages").rglob("*.py")):
        for node in ast.walk(tree_of(file)):
            if not isinstance(node, ast.FunctionDef):
                continue
            made = [ast.unparse(d) for d in node.decorator_list]
            if not any(name.startswith(("fragments.", "part(")) for name in made):
                continue
            seen += 1
            given = [*node.args.posonlyargs, *node.args.args]
            told = [ast.unparse(a.annotation) for a in given if a.annotation]
            assert told[0] in {"SignedIn", "Sight"}, f"{file.name}: {node.name}"
            assert not {"Principal", "Operator", "Who", "Desk"} & set(told), node.name
    assert seen >= 20


def test_the_engines_threads_serve_running_calls_alone() -> None:
    """Only the engine makes work for its lane; the rest of HTTP goes through core/http/work.py, and of
    HTTP the key and the gate of a call alone ask to be admitted."""
    engine, work = ROOT / "core/chat/engine.py", ROOT / "core/http/work.py"
    makers: dict[str, set[Path]] = {
        "Lane.ENGINE": set(),
        "Lane.API": set(),
        ".admit(": set(),
        "to_thread(": set(),
    }
    for file in python_files("core", "pages"):
        for word, found in makers.items():
            concerned = file.parent.name == "http" or word.startswith("Lane.")
            if concerned and word in file.read_text():
                found.add(file)
    lanes = ROOT / "core/lanes.py"
    assert makers["Lane.ENGINE"] - {lanes} == {engine}
    assert makers["Lane.API"] - {lanes} == {work}
    http = ROOT / "core/http"
    assert makers[".admit("] == {http / "completions.py", http / "keys.py"}
    # What opens the database before anybody asks, imports, and the end of a file that was sent.
    assert makers["to_thread("] == {
        http / "process.py", http / "machine.py", http / "sending.py"
    }  # fmt: skip
    assert not any(".sql(" in file.read_text() for file in python_files("core", "pages"))
