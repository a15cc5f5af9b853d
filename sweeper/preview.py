"""What a run would do: the plan of a spec behind what its store holds. Nothing is written."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from sweeper.addresses import cluster_address
from sweeper.execution.devices import find_device
from sweeper.execution.doubts import doubts
from sweeper.execution.prepare import ResolvedSweep, Resolver
from sweeper.execution.reuse import changed_since, measurable_losses, read_failures
from sweeper.plan.estimate import PlanSummary, summarize_plan
from sweeper.plan.stock import Known, StockTaker
from sweeper.sizes import disk_of
from sweeper.spec.axes import expand
from sweeper.specs import find_spec
from sweeper.store.given import given_to_come
from sweeper.store.ledger import DamagedLedger, Ledger, ledger_path
from sweeper.store.lost import lost_states
from sweeper.store.objects import ObjectStore
from sweeper.store.opening import find_store
from sweeper.store.parents import require_parents
from sweeper.store.points import read_points


def make_plan(spec_path: Path, store_path: str | Path, *, stand_in: bool, address: str | None = None) -> PlanSummary:
    """Returns what a run would do; writes nothing.

    Args:
        spec_path: the spec's file, or a sweep of the store.
        store_path: the store.
        stand_in: as for a run.
        address: Ray address; default: the spec's, else RAY_ADDRESS.

    Raises:
        SweeperError: the spec or the data does not allow a run.
    """
    named = find_spec(spec_path, store_path, stand_in=stand_in)
    device = find_device("ray", cluster_address(address, named.spec))
    store = find_store(store_path)
    with named.located():
        resolver = Resolver(named.spec, device=device.kind, device_model=device.model)
        is_search = named.spec.search is not None
        planned = _search_plan(resolver, store) if is_search else _plan(resolver.resolve(expand(named.spec)), store)
    return replace(planned, first=(*(f"note: {line}" for line in named.notes), *planned.first))


def _search_plan(resolver: Resolver, store: ObjectStore | None) -> PlanSummary:
    """Returns the plan of the points that were asked, with the most that can come."""
    from sweeper.search.batches import Space
    from sweeper.search.forecast import with_points_to_come

    space = Space(resolver)
    asked = () if store is None else read_points(store, space.study_id)
    planned = _plan(space.sweep_of(asked), store, doubted=space.corners)
    return with_points_to_come(planned, space, len(asked))


def _plan(sweep: ResolvedSweep, store: ObjectStore | None, doubted: ResolvedSweep | None = None) -> PlanSummary:
    first = given_to_come(store, sweep.trials, sweep.sources)
    require_parents(store, sweep.trials, sweep.sources)
    first += tuple(f"note: {line}" for line in doubts(doubted or sweep, store))
    return replace(_fresh_plan(sweep) if store is None else _plan_behind(sweep, store), first=first)


def _fresh_plan(sweep: ResolvedSweep) -> PlanSummary:
    return _summary(sweep, {}, Known(val_loss={}, failed=frozenset(), has_state=lambda state: False), [])


def _plan_behind(sweep: ResolvedSweep, store: ObjectStore) -> PlanSummary:
    """Returns the plan of what a store does not hold yet."""
    with readable_ledger(store) as ledger:
        lost = lost_states(store)
        measurable = measurable_losses(sweep, ledger, store)
        losses = {state: loss for state, loss in measurable.items() if state not in lost}
        recorded = ledger.val_losses()
        seconds = [row.seconds for row in ledger.records(sweep.items_by_state) if row.seconds is not None]
    known = Known(
        val_loss=losses,
        failed=read_failures(store, sweep.items_by_state).keys(),
        has_state=set(store.keys("states")).__contains__,
        partly={state: loss for state, loss in recorded.items() if state not in losses},
    )
    changed = None if sweep.spec.search is not None else changed_since(store, sweep, recorded)
    return replace(_summary(sweep, recorded, known, seconds), changed=changed)


def _summary(
    sweep: ResolvedSweep, recorded: Mapping[str, float], known: Known, seconds: Iterable[float]
) -> PlanSummary:
    stock = StockTaker(sweep.trials, sweep.tree, known).stock
    rungs = sweep.spec.search.rungs if sweep.spec.search is not None else ()
    disk = disk_of(sweep.trials, sweep.tree, sweep.spec.evaluation, len(rungs))
    plan = summarize_plan(sweep.trials, sweep.tree, stock, recorded, seconds, sweep.spec.name, disk)
    return replace(plan, merged=sweep.merged)


@contextmanager
def readable_ledger(store: ObjectStore) -> Iterator[Ledger]:
    """Opens a store's ledger for reading; where there is none, or it is damaged, an index in memory takes its place."""
    with ExitStack() as opened:
        try:
            ledger = opened.enter_context(closing(Ledger(ledger_path(store), read_only=True)))
            ledger.verify()
        except (FileNotFoundError, DamagedLedger):
            ledger = opened.enter_context(closing(Ledger(None)))
            ledger.catch_up(store)
        yield ledger
