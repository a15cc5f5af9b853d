"""A small engine that the tests of tasks, training and execution share: one drawn data set, one feature cache."""

import json
import logging
import math
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

# `make test &` in a script starts us with Ctrl-C ignored, and all that tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

WITH_RAY = (  # the files of each group take a process about as long as those of the other
    ("chaos", "execution/test_jobs", "execution/test_remote_store", "tracking/test_postgres"),
    ("execution/test_ray", "execution/test_autoscaling", "deploy/test_slurm"),
)
LONG = (
    "browser",
    "test_house",
    "test_cli",
    "test_export",
    "contracts",
)


def _place(path: str) -> int:
    """Returns where a file stands among those that are named, behind them where it is not."""
    named = [f"tests/{name}" for name in chain(*WITH_RAY, LONG)]
    return next((at for at, start in enumerate(named) if path.startswith(start)), len(named))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts long files first, so that at the end no process is left alone with one."""
    items.sort(key=lambda item: _place(_file(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives what starts Ray to two of the three processes of `make test`, and else each a file at a time.

    Three Rays at once, each of a dozen processes, are more than two cores can take; one alone waits half the time.
    """
    from xdist.scheduler import LoadScopeScheduling

    class TwoRaysAtMost(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = _file(nodeid)
            groups = (
                f"ray {number}"
                for number, names in enumerate(WITH_RAY)
                if file.startswith(tuple(f"tests/{name}" for name in names))
            )
            return next(groups, file)

    return TwoRaysAtMost(config, log)


MANIFEST = """\
name: small
source: drawn by sweeper.data.synthetic
licence: Apache-2.0
generator: {name: drawings, num_train: 45, num_test: 12, seed: 1}
"""


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested sections with some fields replaced."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if nested else value
    return result


class Watch:
    """A display that keeps what it is shown, and can ask for a stop after some trained epochs."""

    def __init__(self, stop: threading.Event | None = None, stop_after: int | None = None) -> None:
        self.stop_event, self.stop_after = stop, stop_after
        self.epochs: list[Any] = []
        self.notes: list[str] = []

    def phase(self, text: str) -> None:
        """Shows nothing."""

    def features(self, done: int, total: int) -> None:
        """Shows nothing."""

    def start(self, *, epochs: int, trials: int) -> None:
        """Shows nothing."""

    def epoch(self, done: Any, waiting: int) -> None:
        self.epochs.append(done)
        if self.stop_event is not None and len(self.trained) == self.stop_after:
            self.stop_event.set()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def stop(self) -> None:
        """Shows nothing."""

    @property
    def trained(self) -> list[tuple[int, str]]:
        """Epoch and state of everything that was trained, not found."""
        return [(done.epoch, done.state_id) for done in self.epochs if done.seconds is not None and done.epoch > 0]


@dataclass
class Ran:
    """What came of a run, and what it showed on the way."""

    outcome: Any
    watch: Watch
    backends: int
    sweep: Any

    @property
    def status(self) -> str:
        return str(self.outcome.status)

    @property
    def epochs_trained(self) -> int:
        return int(self.outcome.epochs_trained)

    def trial(self, **swept: Any) -> Any:
        """Returns the only trial with these swept fields (last part of their names); none: the baseline."""
        fits = [
            trial
            for trial in self.sweep.trials
            if {name.rsplit(".", 1)[-1]: value for name, value in trial.swept} == swept
            and (swept or not trial.config.perturbation)
        ]
        assert len(fits) == 1, [trial.name for trial in self.sweep.trials]
        return fits[0]


@dataclass
class Engine:
    """Runs small sweeps; every one reads the same frozen features."""

    manifest: Path
    cache: Path | None
    base: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base = {
            "name": "test",
            "data": {"manifest": str(self.manifest)},
            "model": {"backbone": "tiny-clip", "pretrained": "builtin", "adapter": {"rank": 4}},
            "training": {"optimizer": {"name": "adamw", "lr": 0.01}, "batch_size": 16, "max_epochs": 6},
            "stopping": {"rule": "horizon", "horizon_after_window": 2},
            "numerics": {"device": "cpu"},
            "evaluation": {"bootstraps": 3},
        }

    def spec(self, **changes: Any) -> Any:
        from sweeper.spec.load import parse_spec

        return parse_spec(json.dumps(merged(self.base, changes)), "test.yaml")

    def sweep(self, **changes: Any) -> Any:
        from sweeper.execution.prepare import resolve_sweep

        return resolve_sweep(self.spec(**changes), device="cpu")

    def searcher(self, store: Path, **changes: Any) -> Any:
        """Returns what asks for the points of a search, None where the spec has none."""
        from sweeper.execution.prepare import Resolver
        from sweeper.search.batches import Space
        from sweeper.search.searcher import Searcher
        from sweeper.store.local import LocalStore

        spec = self.spec(**changes)
        return None if spec.search is None else Searcher(Space(Resolver(spec, device="cpu")), LocalStore(store))

    def config(self, **changes: Any) -> Any:
        """Returns the first trial's configuration."""
        return self.sweep(**changes).trials[0].config

    def run(
        self,
        store: str | Path,
        backend: Callable[[], Any] | None = None,
        *,
        stop_after: int | None = None,
        sweep: Any = None,
        max_failed: int | None = None,
        gpu: Any = lambda measured: 0.0,
        tracker: Any = None,
        wait: bool = False,
        **changes: Any,
    ) -> Ran:
        from sweeper.driver import Run, run_sweep
        from sweeper.store.opening import open_store
        from sweeper.tracking.base import NullTracker

        made: list[Any] = []

        def make() -> Any:
            made.append((backend or local_backend)())
            return made[-1]

        stop = threading.Event()
        watch = Watch(stop, stop_after)
        searcher = None if sweep is not None else self.searcher(store, **changes)
        sweep = sweep or (self.sweep(**changes) if searcher is None else searcher.asked_before)
        run = Run(
            sweep=sweep,
            source="test",
            store=open_store(store),
            cache=self.cache,
            backend=make,
            gpu=gpu,
            tracker=tracker or NullTracker(),
            wait=wait,
            progress=watch,
            stop=stop,
            max_failed=max_failed,
            searcher=searcher,
        )
        return Ran(outcome=run_sweep(run), watch=watch, backends=len(made), sweep=sweep)

    def task(self, **changes: Any) -> Any:
        """Returns a prepared task."""
        from sweeper.data.features import FeatureCache
        from sweeper.store.local import LocalStore
        from sweeper.tasks import prepare
        from sweeper.tasks.base import Workbench

        sweep = self.sweep(**changes)
        workbench = Workbench(
            cache=FeatureCache(self.cache or self.manifest.with_name("features")),
            store=LocalStore(self.manifest.with_name("store")),
            device="cpu",
        )
        return prepare(sweep.trials[0].config, sweep.spec.evaluation, workbench)

    def regime(self, *perturbations: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        """Returns what holds in an epoch in which some perturbations act."""
        from sweeper.plan.lineage import ground_of

        sweep = self.sweep(**changes)
        trial = sweep.trials[0]
        windows = self.config(**merged(changes, {"perturbation": list(perturbations)})).perturbation
        acting = [window.regime(trial.config.seeds.noise) for window in windows]
        return {**ground_of(trial.config, trial.inputs).regime.fields, "perturbation": acting or None}


def local_backend() -> Any:
    from sweeper.execution.local import LocalBackend

    return LocalBackend()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A small data set and a feature cache, made once for all tests of a process."""
    import torch

    folder = tmp_path_factory.mktemp("engine")
    (folder / "small.yaml").write_text(MANIFEST)
    torch.set_num_threads(1)
    return Engine(manifest=folder / "small.yaml", cache=folder / "features")


@pytest.fixture(scope="session")
def meg_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The same for CLIP-HBA-MEG: three simulated participants over the small data set's pictures."""
    import torch

    folder = tmp_path_factory.mktemp("meg_engine")
    (folder / "small.yaml").write_text(MANIFEST.replace("seed: 1}", "seed: 1, participants: 3}"))
    torch.set_num_threads(1)
    engine = Engine(manifest=folder / "small.yaml", cache=folder / "features")
    engine.base["model"] = {
        "variant": "clip-hba-meg",
        "backbone": "tiny-clip",
        "pretrained": "builtin",
        "adapter": {"rank": 2, "vision_layers": 2},
        "stages": {"switch": "epochs", "epochs": 2, "patience": 3, "lr_layers": 0.03},
    }
    return engine


def state_bits_of(store: str | Path) -> dict[str, str]:
    """Returns the hash of every state of a store by id."""
    from sweeper.store.opening import open_store
    from sweeper.tasks.state import state_bits

    objects = open_store(store)
    return {key: state_bits(objects.get("states", key) or b"") for key in objects.keys("states")}


def record_values_of(store: str | Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the values of every record of a store, by state and item."""
    from sweeper.store.opening import open_store
    from sweeper.store.rows import iterate_records

    found = (record for _, records in iterate_records(open_store(store), set()) for record in records)
    return {(record.state_id, record.item): dict(record.values) for record in found}


@dataclass(frozen=True)
class Reading:
    """Reads stores for comparison."""

    states: Callable[[str | Path], dict[str, str]] = state_bits_of
    records: Callable[[str | Path], dict[tuple[str, str], dict[str, Any]]] = record_values_of

    def same(self, undisturbed: str | Path, store: str | Path) -> bool:
        """Tells whether a store holds the records of an undisturbed one and its states, bit for bit.

        It may hold states besides: on a slow machine one is saved every ten seconds.
        """
        states, found = self.states(undisturbed), self.states(store)
        same_states = states == {key: found.get(key) for key in states}
        return same_states and self.records(undisturbed) == self.records(store)


@pytest.fixture(scope="session")
def reading() -> Reading:
    return Reading()


@pytest.fixture(scope="session")
def grid_axes() -> dict[str, Any]:
    """Two starts by two lengths: 4 trials and their baseline."""
    return {
        "perturbation": {"kind": "random_target"},
        "axes": {"perturbation.start": [2, 4], "perturbation.length": [1, 2]},
    }


@pytest.fixture(scope="session")
def grid(engine: Engine, tmp_path_factory: pytest.TempPathFactory, grid_axes: dict[str, Any]) -> Path:
    """The store of the small grid, run undisturbed in this process: what every disturbed run must equal."""
    store = tmp_path_factory.mktemp("grid") / "store"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sweeper.training.keeping.SAVE_EVERY_S", math.inf)  # what lasts, however slow the machine is
        ran = engine.run(store, **grid_axes)
    assert ran.status == "done"
    return store


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server of this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for each request
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a store that is not there yet, in a bucket that is; the environment names the server."""
    from urllib.request import Request, urlopen

    for variable, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SWEEPER_STATE": str(tmp_path / "state"),
        "SWEEPER_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with urlopen(Request(f"{s3_server}/lab", method="PUT"), timeout=30):
        return f"s3://lab/{uuid.uuid4().hex}"
