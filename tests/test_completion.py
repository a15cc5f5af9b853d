"""What a shell offers: the scripts, the names of sweeps, the spec files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import CompletionItem, ShellComplete
from click.testing import CliRunner

from sweeper.cli import main
from sweeper.store.local import LocalStore
from sweeper.store.revisions import sweep_names


def offered(*words: str) -> list[str]:
    """Returns what is offered for the last word; the shell's own file completion is `<file>`."""
    items = ShellComplete(main, {}, "sweeper", "_SWEEPER_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [_shown(item) for item in items]


def _shown(item: CompletionItem) -> str:
    return "<file>" if item.type == "file" else str(item.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sweeps in the default store, and specs at two depths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWEEPER_STORE", raising=False)
    for store, names in (("sweeper-store", ("grid", "grid.v2", "length")), ("other", ("elsewhere",))):
        objects = LocalStore(tmp_path / store)
        for name in names:
            objects.put("sweeps", f"{name}.000001", b"{}")
            objects.put("sweeps", f"{name}.000002", b"{}")
    (tmp_path / "experiments" / "data").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("grid.yaml", "notes.txt", "experiments/length.yaml", "experiments/data/set.yml", ".hidden/a.yaml"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("verb", ["status", "results", "export", "sync", "ui"])
def test_a_sweep_is_a_name_in_the_store_or_a_spec(folder: Path, verb: str) -> None:
    assert offered(verb, "gr") == ["grid", "grid.v2", "grid.yaml"]
    assert offered(verb, "le") == ["length"]
    assert offered(verb, "")[:3] == list(sweep_names(LocalStore(folder / "sweeper-store")))


@pytest.mark.parametrize("words", [("run",), ("plan",), ("validate",), ("doctor", "--model")])
def test_a_spec_is_a_yaml_file(folder: Path, words: tuple[str, ...]) -> None:
    assert offered(*words, "") == ["grid.yaml", "experiments/length.yaml"]
    assert offered(*words, "exp") == ["experiments/length.yaml"]
    assert offered(*words, "experiments/") == ["experiments/length.yaml", "experiments/data/set.yml"]
    assert offered(*words, f"{folder}/gr") == [f"{folder}/grid.yaml"]
    assert offered(*words, "nothing") == ["<file>"]


def test_a_store_is_a_folder_for_the_shell_to_find(folder: Path) -> None:
    items = ShellComplete(main, {}, "sweeper", "_SWEEPER_COMPLETE").get_completions(["status", "--store"], "o")
    assert [(item.value, item.type) for item in items] == [("o", "dir")]
    assert offered("status", "--store", "s3://bucket/x", "gr") == ["grid.yaml"]


def test_the_store_may_be_another_one_or_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("results", "--store", "other", "e") == ["elsewhere", "experiments/length.yaml"]
    assert offered("results", "--store", "absent", "nothing") == ["<file>"]
    assert not (folder / "absent").exists()
    monkeypatch.setenv("SWEEPER_STORE", "other")
    assert offered("results", "else") == ["elsewhere"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_sweeper(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_SWEEPER_COMPLETE={shell}_complete" in result.output


def test_bash_completes_with_the_script(folder: Path) -> None:
    code = f"""
PATH={Path(sys.executable).parent}:$PATH
eval "$(sweeper completion bash)"
COMP_WORDS=(sweeper results gr); COMP_CWORD=2
_sweeper_completion sweeper
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "grid grid.v2 grid.yaml"


def test_a_tab_imports_nothing_heavy(folder: Path) -> None:
    heavy = ["torch", "ray", "mlflow", "numpy", "pandas", "pydantic", "ruamel", "rich"]
    code = f"""
import sys
from click.shell_completion import ShellComplete
from sweeper.cli import main
items = ShellComplete(main, {{}}, "sweeper", "_").get_completions(["results"], "gr")
print([item.value for item in items], [name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "['grid', 'grid.v2', 'grid.yaml'] []"
