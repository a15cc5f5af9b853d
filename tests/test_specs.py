"""A spec by its file or by the name of a sweep; what is found wrong later points into the file."""

from pathlib import Path

import pytest

from sweeper.errors import DataError, ModelError, SpecError
from sweeper.preview import make_plan
from sweeper.specs import find_spec

SPEC = """\
name: odd
data: {manifest: builtin:selfmade}
model:
  backbone: ViT-L14
  pretrained: random
training: {max_epochs: 3}
"""


def test_a_backbone_that_nobody_knows_is_found_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(SPEC)
    with pytest.raises(ModelError, match=r"odd.yaml:4:13: model.backbone: .*Nearest: ViT-L-14"):
        make_plan(file, tmp_path / "store", stand_in=False)


def test_so_is_one_of_an_axis(tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(SPEC.replace("  backbone: ViT-L14\n", "") + "axes:\n  model.backbone: [tiny-clip, ViT-L14]\n")
    with pytest.raises(ModelError, match=r"odd.yaml:\d+:\d+: model.backbone: "):
        make_plan(file, tmp_path / "store", stand_in=False)


def test_a_sweep_of_the_store_is_named_without_its_file(engine, grid: Path, grid_axes) -> None:
    named = find_spec(Path("test"), grid)
    assert named.spec == engine.sweep(**grid_axes).spec
    assert named.file is None
    assert make_plan(Path("test"), grid, stand_in=False).epochs_to_run == 0


def test_neither_file_nor_sweep(grid: Path) -> None:
    with pytest.raises(SpecError, match="the spec must exist"):
        find_spec(Path("nowhere"), grid)


def test_what_is_wrong_with_a_spec_that_a_state_is_taken_from_is_told_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(SPEC)
    head = "name: meg\ndata: {manifest: builtin:selfmade-meg}\nmodel: {variant: clip-hba-meg, text_from: odd.yaml, "
    (tmp_path / "meg.yaml").write_text(f"{head}backbone: tiny-clip, pretrained: builtin}}\n")
    with pytest.raises(ModelError, match=r"odd.yaml:4:13: model.backbone: .*Nearest: ViT-L-14"):
        make_plan(tmp_path / "meg.yaml", tmp_path / "store", stand_in=False)


def test_a_spec_that_is_not_there_is_told_where_it_is_named_and_the_one_that_names_it_is_not_meant(
    tmp_path: Path,
) -> None:
    head = "name: meg\ndata: {manifest: builtin:selfmade-meg}\nmodel: {variant: clip-hba-meg, text_from: meg1.yaml, "
    (tmp_path / "meg.yaml").write_text(f"{head}backbone: tiny-clip, pretrained: builtin}}\n")
    with pytest.raises(SpecError) as raised:
        make_plan(tmp_path / "meg.yaml", tmp_path / "store", stand_in=False)
    (problem,) = raised.value.problems
    assert problem.where == f"{tmp_path / 'meg.yaml'}:3:43"
    assert problem.got == str(tmp_path / "meg1.yaml")
    assert problem.remedy == "Specs in that folder: none"
    (tmp_path / "meg2.yaml").write_text("")
    with pytest.raises(SpecError, match=r"meg1.yaml. Nearest: \S*/meg2.yaml."):
        make_plan(tmp_path / "meg.yaml", tmp_path / "store", stand_in=False)


@pytest.mark.parametrize("line", ["data: {manifest: gone/set.yaml}", "evaluation: {sets: [gone/set.yaml]}"])
def test_a_manifest_that_is_not_there_is_told_where_it_is_named(line: str, tmp_path: Path) -> None:
    file, text = tmp_path / "odd.yaml", SPEC.replace("ViT-L14", "tiny-clip").replace("random", "builtin")
    kept = [each for each in text.splitlines() if not each.startswith(line.partition(" ")[0])]
    file.write_text("\n".join([*kept, line]) + "\n")
    column = line.index("gone") + 1
    with pytest.raises(DataError, match=rf"odd.yaml:{len(kept) + 1}:{column}: .*gone/set.yaml, No such file"):
        make_plan(file, tmp_path / "store", stand_in=False)
