"""A sweep as runs: which run stands for which trial, and what of it is still to be logged.

The projection can be stopped anywhere and begun anew: it looks up what the server has, and every write is
one that may be repeated.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sweeper.plan.trials import Trial
from sweeper.reporting.view import SweepView
from sweeper.store.objects import ObjectStore
from sweeper.tracking import labels
from sweeper.tracking.artifacts import Bundle, best_state, heat_maps, texts
from sweeper.tracking.points import (
    Logged,
    Point,
    curve_points,
    first_own_start_ms,
    last_measured_ms,
    logged_of,
    settled_summary,
    summary_points,
)

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
_STATUS = {"complete": FINISHED, "pruned": FINISHED, "failed": FAILED}


@dataclass(kw_only=True, slots=True)
class Run:
    """A run as far as the server is known to have it."""

    run_id: str
    status: str
    start_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)
    """Latest value of each metric."""


class RunGone(Exception):
    """Somebody deleted the run."""


class RunServer(Protocol):
    """Holds runs. A method that changes a run changes the `Run` it was handed, too."""

    def find(self, sweep_id: str) -> Iterable[Run]:
        """Returns all runs of a sweep, parent included, the oldest first."""

    def create(self, name: str, tags: Mapping[str, str], start_ms: int) -> Run:
        """Makes a run."""

    def write(
        self, run: Run, *, points: Iterable[Point] = (), params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Adds points, new parameters and tags to a run; tags come last.

        Raises:
            RunGone: the run was deleted.
        """

    def delete(self, run: Run) -> None:
        """Deletes a run; the server keeps it where people can restore it."""

    def drop_tag(self, run: Run, name: str) -> None:
        """Removes a tag."""

    def set_status(self, run: Run, status: str, end_ms: int | None) -> None:
        """Sets a run's status, and when it ended."""

    def store_file(self, run: Run, name: str, data: bytes) -> bool:
        """Stores an artifact; a failure (False) is kept for the end and stops no metric."""


class Projection:
    """Brings the runs of one sweep up to its view."""

    def __init__(self, server: RunServer, store: ObjectStore, sweep_id: str, open_status: str = KILLED) -> None:
        """Remembers where the runs are.

        Args:
            server: holds the runs.
            store: holds the best states.
            sweep_id: identifies the sweep at the server: its name and its store.
            open_status: what `finish` leaves of a run that is not at its end: `RUNNING` where somebody trains it.
        """
        self._server, self._store = server, store
        self._sweep_id = sweep_id
        self._open_status = open_status
        self._runs: dict[str, Run] = {}
        self._logged: dict[str, Logged] = {}

    def start(self, view: SweepView) -> None:
        """Finds or makes the parent run and one run per trial; nobody else may do so at the same time.

        No point of a run can be taken back, so a run whose columns stand for another comparison by now is made anew.
        Of two runs of one trial, which two hosts may have made in the same moment, the older stays.
        """
        found: dict[str, Run] = {}
        for run in self._server.find(self._sweep_id):
            key = run.tags.get(labels.TRIAL_ID, labels.SWEEP_ROLE)
            if key in found or labels.means_something_else(run.tags.get(labels.MEASURES), labels.measures(view)):
                self._server.delete(run)
                continue
            found[key] = run
        parent = self._find_or_create_parent(view, found)
        for trial in sorted(view.trials.values(), key=lambda trial: trial.role != "baseline"):
            self._runs[trial.trial_id] = found.get(trial.trial_id) or self._create(view, trial, parent)
            self._logged.setdefault(trial.trial_id, Logged())
        self._reopen(parent, any(view.status(trial_id) == "open" for trial_id in view.trials))
        for trial in view.trials.values():
            run = self._runs[trial.trial_id]
            self._believe(view, trial)
            self._write(run, tags={labels.PARENT_RUN: parent.run_id})
            self._reopen(run, view.status(trial.trial_id) == "open")
        self.push(view, view.trials)

    def push(self, view: SweepView, trial_ids: Iterable[str]) -> None:
        """Logs what is new of some trials; those that ended get their outcome, when their baseline ends in full.

        A curve is begun with the trial's own first epoch: its trunk part says nothing new before.
        """
        self._admit(view)
        for trial_id in self._with_dependents(view, trial_ids):
            trial = view.trials[trial_id]
            has_ended = view.status(trial_id) != "open"
            if has_ended or trial.stop.start in view.rows(trial_id):
                self._update(view, trial, last_time=has_ended)

    def finish(self, view: SweepView) -> None:
        """Logs what is left of all trials and marks how each ended; draws the heat maps."""
        self._look_again()
        self._admit(view)
        for trial in view.trials.values():
            if trial.trial_id in self._runs:
                self._disbelieve(view, trial)
                self._update(view, trial, last_time=True)
        statuses = {view.status(trial_id) for trial_id in view.trials}
        parent = self._runs[labels.SWEEP_ROLE]
        status = self._open_status if "open" in statuses else FAILED if "failed" in statuses else FINISHED
        times = [ended for trial in view.trials.values() if (ended := last_measured_ms(view, trial)) is not None]
        self._write(parent, tags=self._stored(parent, heat_maps(view)))
        self._end(parent, status, max(times, default=parent.start_ms))

    def _admit(self, view: SweepView) -> None:
        """Makes the runs of trials that came since the start: those of a search's later points."""
        new = (trial for trial in view.trials.values() if trial.trial_id not in self._logged)
        for trial in sorted(new, key=lambda trial: trial.role != "baseline"):
            self._runs[trial.trial_id] = self._create(view, trial, self._runs[labels.SWEEP_ROLE])
            self._logged[trial.trial_id] = Logged()

    def _look_again(self) -> None:
        """Learns what others (a `sync`, a driver) wrote since."""
        known = {run.run_id: run for run in self._runs.values()}
        for run in self._server.find(self._sweep_id):
            if (mine := known.get(run.run_id)) is not None:
                mine.status, mine.tags, mine.params, mine.latest = run.status, run.tags, run.params, run.latest

    def _find_or_create_parent(self, view: SweepView, found: Mapping[str, Run]) -> Run:
        tags = labels.sweep_tags(view)
        parent = found.get(labels.SWEEP_ROLE)
        if parent is None:
            name, start_ms = view.revision.spec.name, int(view.revision.created_at * 1000)
            parent = self._server.create(name, {**tags, labels.SWEEP_ID: self._sweep_id}, start_ms)
        self._runs[labels.SWEEP_ROLE] = parent
        self._write(parent, tags=tags | self._stored(parent, texts({"spec.yaml": view.revision.source})))
        return parent

    def _create(self, view: SweepView, trial: Trial, parent: Run) -> Run:
        own = {labels.SWEEP_ID: self._sweep_id, labels.PARENT_RUN: parent.run_id}
        start_ms = first_own_start_ms(view, trial) or int(time.time() * 1000)
        return self._server.create(labels.run_name(trial), {**self._tags(view, trial), **own}, start_ms)

    def _tags(self, view: SweepView, trial: Trial) -> dict[str, str]:
        trunk = self._runs.get(trial.baseline_id or "")
        return labels.trial_tags(view, trial, None if trunk is None else trunk.run_id)

    def _reopen(self, run: Run, is_open: bool) -> None:
        if is_open and run.status != RUNNING:
            self._server.set_status(run, RUNNING, None)

    def _believe(self, view: SweepView, trial: Trial) -> None:
        """Takes what a run says of itself for granted where the view agrees with it."""
        tags = self._runs[trial.trial_id].tags
        epoch = tags.get(labels.LOGGED_EPOCH, "")
        if epoch.isdigit() and logged_of(view, trial, int(epoch)).digest == tags.get(labels.LOGGED_DIGEST):
            self._logged[trial.trial_id] = Logged(epoch=int(epoch), digest=tags[labels.LOGGED_DIGEST])

    def _disbelieve(self, view: SweepView, trial: Trial) -> None:
        """Forgets what was logged if the view tells more of it by now (an item measured later)."""
        logged = self._logged[trial.trial_id]
        if logged.epoch is not None and logged_of(view, trial, logged.epoch) != logged:
            self._logged[trial.trial_id] = Logged()

    def _with_dependents(self, view: SweepView, trial_ids: Iterable[str]) -> list[str]:
        wanted = dict.fromkeys(trial_ids)
        ended = {i for i in wanted if view.trials[i].role == "baseline" and view.status(i) != "open"}
        if ended:
            wanted |= dict.fromkeys(i for i, trial in view.trials.items() if trial.baseline_id in ended)
        return [trial_id for trial_id in wanted if trial_id in self._runs]

    def _update(self, view: SweepView, trial: Trial, *, last_time: bool) -> None:
        run, before = self._runs[trial.trial_id], self._logged[trial.trial_id]
        summary = settled_summary(view, trial)
        points = list(curve_points(view, trial, after=before.epoch))
        points += [p for p in summary_points(view, trial, summary) if run.latest.get(p.name) != p.value]
        logged = logged_of(view, trial, before=before)
        tags = self._tags(view, trial) | labels.outcome_tags(view, trial, summary)
        if logged.epoch is not None:
            tags |= {labels.LOGGED_EPOCH: str(logged.epoch), labels.LOGGED_DIGEST: logged.digest}
        if last_time:
            tags |= self._stored(run, texts({"config.json": trial.config.model_dump_json(indent=2)}))
            tags |= self._stored(run, best_state(self._store, trial, summary.get("best_epoch"), run.tags))
        try:
            self._write(run, points=points, params=labels.params_of(trial), tags=tags)
            for outdated in (tag for tag in labels.MAY_PASS if tag in run.tags and tag not in tags):
                self._server.drop_tag(run, outdated)
            if last_time:
                ended = last_measured_ms(view, trial)
                self._end(run, _STATUS.get(view.status(trial.trial_id), self._open_status), ended or run.start_ms)
        except RunGone:  # by somebody's will: it comes back when the sweep is resumed or synced
            del self._runs[trial.trial_id]
        self._logged[trial.trial_id] = logged

    def _write(
        self,
        run: Run,
        *,
        points: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str],
    ) -> None:
        """Writes what the run lacks; a parameter that it has is left as it is, since none can be changed."""
        new_tags = {name: value for name, value in tags.items() if run.tags.get(name) != value}
        new_params = {name: value for name, value in (params or {}).items() if name not in run.params}
        points = tuple(points)
        if points or new_params or new_tags:
            self._server.write(run, points=points, params=new_params, tags=new_tags)

    def _end(self, run: Run, status: str, end_ms: int) -> None:
        if run.status != status:
            self._server.set_status(run, status, max(end_ms, run.start_ms))

    def _stored(self, run: Run, bundle: Bundle | None) -> dict[str, str]:
        """Stores files unless their tag says that they are there; returns the tag, nothing where they could not be."""
        if bundle is None:
            return {}
        if run.tags.get(bundle.tag) != bundle.digest:
            for name, data in bundle.files().items():
                if not self._server.store_file(run, name, data):
                    return {}
        return {bundle.tag: bundle.digest}
