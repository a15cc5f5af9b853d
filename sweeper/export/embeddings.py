"""Stored held-out outputs of a state as arrays with names."""

from pathlib import Path
from typing import Literal

import numpy as np
from sweeper_models.prompts import PROMPTS

from sweeper.errors import Problem, StoreError, SweeperError
from sweeper.evaluation import OutputKey, set_id
from sweeper.export.choice import Chosen
from sweeper.inputs import held_out_sets
from sweeper.spec.schema import Evaluation
from sweeper.store.objects import ObjectStore
from sweeper.store.outputs import read_outputs

Format = Literal["npz", "parquet"]


def write_embeddings(
    store: ObjectStore, chosen: Chosen, evaluation: Evaluation, format_: Format, folder: Path
) -> tuple[str, ...]:
    """Writes one file per held-out set and layer, `<set>.<layer>.<format>`, with image and dimension names.

    Returns:
        The names of the files.

    Raises:
        DataError: the data's files, which have the names, are not here.
        StoreError: the store has no outputs of this state on the sets as they are here.
    """
    config = chosen.trial.config
    files = []
    for name, held_out in held_out_sets(config, evaluation).items():
        for layer in evaluation.layers:
            key = OutputKey(set_id=set_id(held_out, config.data.preprocessing), layer=layer)
            outputs = read_outputs(store, chosen.state_id, key)
            if outputs is None:
                raise _not_there(chosen, name, layer)
            columns = PROMPTS if layer == "output" else tuple(map(str, range(outputs.shape[1])))
            file = folder / f"{name}.{layer}.{format_}"
            over_time = held_out.over_time
            if format_ == "npz":
                rows = np.array(held_out.images.names)
                arrays = {"outputs": outputs, "names": rows, "dimensions": np.array(columns)}
                arrays |= {} if over_time is None else {"times_ms": over_time.times_ms}
                np.savez(file, allow_pickle=False, **arrays)
            elif over_time is not None:
                rule, remedy = "outputs over time are written as an array", "Use --format npz"
                raise SweeperError(Problem(where="--format", rule=rule, got=format_, remedy=remedy))
            else:
                import pandas as pd

                index = pd.Index(held_out.images.names, name="name")
                pd.DataFrame(outputs, index=index, columns=list(columns)).to_parquet(file)
            files.append(file.name)
    return tuple(files)


def _not_there(chosen: Chosen, name: str, layer: str) -> StoreError:
    rule = "the store has the outputs of this state on the held-out images as they are on this machine"
    got = f"none for set {name}, layer {layer}, epoch {chosen.epoch}"
    remedy = "Put the images back as they were when the sweep ran, or run it again: it measures what is missing"
    return StoreError(Problem(where=chosen.trial.config.data.manifest, rule=rule, got=got, remedy=remedy))
