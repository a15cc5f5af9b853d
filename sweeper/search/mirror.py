"""The search in an Optuna storage, for Optuna's dashboard: a view that may be deleted at any time."""

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

from sweeper.errors import Problem, StoreError
from sweeper.notices import notice
from sweeper.search.samplers import quietly
from sweeper.search.study import directions_of
from sweeper.spec.search import Search
from sweeper.store.objects import ObjectStore

FILE = "optuna.db"


class Mirror:
    """Brings an Optuna storage up to what was told."""

    def __init__(self, store: ObjectStore, search: Search, name: str, study_id: str) -> None:
        """Opens the storage.

        Args:
            store: beside whose ledger the default storage lies.
            search: names another storage, perhaps.
            name: of the sweep.
            study_id: with the name, what the storage calls the study.

        Raises:
            StoreError: there is no storage.
        """
        url = search.storage or f"sqlite:///{store.local_folder / FILE}"
        try:
            with quietly():
                self._study = optuna.create_study(
                    storage=url,
                    study_name=f"{name} {study_id[:8]}",
                    directions=directions_of(search),
                    load_if_exists=True,
                )
                self._study.set_metric_names([objective.metric for objective in search.objectives])
        except Exception as error:  # whatever a database and its driver raise
            got = (str(error).strip().splitlines() or [type(error).__name__])[0]
            remedy = "Give search.storage a URL that Optuna knows, or leave it out for a file beside the ledger"
            problem = Problem(where="search.storage", rule="an Optuna storage answers there", got=got, remedy=remedy)
            raise StoreError(problem) from error
        self._known = len(self._study.get_trials(deepcopy=False))
        self._is_broken = False

    def show(self, ended: Sequence[FrozenTrial]) -> None:
        """Adds what the storage lacks; where it no longer can, says so once, and the search goes on."""
        if self._is_broken:
            return
        try:
            with quietly():
                for trial in ended[self._known :]:
                    self._study.add_trial(trial)
                    self._known += 1
        except Exception as error:
            self._is_broken = True
            notice(f"the Optuna storage is behind, the search is not affected: {type(error).__name__}: {error}")
