"""From a comparison to a verdict: what the spec itself chooses otherwise, and what goes wrong by itself."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeper.data.parts import Parts
from sweeper.doctor.published import NUM_POOL, NetworkFigures
from sweeper.doctor.report import Row, Verdict
from sweeper.spec.schema import DataConfig, TrialConfig
from sweeper.spec.variants import AnyModel

_THINGS_IMAGE = re.compile(r"_\d\d[bs]\.jpe?g$")
_PUBLISHED_ADAPTER = {"rank": 32, "alpha": 16.0, "vision_layers": 2, "text_layers": 1, "dora": "published"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Says why a figure may differ, and what to do."""

    text: str
    remedy: str | None = None


OTHER_TABLE = Cause(
    text="another table, or another part of it, than the study's",
    remedy="Use spose_embedding66d_rescaled_1806train.csv and spose_embedding66d_rescaled_48val_reordered.csv",
)
UNKNOWN = Cause(text="none of the known ones", remedy="Compare versions and files with those of the study")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """Describes one comparison, before its verdict.

    Attributes:
        name, expected, found: as in `Row`.
        holds: whether they agree.
        inapplicable: why there is nothing to expect, or None.
        chosen: what the spec chooses otherwise than the study and may explain a difference.
        likely: the cause where the spec chooses nothing otherwise.
    """

    name: str
    expected: str
    found: str
    holds: bool
    inapplicable: str | None = None
    chosen: Sequence[Cause] = ()
    likely: Cause = UNKNOWN


def judge(figure: Figure) -> Row:
    """Returns the row of a comparison."""
    if figure.inapplicable is not None:
        return _row(figure, "not applicable", Cause(text=figure.inapplicable))
    if figure.holds:
        return _row(figure, "ok", None)
    if figure.chosen:
        texts = dict.fromkeys(cause.text for cause in figure.chosen)
        remedies = dict.fromkeys(cause.remedy for cause in figure.chosen if cause.remedy)
        return _row(figure, "deviates", Cause(text="; ".join(texts), remedy=". ".join(remedies) or None))
    return _row(figure, "failed", figure.likely)


def _row(figure: Figure, verdict: Verdict, cause: Cause | None) -> Row:
    return Row(
        name=figure.name,
        expected=figure.expected,
        found=figure.found,
        verdict=verdict,
        cause=None if cause is None else cause.text,
        remedy=None if cause is None else cause.remedy,
    )


def why_inapplicable(*, is_stand_in: bool, is_generated: bool, parts: Parts) -> str | None:
    """Returns why the published figures say nothing about this data set; None where it means to be THINGS."""
    if is_stand_in:
        return "stand-in: published figures do not apply"
    if is_generated:
        return "self-made pictures: published figures do not apply"
    table = parts.held_out_table if parts.pool_table is None else parts.pool_table
    if table is None:
        return "no table of targets could be read: nothing to compare"
    names = table.names
    like_things = sum(_THINGS_IMAGE.search(name) is not None for name in names)
    if len(names) != NUM_POOL and 2 * like_things <= len(names):
        return "the manifest's images are not those of THINGS: published figures do not apply"
    return None


def relabel_choice(data: DataConfig) -> tuple[Cause, ...]:
    """Returns the choice that changes target rows."""
    if data.relabel == "none":
        return ()
    text = "relabel: things-uniqueid repairs the 21 mislabelled rows"
    return (Cause(text=text, remedy="Set data.relabel: none to repeat the published study"),)


def part_choices(data: DataConfig) -> tuple[Cause, ...]:
    """Returns the choices that take another part of the pool."""
    chosen = []
    if data.folds is not None:
        chosen.append(Cause(text=f"folds: {data.folds} instead of the published split"))
    if data.train_size is not None:
        chosen.append(Cause(text=f"train_size: {data.train_size} of the pool"))
    if data.train_fraction != 0.8:
        chosen.append(Cause(text=f"train_fraction: {data.train_fraction}, published 0.8"))
    return tuple(chosen)


def split_choices(config: TrialConfig) -> tuple[Cause, ...]:
    """Returns the choices that draw another split."""
    chosen = list(part_choices(config.data))
    if config.data.split != "published":
        chosen.append(Cause(text=f"split: {config.data.split}", remedy="Set data.split: published"))
    if config.seeds.split != 1:
        chosen.append(Cause(text=f"seeds.split {config.seeds.split}: the figures are of seed 1"))
    return tuple(chosen)


def order_choices(config: TrialConfig) -> tuple[Cause, ...]:
    """Returns the choices that draw another first batch."""
    chosen = list(split_choices(config))
    if config.training.order != "published":
        chosen.append(Cause(text=f"order: {config.training.order}", remedy="Set training.order: published"))
    if config.seeds.order != 1:
        chosen.append(Cause(text=f"seeds.order {config.seeds.order}: the figures are of seed 1"))
    return tuple(chosen)


def preprocessing_choice(data: DataConfig) -> tuple[Cause, ...]:
    """Returns the choice that changes pixels."""
    if data.preprocessing == "things":
        return ()
    text = "CLIP's image constants (preprocessing: clip) instead of those of THINGS"
    return (Cause(text=text, remedy="Set data.preprocessing: things"),)


def backbone_choice(model: AnyModel, figures: NetworkFigures) -> tuple[Cause, ...]:
    """Returns the choice of another network; a local file counts as the published weights until its numbers differ."""
    is_file = os.sep in model.pretrained or bool(Path(model.pretrained).suffix)
    same = model.backbone.removesuffix("-quickgelu") == figures.backbone
    if same and (is_file or model.pretrained == figures.pretrained):
        return ()
    text = f"other backbone: {model.backbone} {model.pretrained}, published {figures.backbone} {figures.pretrained}"
    return (Cause(text=text, remedy=f"Set model.backbone: {figures.backbone}, model.pretrained: {figures.pretrained}"),)


def adapter_choice(model: AnyModel) -> tuple[Cause, ...]:
    """Returns the choice of other adapters; their start is not part of it."""
    given = model.adapter.model_dump()
    other = [
        f"{key} {given[key]} (published {value})" for key, value in _PUBLISHED_ADAPTER.items() if given[key] != value
    ]
    return (Cause(text=f"other adapters: {', '.join(other)}", remedy="Leave model.adapter out"),) if other else ()
