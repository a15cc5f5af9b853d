"""The parts of a data manifest: where images, tables, RDMs and trials lie, and how they are to be read."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sweeper.data.readers import Format

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
IDENTIFIER = r"^[A-Za-z][A-Za-z0-9_.-]*$"


def broken(rule: str, got: str | None = None, remedy: str | None = None) -> PydanticCustomError:
    """Makes an error that ends up as a located `Problem`."""
    return PydanticCustomError("manifest", "{rule}", {"rule": rule, "got": got, "remedy": remedy})


def _expand(text: object, info: ValidationInfo) -> Path:
    """Replaces `${VAR}` and `${VAR:-default}`, and makes the path absolute.

    A path is relative to the manifest's folder; one that begins with a set variable is, if relative at all,
    relative to the working directory, as in a shell.
    """
    if isinstance(text, Path):
        return text
    if not isinstance(text, str) or not text.strip():
        raise broken("a path is text", repr(text))
    base = Path((info.context or {}).get("folder", "."))
    head = _VARIABLE.match(text)
    if head is not None and os.environ.get(head[1]):
        base = Path.cwd()
    missing = sorted({m[1] for m in _VARIABLE.finditer(text) if m[2] is None and not os.environ.get(m[1])})
    if missing:
        names = ", ".join(missing)
        raise broken(f"the variable {names} of a path is set", repr(text), f"Set it: export {missing[0]}=/path/to/it")
    expanded = _VARIABLE.sub(lambda m: os.environ.get(m[1]) or m[2] or "", text)
    if "$" in expanded:
        raise broken("variables in a path are written ${NAME} or ${NAME:-default}", repr(text))
    return Path(os.path.abspath(base / os.path.expanduser(expanded)))


DataPath: TypeAlias = Annotated[Path, BeforeValidator(_expand)]


class Part(BaseModel):
    """Refuses unknown fields and changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ArrayRef(Part):
    """Names one array in a file.

    Attributes:
        file: the file.
        key: variable, member or column; may be left out where the file holds one array only.
        format: None takes it from the suffix.
    """

    file: DataPath
    key: str | None = None
    format: Format | None = None


def _row_list_kind(value: object) -> str:
    if isinstance(value, str):
        return "<word>"
    return "<list>" if isinstance(value, list | tuple) else "<file>"


# Image names, or row ids as the target table prints them, in order: a list, or an array in a file. The tags
# (never shown) let an error speak of the form that was meant.
_RowItem: TypeAlias = Annotated[str, Field(strict=True)] | StrictInt
_ListedRows: TypeAlias = Annotated[tuple[_RowItem, ...], Field(min_length=1), Tag("<list>")]
_RowsInFile: TypeAlias = Annotated[ArrayRef, Tag("<file>")]
_ByForm = Discriminator(_row_list_kind)
RowList: TypeAlias = tuple[str | int, ...] | ArrayRef


def _key_list_kind(value: object) -> str:
    return "<word>" if isinstance(value, str) else "<list>"


# A key or column of a file, or a list of names.
_Keys: TypeAlias = Annotated[
    Annotated[str, Tag("<word>")] | Annotated[tuple[str, ...], Tag("<list>")], Discriminator(_key_list_kind)
]


class ImageSource(Part):
    """Names a folder of images, or an array of them.

    Attributes:
        folder: the folder.
        pattern: a file name within it; `{name}` is the row's name in the target table, `{concept}` that name
            without its suffix (`camera1` of `camera1_01b.jpg`). With `*` it lists the folder in sorted order,
            for images that no table names.
        file: an array uint8 [N, H, W, 3].
        key: its key.
        names: the images' names, as a list or as a key of `file`; None takes the target table's.
    """

    folder: DataPath | None = None
    pattern: str = "{name}"
    file: DataPath | None = None
    key: str | None = None
    names: _Keys | None = None

    @field_validator("pattern")
    @classmethod
    def _known_placeholders(cls, pattern: str) -> str:
        unknown = sorted(set(_PLACEHOLDER.findall(pattern)) - {"name", "concept"})
        if unknown:
            raise broken("`pattern` uses {name} and {concept} only", f"{{{unknown[0]}}}")
        if "*" not in pattern and "{" not in pattern:
            raise broken("`pattern` tells the images apart, by {name} or by a *", repr(pattern))
        return pattern

    @model_validator(mode="after")
    def _one_source(self) -> "ImageSource":
        if (self.folder is None) == (self.file is None):
            got = "neither" if self.folder is None else "both"
            raise broken("images come from a `folder` or from an array in a `file`", got)
        if isinstance(self.names, str) and self.file is None:
            raise broken("`names` of a folder's images is a list", repr(self.names))
        return self


class TableSource(Part):
    """Names a target table.

    Attributes:
        file: the file.
        format: `spose-csv` is the lab's own (row id, `image_name`, `0`..`65`) and needs no further fields.
        names: the column or array of image names.
        values: the array [N, D] or the list of columns; None takes every column not named otherwise.
        row_ids: the column or array of row ids.
        dimensions: where the D dimension names are.
    """

    file: DataPath
    format: Format | None = None
    names: str | None = None
    values: _Keys | None = None
    row_ids: str | None = None
    dimensions: ArrayRef | None = None

    @model_validator(mode="after")
    def _columns_fit_format(self) -> "TableSource":
        kind = self.format or self.file.suffix.lower().lstrip(".")
        if kind == "spose-csv" and (self.names or self.values or self.row_ids):
            remedy = "Leave out names, values and row_ids, or use `format: csv`"
            raise broken("`spose-csv` has fixed columns", None, remedy)
        if kind in ("csv", "tsv") and self.names is None:
            raise broken("a CSV of targets says which column holds the image names", None, "Give `names: COLUMN`")
        if kind in ("npz", "mat") and not isinstance(self.values, str):
            raise broken(f"targets in .{kind} name their array", None, "Give `values: KEY`")
        return self


class HeldOutSource(Part):
    """Names the held-out set: a table of its own, rows of the main table, or images without targets.

    Attributes:
        targets: the table of its targets, in the order of its RDMs.
        rows: rows of the main table, which then leave the pool.
        images: where its images are; None takes the main table's source.
    """

    targets: TableSource | None = None
    rows: Annotated[_ListedRows | _RowsInFile, _ByForm] | None = None
    images: ImageSource | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> "HeldOutSource":
        if self.targets is not None and self.rows is not None:
            raise broken(
                "the held-out set is a table of its own or rows of the main table", "both `targets` and `rows`"
            )
        if self.targets is None and self.rows is None and self.images is None:
            remedy = "Leave `held_out` out if there is none"
            raise broken("the held-out set has `targets`, `rows` or `images`", "none", remedy)
        return self


class ReferenceSource(Part):
    """Names a reference RDM.

    Attributes:
        name: what records and metrics call it, e.g. `behavioral48` or `IT`.
        kind: behavioral or neural.
        file: the file; key: the array in it; format: None takes the suffix's.
        rows: which stimulus each row is: `held_out` for the held-out set's own order, a list, or a file.
        select: one entry per leading axis (subject, region, time, ...): a 0-based index, or null to keep it.
        mean_over: leading axes, as stored, to average over.
        nan: `zero` replaces NaN off the diagonal by 0, `refuse` reports it.
        source: where the RDM is from.
    """

    name: Annotated[str, Field(pattern=IDENTIFIER)]
    kind: Literal["behavioral", "neural"]
    file: DataPath
    key: str | None = None
    format: Format | None = None
    rows: Annotated[Annotated[Literal["held_out"], Tag("<word>")] | _ListedRows | _RowsInFile, _ByForm]
    select: tuple[Annotated[int, Field(strict=True, ge=0)] | None, ...] = ()
    mean_over: tuple[Annotated[int, Field(strict=True, ge=0)], ...] = ()
    nan: Literal["refuse", "zero"] = "refuse"
    source: str | None = None

    @field_validator("mean_over", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return (value,) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("name")
    @classmethod
    def _free_name(cls, name: str) -> str:
        if name == "targets":
            raise broken("`targets` is the name of the RDM made from the targets", None, "Choose another name")
        return name


Axis: TypeAlias = Literal["participant", "time", "stimulus"]


class SeriesSource(Part):
    """Names a series of RDMs over time, one for each participant.

    Attributes:
        name: what specs and messages call it, e.g. `meg`.
        kind: neural.
        file: the file; format: None takes the suffix's. A `.npy` is mapped, a `.mat` of version 7.3 is read slice by
            slice, everything else is held in memory.
        key: the array in it; a list names one array for each time.
        axes: what the array's axes are, in its order (MATLAB's for a `.mat`). `participant` or `time` may be absent:
            there is one then. With a list of keys these are the axes of each array, `time` left out.
        start_ms, step_ms: the time axis of the array as stored.
        stop_ms: its last time, to be checked; None checks nothing.
        average: after the first time, this many consecutive ones are averaged into one, which counts as the last of
            them; 1 averages none.
        participants: their names in the array's order; None counts them from 1.
        rows: which stimulus each row is: `row_ids` when the ids of the target table's rows (their positions where
            there are none, or no table) count the RDM's rows from 0; `held_out` for the held-out set's own order; a
            list; or a file.
        normalize: `published` takes NaN as 0, then maps the smallest and largest value over all participants, times and
            pairs to 0 and 1; `none` takes the values as they are.
        source: where the series is from.
    """

    name: Annotated[str, Field(pattern=IDENTIFIER)]
    kind: Literal["neural"] = "neural"
    file: DataPath
    key: _Keys | None = None
    format: Format | None = None
    axes: tuple[Axis, ...] = ("participant", "time", "stimulus", "stimulus")
    start_ms: Annotated[float, Field(allow_inf_nan=False)]
    step_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    stop_ms: Annotated[float, Field(allow_inf_nan=False)] | None = None
    average: Annotated[int, Field(strict=True, ge=1)] = 1
    participants: Annotated[tuple[str | StrictInt, ...], Field(min_length=1)] | None = None
    rows: Annotated[Annotated[Literal["row_ids", "held_out"], Tag("<word>")] | _ListedRows | _RowsInFile, _ByForm]
    normalize: Literal["published", "none"] = "published"
    source: str | None = None

    @field_validator("axes")
    @classmethod
    def _two_of_stimuli(cls, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        if axes.count("stimulus") != 2 or max(axes.count("participant"), axes.count("time")) > 1:
            remedy = "Write for instance [participant, time, stimulus, stimulus]"
            raise broken("`axes` has `stimulus` twice, `participant` and `time` once or not", ", ".join(axes), remedy)
        return axes

    @field_validator("participants")
    @classmethod
    def _unique(cls, names: tuple[str | int, ...] | None) -> tuple[str | int, ...] | None:
        shown = [str(name) for name in names or ()]
        repeated = sorted({name for name in shown if shown.count(name) > 1})
        if repeated:
            raise broken("participants have different names", f"{', '.join(repeated[:5])} more than once")
        return names


class TripletSource(Part):
    """Names human odd-one-out trials.

    Attributes:
        file: the file; format: None takes the suffix's.
        key: the trials, [T, 3] 0-based positions.
        odd: which of the three was chosen as the odd one, [T] of 0, 1, 2.
        rows: what the positions count: the rows of the main table as the file has them, or another list.
    """

    file: DataPath
    format: Format | None = None
    key: str = "triplets"
    odd: str = "odd_position"
    rows: Annotated[Annotated[Literal["targets"], Tag("<word>")] | _ListedRows | _RowsInFile, _ByForm] = "targets"


class GeneratorSource(Part):
    """Asks for the self-made set instead of files.

    Attributes:
        name: which one.
        num_train: pictures in the pool.
        num_test: held-out pictures.
        seed: what the drawings follow from.
        participants: people whose MEG is simulated, as a series named `meg` over all pictures.
    """

    name: Literal["drawings"]
    num_train: Annotated[int, Field(strict=True, ge=1)] = 240
    num_test: Annotated[int, Field(strict=True, ge=3)] = 48
    seed: Annotated[int, Field(strict=True, ge=0)]
    participants: Annotated[int, Field(strict=True, ge=0)] = 0
