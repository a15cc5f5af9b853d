"""`sweeper export`: one state of one trial into a folder, whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweeper_models.prompts import PROMPTS
from sweeper_models.weights import HUB_WEIGHTS

from sweeper.errors import ModelError, Problem, SweeperError
from sweeper.export.choice import Chosen, StateName, choose
from sweeper.export.embeddings import Format, write_embeddings
from sweeper.export.readme import readme
from sweeper.inputs import preprocessing_of, weights_of
from sweeper.reporting.load import open_view
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore, name_of
from sweeper.store.opening import open_store

What = Literal["adapter", "merged", "embeddings"]
ABOUT, README = "export.json", "README.txt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is exported, and where to.

    Attributes:
        store: its address.
        trial: a trial's id, or a beginning that only it has.
        epoch, state: see `choose`.
        what: `adapter`, `merged` or `embeddings`.
        out: folder, made if need be.
        format_: of embeddings.
        force: replace files that are there.
    """

    store: str | Path
    trial: str
    out: Path
    what: What = "adapter"
    epoch: int | None = None
    state: StateName | None = None
    format_: Format | None = None
    force: bool = False


def export_state(sweep: str, wanted: Wanted) -> dict[str, Any]:
    """Writes an export and returns what it is: the row that `sweeper export --json` prints.

    Raises:
        SweeperError: the state cannot be had, or the folder not be written.
    """
    store = open_store(wanted.store, create=False)
    view = open_view(store, sweep)
    embeddings = wanted.what == "embeddings"
    if wanted.format_ is not None and not embeddings:
        rule, remedy = "a format belongs to --what embeddings", "Leave it out"
        raise SweeperError(Problem(where="--format", rule=rule, got=f"--what {wanted.what}", remedy=remedy))
    chosen = choose(
        view,
        wanted.trial,
        epoch=wanted.epoch,
        state=wanted.state,
        has=lambda state_id: embeddings or store.has("states", state_id),
    )
    if chosen.trial.config.model.over_time and not embeddings:
        rule, got = "only models whose outputs have no time axis can be written for peft and open_clip", "a MEG trial"
        raise SweeperError(Problem(where="--what", rule=rule, got=got, remedy="Use --what embeddings"))
    about = _about(view, chosen, wanted.what)
    with _new_files(wanted.out, force=wanted.force) as folder:
        if embeddings:
            files = write_embeddings(store, chosen, view.revision.spec.evaluation, wanted.format_ or "npz", folder)
        else:
            files = ()
            _write_network(store, chosen, about, folder)
        _write_json(folder, about)
        (folder / README).write_text(readme(about, files), encoding="utf-8")
        names = sorted(path.name for path in folder.iterdir())
    told = {name: value for name, value in about.items() if name not in ("tokens", "dimensions")}
    return {**told, "out": str(wanted.out), "files": names}


def _about(view: SweepView, chosen: Chosen, what: What) -> dict[str, Any]:
    trial, found = chosen.trial, dict(chosen.trial.inputs.model)
    pretrained = trial.config.model.pretrained
    repository, _ = HUB_WEIGHTS.get((found["config"], pretrained), (None, None))
    weights = {"pretrained": pretrained, "repository": repository, "path": None, "sha256": found["weights"]}
    return {
        "what": what,
        "sweep": view.revision.spec.name,
        "stand_in": view.revision.spec.stand_in,
        "trial_id": trial.trial_id,
        "trial": trial.name,
        "role": trial.role,
        "epoch": chosen.epoch,
        "state_id": chosen.state_id,
        "val_loss": chosen.val_loss,
        "best_epoch": chosen.best_epoch,
        "best_val_loss": chosen.best_val_loss,
        "backbone": found["config"],
        "activation": found["activation"],
        "weights": weights,
        "adapter": trial.config.model.adapter.model_dump(mode="json"),
        "dimensions": list(PROMPTS),
    }


def _write_network(store: ObjectStore, chosen: Chosen, about: dict[str, Any], folder: Path) -> None:
    from sweeper.export import loading
    from sweeper.export.network import Trained

    config, weights = chosen.trial.config, weights_of(chosen.trial.config.model)
    if (weights.sha256, weights.activation) != (about["weights"]["sha256"], about["activation"]):
        rule, got = "the weights are those of the training", f"{weights.path}, sha256 {weights.sha256}"
        remedy = f"Put back the file with sha256 {about['weights']['sha256']}"
        raise ModelError(Problem(where="model.pretrained", rule=rule, got=got, remedy=remedy))
    state = store.get("states", chosen.state_id)
    if state is None:
        rule = "the state's bytes are as they were written"
        remedy = f"`sweeper run {about['sweep']}` makes best and last states again; or choose another epoch"
        raise SweeperError(
            Problem(where=f"{store.address}/{name_of('states', chosen.state_id)}", rule=rule, remedy=remedy)
        )
    trained, constants = Trained(config, weights, state), preprocessing_of(config.data)
    about["weights"]["path"] = None if weights.path is None else str(weights.path.absolute())
    about["preprocessing"] = {
        "size": trained.backbone.image_size,
        "mean": list(constants.mean),
        "std": list(constants.std),
        "resize": constants.resize,
    }
    about["tokens"] = trained.tokens
    adapter = about["what"] == "adapter"
    if adapter:
        trained.write_adapter(folder)
    else:
        trained.write_merged(folder)
    block_type = "custom" if adapter else "default"
    trained.write_config(folder, block_type=block_type, preprocessing=about["preprocessing"])
    shutil.copyfile(loading.__file__, folder / "load.py")
    _write_json(folder, about)
    about["largest_difference"] = trained.largest_difference(folder)


def _write_json(folder: Path, about: dict[str, Any]) -> None:
    (folder / ABOUT).write_text(f"{json.dumps(about, indent=1, allow_nan=False)}\n", encoding="utf-8")


@contextmanager
def _new_files(out: Path, *, force: bool) -> Iterator[Path]:
    """Gives a folder to write into, whose files appear in `out` once all are there.

    Raises:
        SweeperError: files of these names are there already, or `out` cannot be written.
    """
    _refuse([ABOUT, README], out, force)
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    except OSError as error:
        rule, remedy = "the folder can be written", "Choose another folder"
        raise SweeperError(Problem(where=f"--out {out}", rule=rule, got=error.strerror, remedy=remedy)) from error
    try:
        yield folder
        names = [path.name for path in folder.iterdir()]
        _refuse(names, out, force)
        for name in names:
            os.replace(folder / name, out / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed and not any(out.iterdir()):
            out.rmdir()


def _refuse(names: list[str], out: Path, force: bool) -> None:
    there = sorted(name for name in names if (out / name).exists())
    if there and not force:
        rule, remedy = "no file is replaced unasked", "Choose another folder, or add --force"
        raise SweeperError(Problem(where=f"--out {out}", rule=rule, got=", ".join(there), remedy=remedy))
