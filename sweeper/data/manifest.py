"""The data manifest: a YAML file that says where a lab's images, targets and reference RDMs are.

Loading checks the manifest itself, all problems at once, each at its `file:line:column`. Whether the files
it names exist and fit together is checked by `open_dataset` and `verify_manifest`.
"""

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from sweeper.data.fields import (
    IDENTIFIER,
    GeneratorSource,
    HeldOutSource,
    ImageSource,
    Part,
    ReferenceSource,
    SeriesSource,
    TableSource,
    TripletSource,
    broken,
)
from sweeper.errors import DataError, Problem, SpecError
from sweeper.spec.document import Document, parse_document
from sweeper.spec.document import Path as Location
from sweeper.spec.report import Report

Relabel: TypeAlias = Literal["none", "things-uniqueid"]

_Named = TypeVar("_Named", ReferenceSource, SeriesSource)

_NO_FILE = Document(name="manifest", root=None, problems=())


class Manifest(Part):
    """Says what a data set is made of, and where that lies.

    Attributes:
        name: short name, for notes and tables.
        source, licence: free text, for the people who use the set next.
        images: the pool's images.
        targets: the pool's targets; may be absent where a `series` says what the images are trained on.
        held_out: the stimuli that are never trained on; None if there are none, or if folds are used.
        references: RDMs to compare with.
        series: RDMs over time, one for each participant.
        triplets: human odd-one-out trials.
        generator: the self-made set, instead of all of the above.
        relabel: whether the 21 mislabelled SPoSE rows are repaired when loading; does nothing to other tables.
    """

    name: Annotated[str, Field(pattern=IDENTIFIER)]
    source: str | None = None
    licence: str | None = None
    images: ImageSource | None = None
    targets: TableSource | None = None
    held_out: HeldOutSource | None = None
    references: tuple[ReferenceSource, ...] = ()
    series: tuple[SeriesSource, ...] = ()
    triplets: TripletSource | None = None
    generator: GeneratorSource | None = None
    relabel: Relabel = "things-uniqueid"

    _document: Document = PrivateAttr(default=_NO_FILE)

    def where(self, *location: str | int) -> str:
        """Returns `file:line:column` of a field, for errors that appear when its files are read."""
        return self._document.where(location, key=True)

    @field_validator("references", "series")
    @classmethod
    def _unique_names(cls, sources: tuple[_Named, ...], info: ValidationInfo) -> tuple[_Named, ...]:
        names = [source.name for source in sources]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            kind = "series" if info.field_name == "series" else "reference"
            raise broken(f"{kind} names are unique", f"{', '.join(repeated)} more than once")
        return sources

    @model_validator(mode="after")
    def _parts_fit(self) -> "Manifest":
        parts = ("images", "targets", "held_out", "references", "series", "triplets")
        given = [part for part in parts if getattr(self, part)]
        if self.generator is not None and given:
            raise broken("a `generator` makes everything itself", f"also {', '.join(given)}", "Leave one of them out")
        if self.generator is None:
            self._files_fit()
        return self

    def _files_fit(self) -> None:
        if self.images is None and self.targets is None and self.held_out is None:
            remedy = "Give `images` and `targets`, `held_out` with images, or a `generator`"
            raise broken("a manifest names a pool or a held-out set", "neither", remedy)
        alone = self.targets is not None if self.images is None else self.targets is None and not self.series
        if alone:
            remedy = "Images without targets are an evaluation set: put them under `held_out`; or give a `series`"
            raise broken("`images` and `targets` come together, or `images` and `series`", "one of them", remedy)
        held_out = self.held_out
        if held_out is not None and self.images is None and (held_out.rows is not None or held_out.images is None):
            raise broken("without `targets`, `held_out` has its own `images` and no `rows`")
        rows = [source.rows for source in self.references] + [source.rows for source in self.series]
        if held_out is None and "held_out" in rows:
            raise broken("`rows: held_out` needs a `held_out` set", None, "Name the rows of the RDMs instead")
        if self.targets is None and self.triplets is not None and self.triplets.rows == "targets":
            raise broken("triplets count the rows of `targets`, which is absent", None, "Give `rows` of the triplets")


def load_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Loads a manifest.

    Args:
        path: the YAML file.

    Returns:
        The manifest, with absolute paths.

    Raises:
        DataError: with every problem, at its line and column.
    """
    file = Path(path)
    try:
        document = parse_document(_read(file), str(file))
    except SpecError as error:  # the reader is that of specs
        raise DataError(error.problems) from None
    report = Report(document)
    fields = None if document.root is None else document.root.value
    try:
        if isinstance(fields, dict):
            manifest = Manifest.model_validate(fields, context={"folder": file.parent})
            manifest._document = document
        else:
            got = "an empty file" if fields is None else type(fields).__name__
            report.tell((), "a manifest is a mapping of fields", got)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _tell(report, detail)
    if report.problems:
        raise DataError(report.problems)
    return manifest


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        rule = "the manifest is a readable text file in UTF-8"
        got = getattr(error, "strerror", None) or str(error)
        raise DataError(Problem(where=str(file), rule=rule, got=got, remedy="Check the path")) from error


def _tell(report: Report, detail: ErrorDetails) -> None:
    """Says what pydantic found in the words of this project, at the field's key."""
    location = tuple(part for part in detail["loc"] if not str(part).startswith("<"))
    dotted, shown = ".".join(str(part) for part in location), repr(detail["input"])
    got: str | None = shown if len(shown) < 80 else f"{shown[:77]}..."
    remedy: str | None = None
    match detail["type"]:
        case "manifest":
            rule, got, remedy = (detail["ctx"][part] for part in ("rule", "got", "remedy"))
        case "extra_forbidden":
            known = _fields_at(location[:-1])
            near = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"Did you mean `{near[0]}`? " if near else ""
            rule, got, remedy = f"`{dotted}` is no field", None, f"{hint}Known: {', '.join(known)}"
        case "missing":
            rule, got, remedy = f"`{dotted}` is required", None, f"Add `{location[-1]}:`"
        case "union_tag_invalid":
            rule = f"`{dotted}` is a list, or a mapping with `file`"
        case _:
            rule = f"`{dotted}` {detail['msg'].removeprefix('Input ')}"
    report.tell(location, rule, got, remedy, key=True)


def _fields_at(location: Location) -> list[str]:
    """Returns the fields of the part at a location."""
    part: type[BaseModel] = Manifest
    for name in location:
        if name in part.model_fields:
            part = next(_parts_in(part.model_fields[str(name)].annotation), part)
    return list(part.model_fields)


def _parts_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts_in(inner)
