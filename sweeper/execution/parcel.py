"""What travels to a cluster with a verb: the installed packages, the spec, and the manifests it names.

Images, tables and weights do not travel: they must lie where the cluster finds them.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sweeper.errors import Problem, SpecError
from sweeper.spec.document import Path as Location
from sweeper.spec.document import parse_document
from sweeper.spec.rewrite import VARIABLE, is_local_weights, rewrite


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """What travels.

    Attributes:
        folder: the job's working folder.
        packages: folders of `sweeper` and `sweeper_models`, so that the cluster runs the code that is installed here.
        spec: the spec's path within `folder`, None where only a sweep's name is sent.
        variables: environment variables that spec and manifests name in paths, with the values they have here.
    """

    folder: Path
    packages: tuple[Path, ...]
    spec: Path | None
    variables: Mapping[str, str]


@contextmanager
def packed(spec: Path | None, *, stand_in: bool = False) -> Iterator[Parcel]:
    """Lays out what travels in a temporary folder, which is removed at the end.

    Args:
        spec: a spec file that is valid; None for a verb that needs none.
        stand_in: the self-made set takes the place of what the spec names.

    Raises:
        SpecError: a manifest is not here, or weights are named by a relative path.
    """
    with TemporaryDirectory(prefix="sweeper-job-") as name:
        work, code = Path(name) / "work", Path(name) / "code"
        work.mkdir()
        (work / "README.txt").write_text("The working folder of a job that `sweeper --address` submitted.\n")
        packages = (code / "sweeper", code / "sweeper_models")
        for package in packages:
            shutil.copytree(_installed(package.name), package, ignore=shutil.ignore_patterns("__pycache__"))
        files = [] if spec is None else [spec.absolute(), *([] if stand_in else named_files(spec))]
        root = Path(os.path.commonpath([file.parent for file in files])) if files else work
        for file in files:
            target = work / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        yield Parcel(
            folder=work,
            packages=packages,
            spec=files[0].relative_to(root) if files else None,
            variables=_variables_in(files),
        )


def named_files(spec: Path) -> list[Path]:
    """Returns the manifests that a spec names by relative paths, in its order; others must lie on the cluster.

    Raises:
        SpecError: one is not here; or data or weights, which do not travel, are named by relative paths.
    """
    document = parse_document(spec.read_text(encoding="utf-8"), str(spec))
    assert document.root is not None, "the spec is valid"
    found: dict[Path, None] = {}
    problems: list[Problem] = []
    for name, text, place in _paths_in(document.root.value):
        if _is_elsewhere(text):
            continue
        file = Path(os.path.normpath(spec.absolute().parent / _filled(text)))
        if name == "model.pretrained":
            problems.append(_stays(document.where(place), text))
        elif file.is_file():
            problems += _relative_data(file) if file not in found else []
            found[file] = None
        else:
            rule, remedy = "a manifest that is named by a relative path travels along", "Check the path"
            problems.append(Problem(where=document.where(place), rule=rule, got=f"no file {file}", remedy=remedy))
    if problems:
        raise SpecError(problems)
    return list(found)


def _paths_in(raw: dict[str, Any]) -> list[tuple[str, str, Location]]:
    """Returns the paths of a spec: field, text, place."""
    found: list[tuple[str, str, Location]] = []

    def collect(name: str, value: Any, place: Location) -> Any:
        if name in ("data.manifest", "evaluation.sets") or (name == "model.pretrained" and is_local_weights(value)):
            texts = value if isinstance(value, list) else [value]
            found.extend((name, text, place) for text in texts if text and not text.startswith("builtin:"))
        return value

    rewrite(raw, collect)
    return found


def _relative_data(manifest: Path) -> list[Problem]:
    """Returns what a manifest names relative to itself. A variable that is not set here may be set there."""
    document = parse_document(manifest.read_text(encoding="utf-8"), str(manifest))
    return [
        _stays(document.where(place), text)
        for place, text in _data_in(document.root.value if document.root is not None else None)
        if not _is_elsewhere(text) and all(os.environ.get(variable[1]) for variable in VARIABLE.finditer(text))
    ]


def _data_in(value: Any, place: Location = ()) -> Iterator[tuple[Location, str]]:
    """Yields the values of the keys under which a manifest names files and folders."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if key in ("file", "folder") and isinstance(part, str):
            yield (*place, key), part
        else:
            yield from _data_in(part, (*place, key))


def _stays(where: str, text: str) -> Problem:
    return Problem(
        where=where,
        rule="data and weights do not travel to a cluster, and are named by their absolute path there",
        got=text,
        remedy="Give that path, or a variable in it such as ${THINGS_IMAGES}, which travels with the value it has here",
    )


def _installed(package: str) -> str:
    found = find_spec(package)
    assert found is not None, "we are running it"
    assert found.submodule_search_locations is not None, "it is a folder"
    return found.submodule_search_locations[0]


def _filled(text: str) -> str:
    return VARIABLE.sub(lambda variable: os.environ.get(variable[1]) or variable[2] or "", text)


def _is_elsewhere(text: str) -> bool:
    """Tells whether a path means a place that does not depend on the spec's folder."""
    return os.path.isabs(os.path.expanduser(_filled(text)))


def _variables_in(files: list[Path]) -> dict[str, str]:
    named = (variable[1] for file in files for variable in VARIABLE.finditer(file.read_text(encoding="utf-8")))
    return {name: os.environ[name] for name in sorted(set(named)) if os.environ.get(name)}
