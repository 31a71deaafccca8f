"""A package index in a folder, and the Makefile's own way of installing from a lock."""

from __future__ import annotations

import hashlib
import re
import subprocess
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")


def install_command(python: Path) -> list[str]:
    """The Makefile's INSTALL, run by another Python."""
    (line,) = re.findall(
        r"^INSTALL = \$\(PY\) (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    return [str(python), *line.split()]


def empty_environment(folder: Path) -> Path:
    """A new virtual environment; its Python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def make_wheel(index: Path, name: str, version: str, *requires: str) -> str:
    """Put a package without code into the index; the sha256 of its file."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: toml\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    path = index / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions(python: Path) -> dict[str, str]:
    """What is installed beside that Python."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    pairs = (line.partition("==") for line in listed.stdout.splitlines())
    return {name.lower(): version for name, _, version in pairs}
