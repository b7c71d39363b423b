"""The wheel holds all that lmeval needs, and works outside the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PINS = re.compile(r"^([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)$")

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=CHECKOUT)
    (built,) = folder.glob("lmeval-*.whl")
    return built


def tracked(*folders: str) -> set[str]:
    """What git tracks in these folders; a wheel built from anything more would not be reproducible."""
    if not (CHECKOUT / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of files to compare with")
    return set(run("git", "ls-files", "-z", "--", *folders, cwd=CHECKOUT).strip("\0").split("\0"))


def test_wheel_holds_the_package_the_tasks_and_the_demo_models(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {re.sub("^tasks/", "lmeval/_tasks/", name) for name in tracked("lmeval", "tasks")}
    assert expected - names == set()
    assert any(name.startswith("lmeval/_tasks/data/") for name in names)
    assert any(name.startswith("lmeval/demo/") and name.endswith(".safetensors") for name in names)
    assert {name.split("/")[0] for name in names} <= {"lmeval", wheel.name.rsplit("-", 3)[0] + ".dist-info"}


def test_installed_wheel_finds_its_tasks_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = str(tmp_path / "site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile")
    run(*pip, "--target", site, wheel, cwd=tmp_path)
    where = run(sys.executable, "-c", "import lmeval; print(lmeval.__file__)", cwd=tmp_path, PYTHONPATH=site)
    assert Path(where.strip()).is_relative_to(site)
    listed = run(sys.executable, "-m", "lmeval", "tasks", "list", cwd=tmp_path, PYTHONPATH=site)
    for task in ("ppl", "lambada", "ag_news", "demo_cloze"):
        assert re.search(rf"(?m)\b{task}\b", listed), task
    shown = run(sys.executable, "-m", "lmeval", "tasks", "schema", cwd=tmp_path, PYTHONPATH=site)
    assert "classification" in json.dumps(json.loads(shown))


def test_constraints_pin_every_dependency_within_its_range() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [
        line for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    ]
    pins = {canonicalize_name(pin[1]): pin[2] for line in lines if (pin := PINS.match(line))}
    assert len(pins) == len(lines)  # nothing but exact pins, none twice, no local versions such as +cpu
    assert pins["torch"] == "2.13.0"
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    for requirement in map(Requirement, declared):
        if requirement.name != project["name"]:
            pin = pins.get(canonicalize_name(requirement.name))
            assert pin, f"{requirement.name} has no pin in constraints.txt"
            assert requirement.specifier.contains(pin), f"{requirement} does not allow {pin}"
