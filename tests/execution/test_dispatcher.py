"""The dispatcher on made-up curves: nothing is trained, everything is handed out once, parents first."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.execution.dispatcher import Dispatcher
from sweeper.plan.lineage import Inputs
from sweeper.plan.tree import build_tree
from sweeper.plan.trials import Trial, resolve
from sweeper.records import TRAINING_ITEM, Failure, Record
from sweeper.spec.schema import Evaluation, TrialConfig
from sweeper.training.events import EpochDone, ParentMissing, SegmentFailed
from sweeper.training.order import Order

INPUTS = Inputs(data="pool", model=(("weights", "w"),), device="cpu")
VP = {"rule": "vp", "patience": 2}
Curve = Callable[[str, int], float]


def grid(starts: Iterable[int], lengths: Iterable[int], stopping: Mapping[str, Any] | None = None) -> tuple[Trial, ...]:
    cells = [(start, length) for start in starts for length in lengths]
    return resolve(
        [((("perturbation.start", s), ("perturbation.length", n)), config(s, n, stopping)) for s, n in cells],
        lambda _: INPUTS,
    )


def config(start: int, length: int, stopping: Mapping[str, Any] | None) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"manifest": "m.yaml"},
            "model": {},
            "training": {"max_epochs": 12},
            "stopping": stopping or {"horizon_after_window": 4},
            "perturbation": {"kind": "random_target", "start": start, "length": length},
        }
    )


def falling(state_id: str, epoch: int) -> float:
    return 100.0 - epoch


class World:
    """A store and its workers, made up: curves are a function of state and epoch."""

    def __init__(self, trials: tuple[Trial, ...], curve: Curve = falling) -> None:
        self.trials, self.curve = trials, curve
        self.states: set[str] = set()
        self.losses: dict[str, float] = {}
        self.failures: dict[str, Failure] = {}
        self.trained: list[str] = []
        self.dispatcher = self.open()

    def open(self) -> Dispatcher:
        """Returns the dispatcher of a new run."""
        self.dispatcher = Dispatcher(
            trials=self.trials,
            tree=build_tree(self.trials),
            evaluation=Evaluation(),
            val_loss=self.losses,
            failures=self.failures,
            has_state=self.states.__contains__,
        )
        return self.dispatcher

    def trial(self, start: int, length: int = 1) -> Trial:
        wanted = (("perturbation.start", start), ("perturbation.length", length))
        return next(t for t in self.trials if t.swept == wanted)

    @property
    def baseline(self) -> Trial:
        return self.trials[-1]

    def status(self, trial: Trial) -> str:
        return self.dispatcher.trial_status(trial.trial_id)

    def statuses(self) -> set[str]:
        return {self.status(trial) for trial in self.trials}

    def work(self, order: Order) -> Iterable[EpochDone | ParentMissing]:
        """Does what a worker does, without training."""
        losses = dict(order.val_loss)
        done = [e for e, state in order.states.items() if state in self.losses and state in self.states]
        newest = max(done, default=order.first_epoch - 1)
        if not done and order.parent is not None and order.parent not in self.states:
            yield ParentMissing(state_id=order.parent)
            return
        for epoch, state_id in order.states.items():
            if epoch > newest:
                if not order.wants(epoch, losses):
                    return
                self.trained.append(state_id)
                self.states.add(state_id)
                self.losses[state_id] = self.curve(state_id, epoch)
            losses[epoch] = self.losses[state_id]
            yield epoch_done(state_id, epoch, losses[epoch])

    def train(self, order: Order) -> None:
        """Trains a segment and tells the dispatcher."""
        for event in self.work(order):
            self.dispatcher.note(order.segment_id, event)
            if isinstance(event, ParentMissing):
                return
        self.dispatcher.finished(order.segment_id)

    def run(self) -> list[Order]:
        """Trains whatever is handed out, until nothing is."""
        orders = []
        while (order := self.dispatcher.next_order()) is not None:
            orders.append(order)
            self.train(order)
        return orders


def epoch_done(state_id: str, epoch: int, loss: float) -> EpochDone:
    record = Record(
        state_id=state_id, epoch=epoch, item=TRAINING_ITEM, values={"val_loss": loss}, reasons={}, measured_at=0.0
    )
    return EpochDone(state_id=state_id, epoch=epoch, records=(record,), seconds=1.0)


def failure(state_id: str, epoch: int = 0) -> Failure:
    return Failure(state_id=state_id, epoch=epoch, place="here", reason="NaN", details="")


def epochs_of(order: Order) -> tuple[int, int]:
    return order.first_epoch, order.last_epoch


def test_every_segment_is_handed_out_once_and_parents_first() -> None:
    world = World(grid([1, 3, 6], [1, 2]))
    pending = world.dispatcher.stock.pending
    orders = world.run()
    assert sorted(order.segment_id for order in orders) == sorted(pending)
    assert len(world.trained) == len(set(world.trained))
    made: set[str | None] = {None}
    for order in orders:
        assert order.parent in made
        made.add(order.segment_id)
    assert world.statuses() == {"complete"}
    assert world.dispatcher.is_done


def test_a_segment_at_work_is_not_handed_out_again() -> None:
    world = World(grid([3], [1]))
    assert world.dispatcher.next_order() is not None
    assert world.dispatcher.next_order() is None
    assert world.dispatcher.num_usable == 1


def test_children_wait_for_their_parent_not_for_each_other() -> None:
    world = World(grid([3, 6], [1]))
    trunk = world.dispatcher.next_order()
    assert trunk is not None
    world.train(trunk)
    handed = [world.dispatcher.next_order() for _ in range(3)]
    assert [epochs_of(order) for order in handed if order is not None] == [(3, 5), (3, 3)]
    assert world.dispatcher.num_usable == 2


def test_the_longest_remaining_path_goes_first() -> None:
    world = World(grid([4], [1, 3]))
    ways = [epochs_of(order) for order in world.run()]
    assert ways == [(0, 3), (4, 12), (4, 4), (5, 6), (5, 8), (7, 10)], "where equal, in the order of the sweep"


def test_baselines_come_first_then_the_own_path_then_any_other_rather_than_wait() -> None:
    world = World(grid([4, 6], [1, 3]))
    trunk = world.dispatcher.next_order()
    assert trunk is not None
    world.train(trunk)
    fork = world.trial(6, 3).trial_id
    more_trunk = world.dispatcher.next_order(fork)
    assert more_trunk is not None
    assert epochs_of(more_trunk) == (4, 5)
    other = world.dispatcher.next_order(fork)
    assert other is not None
    assert epochs_of(other) == (4, 4), "the window at 4, as the own path waits for the trunk"
    world.train(more_trunk)
    rest, own = world.dispatcher.next_order(fork), world.dispatcher.next_order(fork)
    assert rest is not None
    assert own is not None
    assert (epochs_of(rest), epochs_of(own)) == ((6, 12), (6, 6))


def test_an_order_tells_the_curve_up_to_the_segment() -> None:
    world = World(grid([3], [1]))
    orders = {epochs_of(order): order for order in world.run()}
    assert orders[0, 2].val_loss == {}
    assert orders[4, 7].val_loss == {0: 100.0, 1: 99.0, 2: 98.0, 3: 97.0}
    assert orders[4, 7].parent == orders[3, 3].segment_id
    assert set(orders[0, 2].stops) == {trial.trial_id for trial in world.trials}
    assert orders[0, 2].keep_all


def test_a_lost_segment_is_handed_out_again_with_what_is_known() -> None:
    world = World(grid([3], [1]))
    order = world.dispatcher.next_order()
    assert order is not None
    event = next(iter(world.work(order)))
    world.dispatcher.note(order.segment_id, event)
    world.dispatcher.requeue(order.segment_id)
    again = world.dispatcher.next_order()
    assert again is not None
    assert again.segment_id == order.segment_id
    world.train(again)
    world.run()
    assert len(world.trained) == len(set(world.trained))
    assert world.statuses() == {"complete"}


def test_the_epochs_to_come_are_counted_down() -> None:
    world = World(grid([3], [1]))
    assert world.dispatcher.pending_epochs == 12 + 1 + 4
    order = world.dispatcher.next_order()
    assert order is not None
    for event in world.work(order):
        world.dispatcher.note(order.segment_id, event)
    assert world.dispatcher.pending_epochs == 10 + 1 + 4
    world.dispatcher.finished(order.segment_id)
    window = world.trial(3).lineage.state_ids[3]
    world.dispatcher.failed(window, failure(window))
    assert world.dispatcher.pending_epochs == 10
    world.run()
    assert world.dispatcher.pending_epochs == 0


def test_the_first_epoch_without_records_is_known() -> None:
    world = World(grid([3], [1]))
    trunk = world.dispatcher.next_order()
    assert trunk is not None
    ids = world.baseline.lineage.state_ids
    assert world.dispatcher.next_unmeasured(trunk.segment_id) == (0, ids[0])
    world.dispatcher.epoch_done(ids[0], 1.0)
    assert world.dispatcher.next_unmeasured(trunk.segment_id) == (1, ids[1])
    world.train(trunk)
    assert world.dispatcher.next_unmeasured(trunk.segment_id) == (2, ids[2])


def test_a_failure_stops_only_what_passes_through_it() -> None:
    world = World(grid([3, 6], [1, 2]))
    window = world.trial(3).lineage.state_ids[3]
    while (order := world.dispatcher.next_order()) is not None:
        if order.segment_id == window:
            world.dispatcher.note(window, SegmentFailed(failure=failure(window, 3)))
        else:
            world.train(order)
    statuses = [world.status(trial) for trial in world.trials]
    assert statuses == ["failed", "failed", "complete", "complete", "complete"]
    assert world.dispatcher.is_done


def test_a_trial_that_ended_before_the_failure_is_complete() -> None:
    """Two horizons pass through the same last segment; the longer one fails behind the shorter one's end."""
    trials = tuple(
        resolve(
            [((("horizon", h),), config(3, 1, {"horizon_after_window": h})) for h in (2, 6)],
            lambda _: INPUTS,
        )
    )
    world = World(trials)
    short, long = world.trials[:2]
    failing = long.lineage.state_ids[7]
    while (order := world.dispatcher.next_order()) is not None:
        for event in world.work(order):
            if isinstance(event, EpochDone) and event.state_id == failing:
                world.dispatcher.note(order.segment_id, SegmentFailed(failure=failure(failing, 7)))
                break
            world.dispatcher.note(order.segment_id, event)
        else:
            world.dispatcher.finished(order.segment_id)
    assert (world.status(short), world.status(long)) == ("complete", "failed")


def test_a_known_failure_is_not_repeated_by_the_next_run() -> None:
    world = World(grid([3], [1]))
    window = world.trial(3).lineage.state_ids[3]
    world.failures[window] = failure(window)
    world.open()
    assert [epochs_of(order) for order in world.run()] == [(0, 2), (3, 12)]
    assert (world.status(world.trial(3)), world.status(world.baseline)) == ("failed", "complete")


def test_early_stopping_ends_a_segment_and_what_lies_behind_it() -> None:
    def flat(state_id: str, epoch: int) -> float:
        return max(90.0, 100.0 - 5 * epoch)

    world = World(grid([3, 4, 9], [1], VP), flat)
    world.run()
    assert (world.status(world.baseline), world.status(world.trial(3))) == ("complete", "complete")
    assert max(world.dispatcher.curve(world.baseline.trial_id)) == 4
    assert world.status(world.trial(9)) == "failed", "its start lies beyond the baseline's end"
    assert world.dispatcher.is_done
    assert world.dispatcher.pending_epochs == 0


def test_a_second_run_finds_everything_done() -> None:
    world = World(grid([1, 3], [1, 2]))
    world.run()
    world.open()
    assert world.dispatcher.is_done
    assert world.dispatcher.next_order() is None
    assert world.statuses() == {"complete"}


def test_a_missing_parent_is_trained_again_with_all_that_leads_to_it() -> None:
    world = World(grid([1, 3], [2]))
    for epochs in ((0, 0), (1, 2)):
        order = world.dispatcher.next_order()
        assert order is not None
        assert epochs_of(order) == epochs
        world.train(order)
    later = world.dispatcher.next_order()
    assert later is not None
    assert epochs_of(later) == (3, 12)
    world.states.clear()  # a damaged disk
    world.train(later)
    assert world.dispatcher.next_order() is not None
    world.dispatcher.requeue(world.baseline.lineage.root)
    assert [epochs_of(order) for order in world.run()][:3] == [(0, 0), (1, 2), (3, 12)]
    assert world.statuses() == {"complete"}


def test_a_parent_that_is_already_being_made_again_is_not_doubled() -> None:
    world = World(grid([3], [1]))
    trunk = world.dispatcher.next_order()
    assert trunk is not None
    world.train(trunk)
    children = [world.dispatcher.next_order() for _ in range(2)]
    world.states.clear()
    for child in children:
        assert child is not None
        world.train(child)
    again = world.dispatcher.next_order()
    assert again is not None
    assert again.segment_id == trunk.segment_id
    assert world.dispatcher.next_order() is None
    world.train(again)
    world.run()
    assert world.statuses() == {"complete"}


@pytest.mark.parametrize("stopping", [None, VP], ids=["horizon", "vp"])
@given(
    starts=st.sets(st.integers(1, 8), min_size=1, max_size=4),
    lengths=st.sets(st.integers(1, 4), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
def test_any_interleaving_of_workers_with_losses_settles_every_trial(stopping, starts, lengths, seed) -> None:
    rng = random.Random(seed)
    world = World(grid(starts, lengths, stopping), lambda state_id, epoch: int(state_id[:4], 16) + seed % 3 * 0.1)
    lone = World(world.trials, world.curve)
    lone.run()
    at_work: dict[int, tuple[Order, Any]] = {}
    while at_work or not world.dispatcher.is_done:
        worker = rng.randrange(3)
        if worker not in at_work:
            order = world.dispatcher.next_order(rng.choice(world.trials).trial_id)
            assert order is not None or at_work, "nobody works and nothing is ready"
            if order is not None:
                at_work[worker] = order, iter(world.work(order))
            continue
        order, events = at_work[worker]
        if rng.random() < 0.1:  # it dies, perhaps with its disk
            del at_work[worker]
            world.dispatcher.requeue(order.segment_id)
            if rng.random() < 0.2:
                world.states.discard(rng.choice(sorted(world.states) or [""]))
            continue
        event = next(events, None)
        if event is None:
            world.dispatcher.finished(order.segment_id)
        else:
            world.dispatcher.note(order.segment_id, event)
        if event is None or isinstance(event, ParentMissing):
            del at_work[worker]
    statuses = {trial.trial_id: world.status(trial) for trial in world.trials}
    assert statuses == {trial.trial_id: lone.status(trial) for trial in world.trials}
    assert "open" not in statuses.values()
    assert set(world.trained) == set(lone.trained)
