"""What is installed is what was locked, whatever the index serves that day."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.install.packages import LOCKS, ROOT, empty_environment, install_command, make_wheel
from tests.install.packages import versions as installed_versions


def locked(file: str) -> dict[str, str]:
    """The pins of a lock that hold on this machine."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if line[:1].isalnum()]
    pins = [Requirement(line.rstrip("\\ ")) for line in lines]
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


def installed() -> dict[str, list[Requirement]]:
    """What each package of this environment asks for on this machine."""
    return {
        canonicalize_name(found.name): [
            requirement
            for requirement in map(Requirement, found.requires or ())
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
        for found in distributions()
    }


@pytest.mark.parametrize("file", LOCKS)
def test_the_lock_holds_all_that_its_packages_ask_for(file: str) -> None:
    """Nothing is resolved when it is installed, so nothing may be left to resolve."""
    pins, asked = locked(file), installed()
    for name in pins:
        for requirement in asked[name]:
            pin = pins.get(canonicalize_name(requirement.name))
            assert pin is not None, f"{name} asks for {requirement}"
            assert requirement.specifier.contains(pin, prereleases=True), f"{name}: {requirement}"


def test_the_lock_for_development_pins_what_the_other_pins() -> None:
    runtime, development = (locked(file) for file in LOCKS)
    assert runtime.items() <= development.items()


def test_this_environment_is_the_lock() -> None:
    found = {canonicalize_name(package.name): package.version for package in distributions()}
    assert locked("requirements-dev.txt").items() <= found.items()


def test_a_newer_release_in_the_index_changes_nothing(tmp_path: Path) -> None:
    """`asks` wants an extra of `asked`, as pytest-cov wants coverage[toml]: pip resolves that to the
    newest release, for which the lock has no hash."""
    index = tmp_path / "index"
    index.mkdir()
    pins = {
        "asks": make_wheel(index, "asks", "1.0", "asked[toml]>=1"),
        "asked": make_wheel(index, "asked", "1.0"),
    }
    make_wheel(index, "asked", "2.0")
    lock = tmp_path / "lock.txt"
    lock.write_text("".join(f"{name}==1.0 --hash=sha256:{pin}\n" for name, pin in pins.items()))
    python = empty_environment(tmp_path / "empty")
    subprocess.run(
        [*install_command(python), "--no-index", "--find-links", str(index), "-r", str(lock)],
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert {"asks": "1.0", "asked": "1.0"}.items() <= installed_versions(python).items()


def test_this_environment_is_whole() -> None:
    subprocess.run([sys.executable, "-m", "pip", "check"], check=True)
