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
def packed(spec: Path | None) -> Iterator[Parcel]:
    """Lays out what travels in a temporary folder, which is removed at the end.

    Args:
        spec: a spec file that is valid; None for a verb that needs none.

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
        files = [] if spec is None else [spec.absolute(), *named_files(spec)]
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
        SpecError: one is not here, or weights are named by a relative path.
    """
    document = parse_document(spec.read_text(encoding="utf-8"), str(spec))
    assert document.root is not None, "the spec is valid"
    found: dict[Path, None] = {}
    problems: list[Problem] = []

    def collect(name: str, value: Any, place: Location) -> Any:
        if name == "model.pretrained" and is_local_weights(value) and not _is_elsewhere(value):
            rule, remedy = "weights do not travel to a cluster", "Name them by their absolute path there"
            problems.append(Problem(where=document.where(place), rule=rule, got=value, remedy=remedy))
        if name not in ("data.manifest", "evaluation.sets"):
            return value
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or text.startswith("builtin:") or _is_elsewhere(text):
                continue
            file = Path(os.path.normpath(spec.absolute().parent / _filled(text)))
            found[file] = None
            if not file.is_file():
                rule, remedy = "a manifest that is named by a relative path travels along", "Check the path"
                got = f"no file {file}"
                problems.append(Problem(where=document.where(place), rule=rule, got=got, remedy=remedy))
        return value

    rewrite(document.root.value, collect)
    if problems:
        raise SpecError(problems)
    return list(found)


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
