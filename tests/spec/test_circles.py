"""Specs that take states from each other in a circle."""

from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.spec.load import load_spec

SPEC = """\
name: NAME
data: {manifest: builtin:selfmade-meg}
model:
  variant: clip-hba-meg
  backbone: tiny-clip
  pretrained: builtin
"""


def write(folder: Path, name: str, *given: str) -> Path:
    path = folder / f"{name}.yaml"
    lines = [f"  start_from: {given[0]}\n"] if len(given) == 1 else []
    lines += [f"axes: {{model.start_from: [{', '.join(given)}]}}\n"] if len(given) > 1 else []
    path.write_text(SPEC.replace("NAME", name) + "".join(lines))
    return path


def told(path: Path) -> list[tuple[str, str | None]]:
    with pytest.raises(SpecError) as raised:
        load_spec(path)
    return [(problem.where, problem.got) for problem in raised.value.problems]


def test_a_spec_that_starts_from_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "a", "a.yaml")
    assert told(path) == [(f"{path}:7:15", "a.yaml takes from a.yaml")]
    assert told(path.relative_to(tmp_path)) == [("a.yaml:7:15", "a.yaml takes from a.yaml")]


def test_so_is_one_that_leads_into_a_circle_by_an_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "end")
    write(tmp_path, "b", "c.yaml")
    write(tmp_path, "c", "end.yaml", "sub/../b.yaml")
    path = write(tmp_path, "a", "end.yaml", "b.yaml")
    assert told(path) == [(f"{path}:7:37", "b.yaml takes from c.yaml takes from b.yaml")]


def test_a_long_way_that_ends_is_none(tmp_path: Path) -> None:
    write(tmp_path, "c")
    write(tmp_path, "b", "c.yaml")
    assert load_spec(write(tmp_path, "a", "b.yaml", "c.yaml", "nowhere.yaml")).name == "a"
