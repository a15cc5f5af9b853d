"""The rules of the house, checked by machines: imports, style, types, what may not be in the repository."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        [str(BIN / "lint-imports"), "--no-cache"],
        [str(BIN / "ruff"), "check", "."],
        [str(BIN / "ruff"), "format", "--check", "."],
        [str(BIN / "mypy"), "--cache-dir", ".mypy_cache"],
    ],
    ids=["import rules", "lint", "format", "types"],
)
def test_machine_checks_are_clean(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = ["torch", "ray", "mlflow", "optuna", "numpy", "pandas", "pydantic", "open_clip", "matplotlib", "rich"]
    code = f"import sys, sweeper.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "owners"),
    [
        ("ray", {"sweeper/execution/ray_cluster.py", "sweeper/execution/ray_jobs.py"}),
        ("mlflow", {"sweeper/tracking/mlflow_view.py"}),
        (
            "optuna",
            {f"sweeper/search/{name}.py" for name in ("figures", "mirror", "pruners", "samplers", "space", "study")},
        ),
    ],
)
def test_services_are_imported_in_one_place_each(package: str, owners: set[str]) -> None:
    pattern = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
    found = {
        str(path.relative_to(ROOT))
        for folder in ("sweeper", "models")
        for path in (ROOT / folder).rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8"))
    }
    assert found == owners


def test_pins_are_names_and_versions_only() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 50
    assert all(re.match(r"^[A-Za-z0-9_.\[\]-]+==[^ /]+( ; .*)?$", line) for line in lines)


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "sweeper").rglob("__init__.py")}
    assert set(listed) == found | {"sweeper_models"}
