"""The data manifest: a YAML file that says where a lab's images, targets and reference RDMs are.

Loading checks the manifest itself, all problems at once, each at its `file:line:column`. Whether the files
it names exist and fit together is checked by `open_dataset` and `verify_manifest`.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from sweeper.data.fields import (
    IDENTIFIER,
    GeneratorSource,
    HeldOutSource,
    ImageSource,
    Part,
    ReferenceSource,
    TableSource,
    TripletSource,
    broken,
)
from sweeper.data.located_yaml import Location, load_document, place
from sweeper.errors import DataError, Problem

Relabel: TypeAlias = Literal["none", "things-uniqueid"]


class Manifest(Part):
    """Says what a data set is made of, and where that lies.

    Attributes:
        name: short name, for notes and tables.
        source, licence: free text, for the people who use the set next.
        images: the pool's images.
        targets: the pool's targets; images and targets come together.
        held_out: the stimuli that are never trained on; None if there are none, or if folds are used.
        references: RDMs to compare with.
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
    triplets: TripletSource | None = None
    generator: GeneratorSource | None = None
    relabel: Relabel = "things-uniqueid"

    _file: str = PrivateAttr(default="manifest")
    _places: dict[Location, tuple[int, int]] = PrivateAttr(default_factory=dict)

    def where(self, *location: str | int) -> str:
        """Returns `file:line:column` of a field, for errors that appear when its files are read."""
        return place(self._file, self._places, location)

    @field_validator("references")
    @classmethod
    def _unique_names(cls, references: tuple[ReferenceSource, ...]) -> tuple[ReferenceSource, ...]:
        names = [reference.name for reference in references]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise broken("reference names are unique", f"{', '.join(repeated)} more than once")
        return references

    @model_validator(mode="after")
    def _parts_fit(self) -> "Manifest":
        parts = ("images", "targets", "held_out", "references", "triplets")
        given = [part for part in parts if getattr(self, part)]
        if self.generator is not None and given:
            raise broken("a `generator` makes everything itself", f"also {', '.join(given)}", "Leave one of them out")
        if self.generator is None:
            self._files_fit()
        return self

    def _files_fit(self) -> None:
        if self.targets is None and self.held_out is None:
            remedy = "Give `images` and `targets`, `held_out` with images, or a `generator`"
            raise broken("a manifest names a pool or a held-out set", "neither", remedy)
        if (self.targets is None) != (self.images is None):
            remedy = "Images without targets are an evaluation set: put them under `held_out`"
            raise broken("`images` and `targets` come together", "one of them", remedy)
        held_out = self.held_out
        if held_out is not None and self.targets is None and (held_out.rows is not None or held_out.images is None):
            raise broken("without `targets`, `held_out` has its own `images` and no `rows`")
        if held_out is None and any(reference.rows == "held_out" for reference in self.references):
            raise broken("`rows: held_out` needs a `held_out` set", None, "Name the rows of the reference instead")
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
    document = load_document(path)
    if not isinstance(document.data, Mapping):
        got = "an empty file" if document.data is None else type(document.data).__name__
        raise DataError(Problem(where=document.where(()), rule="a manifest is a mapping of fields", got=got))
    try:
        manifest = Manifest.model_validate(document.data, context={"folder": document.path.parent})
    except ValidationError as error:
        problems = [_problem(detail, document.where(detail["loc"])) for detail in error.errors(include_url=False)]
        raise DataError(sorted(problems, key=lambda problem: _line_and_column(problem.where))) from None
    manifest._file = str(document.path)
    manifest._places = dict(document.places)
    return manifest


def _line_and_column(where: str) -> tuple[int, ...]:
    return tuple(map(int, where.rsplit(":", 2)[1:]))


def _problem(detail: ErrorDetails, where: str) -> Problem:
    """Says what pydantic found in the words of this project."""
    location = tuple(part for part in detail["loc"] if not str(part).startswith("<"))
    dotted = ".".join(str(part) for part in location)
    context = detail.get("ctx", {})
    if detail["type"] == "manifest":
        return Problem(where=where, rule=context["rule"], got=context["got"], remedy=context["remedy"])
    if detail["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"Did you mean `{near[0]}`? " if near else ""
        return Problem(where=where, rule=f"`{dotted}` is no field", remedy=f"{hint}Known: {', '.join(known)}")
    if detail["type"] == "missing":
        return Problem(where=where, rule=f"`{dotted}` is required", remedy=f"Add `{location[-1]}:`")
    if detail["type"] == "union_tag_invalid":
        return Problem(where=where, rule=f"`{dotted}` is a list, or a mapping with `file`", got=repr(detail["input"]))
    got = repr(detail["input"])
    message = detail["msg"].removeprefix("Input ")
    return Problem(where=where, rule=f"`{dotted}` {message}", got=got if len(got) < 80 else got[:77] + "...")


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
