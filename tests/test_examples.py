"""The CI files of examples/ do what their comments say: their own lines are run, against the demo model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import junitparser
import pytest
import yaml

from lmeval.demo import demo_model_path
from lmeval.gate.config import load_gate_file

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
INSTALL = "pip install lmeval"  # the one line that is not run


def parsed(name: str) -> dict[Any, Any]:
    found = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


WORKFLOW, PIPELINE = parsed("github-gate.yml"), parsed("gitlab-gate.yml")


def github_script() -> list[str]:
    return [step["run"] for step in WORKFLOW["jobs"]["gate"]["steps"] if "run" in step]


SCRIPTS: dict[str, tuple[list[str], dict[str, str]]] = {
    "github": (github_script(), WORKFLOW["env"]),
    "gitlab": (PIPELINE["gate"]["script"], PIPELINE["gate"]["variables"]),
}


# ---- what the services require of the files ----


def test_the_workflow_has_what_github_requires() -> None:
    assert WORKFLOW[True].keys() == {"pull_request", "workflow_dispatch"}  # YAML 1.1 reads `on` as true
    assert WORKFLOW["permissions"] == {"contents": "read"}
    (job,) = WORKFLOW["jobs"].values()
    assert job["runs-on"] and job["timeout-minutes"] <= 360
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        assert "uses" not in step or step["uses"].count("@") == 1
    (upload,) = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert upload["if"] == "always()"  # the report of a failed gate is what people want to read
    assert {"gate.json", "gate.xml"} <= set(upload["with"]["path"].split())


def test_the_pipeline_has_what_gitlab_requires() -> None:
    job = PIPELINE["gate"]
    assert all(isinstance(line, str) for line in job["script"])
    assert all(isinstance(value, str) for value in job["variables"].values())
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"] == {"junit": "gate.xml"}
    assert job["allow_failure"] == {"exit_codes": [11]}
    assert any("--junit gate.xml" in line for line in job["script"])


def test_both_install_then_run_lmeval_and_nothing_else() -> None:
    for script, _ in SCRIPTS.values():
        assert script[0] == INSTALL
        assert all(line.startswith("lmeval ") for line in script[1:])


def test_the_gate_file_is_valid_and_about_the_tasks_that_are_run() -> None:
    rules = load_gate_file(EXAMPLES / "gate.yaml").rules
    for _, variables in SCRIPTS.values():
        assert {rule.task for rule in rules} <= set(variables["TASKS"].split(","))


def test_the_readme_names_every_file() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} - {"README.md"} == {
        name for name in ("gate.yaml", "github-gate.yml", "gitlab-gate.yml") if f"({name})" in README
    }


# ---- the scripts run ----


class Repository:
    """A folder as a CI job finds it after a checkout, with `lmeval` on its path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(EXAMPLES / "gate.yaml", folder)
        command = folder / ".bin" / "lmeval"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lmeval "$@"\n')
        command.chmod(0o755)

    def run(self, script: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        """The lines as both services run them: one shell that stops at the first failure."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), **variables}
        environment["PATH"] = f"{self.folder / '.bin'}{os.pathsep}{environment['PATH']}"
        lines = [line for line in script if line != INSTALL]
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", "\n".join(lines)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def forget_runs(self) -> None:
        """As the next job's checkout does."""
        shutil.rmtree(self.folder / "results")


def readme_commands() -> list[str]:
    blocks = README.split("```sh\n")[1:]
    return [line for block in blocks for line in block.split("```")[0].splitlines() if line]


def damaged_model(folder: Path) -> Path:
    """The demo model with a layer that says nothing."""
    from safetensors.torch import load_file, save_file

    model = folder / "damaged"
    shutil.copytree(demo_model_path("demo"), model)
    weights = load_file(model / "model.safetensors")
    largest = max((name for name in weights if "mlp" in name), key=lambda name: weights[name].numel())
    weights[largest] = weights[largest] * 0
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    return model


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """With the baseline that the README's first commands make."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    found = Repository(tmp_path_factory.mktemp("repository"))
    ran = found.run(readme_commands()[:2])
    assert ran.returncode == 0, ran.stderr
    assert (found.folder / "baselines" / "main.json").is_file()
    found.forget_runs()
    return found


@pytest.mark.slow
def test_on_github_a_checkpoint_as_good_passes_and_is_promoted(repository: Repository) -> None:
    script, variables = SCRIPTS["github"]
    summary = repository.folder / "summary.md"
    ran = repository.run(script, **variables, GITHUB_STEP_SUMMARY=str(summary))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads((repository.folder / "gate.json").read_text())["verdict"] == "PASS"
    assert junitparser.JUnitXml.fromfile(str(repository.folder / "gate.xml")).failures == 0
    assert "lmeval gate: PASS" in summary.read_text() and "::notice" in ran.stdout
    promoted = repository.run(readme_commands()[2:])
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    repository.forget_runs()


@pytest.mark.slow
def test_on_gitlab_a_damaged_checkpoint_fails_the_job_and_leaves_the_reports(
    repository: Repository, tmp_path: Path
) -> None:
    script, variables = SCRIPTS["gitlab"]
    ran = repository.run(script, **{**variables, "CHECKPOINT": str(damaged_model(tmp_path))})
    assert ran.returncode == 10, ran.stdout + ran.stderr
    assert json.loads((repository.folder / "gate.json").read_text())["verdict"] == "FAIL"
    assert junitparser.JUnitXml.fromfile(str(repository.folder / "gate.xml")).failures >= 1
    assert "lmeval gate: FAIL" in (repository.folder / "gate.md").read_text()
    assert "Traceback" not in ran.stderr
    repository.forget_runs()
