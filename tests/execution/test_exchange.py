"""The exchange on made-up epochs: workers come, die and come back; nothing is lost and nothing hangs."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import DataError, Problem
from sweeper.execution.dispatcher import Dispatcher
from sweeper.execution.exchange import MAX_DEATHS, MAX_MISSING, Delivery, Exchange
from sweeper.plan.lineage import Inputs
from sweeper.plan.tree import build_tree
from sweeper.plan.trials import Trial, resolve
from sweeper.records import TRAINING_ITEM, Failure, Record
from sweeper.spec.schema import Evaluation, TrialConfig
from sweeper.training.events import EpochDone, Event, ParentMissing, SegmentFailed
from sweeper.training.order import Order

INPUTS = Inputs(data="pool", model=(("weights", "w"),), device="cpu")


def batched(values: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(values[first : first + size]) for first in range(0, len(values), size))


def grid(starts: tuple[int, ...] = (3, 6), lengths: tuple[int, ...] = (1, 2)) -> tuple[Trial, ...]:
    fields = {
        "data": {"manifest": "m.yaml"},
        "model": {},
        "training": {"max_epochs": 12},
        "stopping": {"horizon_after_window": 4},
    }
    windows = [{"kind": "random_target", "start": s, "length": n} for s in starts for n in lengths]
    configs = [TrialConfig.model_validate({**fields, "perturbation": window}) for window in windows]
    return resolve([((("perturbation.start", config.start),), config) for config in configs], lambda _: INPUTS)


class Site:
    """An exchange with its made-up store."""

    def __init__(self, trials: tuple[Trial, ...] | None = None, share: int = 1) -> None:
        self.trials = grid() if trials is None else trials
        self.shares = list(batched([trial.trial_id for trial in self.trials], share))
        self.ids = [each[0] for each in self.shares]  # names of the shares
        self.states: set[str] = set()
        self.dispatcher = Dispatcher(
            trials=self.trials,
            tree=build_tree(self.trials),
            evaluation=Evaluation(),
            val_loss={},
            failures={},
            has_state=self.states.__contains__,
        )
        self.exchange = Exchange(self.dispatcher, {each[0]: each for each in self.shares})

    @property
    def idle(self) -> bool:
        return self.exchange.collect().idle

    def take(self, worker: int) -> Order:
        order = self.exchange.turn(self.ids[worker]).order
        assert order is not None
        return order

    def deliver(self, worker: int, order: Order, *events: Event, finished: bool = False) -> bool:
        delivery = Delivery(segment_id=order.segment_id, events=events, finished=finished)
        return self.exchange.deliver(self.ids[worker], delivery)

    def epochs(self, order: Order) -> Iterator[EpochDone]:
        for epoch, state_id in order.states.items():
            self.states.add(state_id)
            yield epoch_done(state_id, epoch)

    def train(self, worker: int, order: Order) -> bool:
        return self.deliver(worker, order, *self.epochs(order), finished=True)

    def statuses(self) -> list[str]:
        return [self.dispatcher.trial_status(trial_id) for trial_id in self.dispatcher.trials]


def epoch_done(state_id: str, epoch: int) -> EpochDone:
    record = Record(
        state_id=state_id,
        epoch=epoch,
        item=TRAINING_ITEM,
        values={"val_loss": 100.0 - epoch},
        reasons={},
        measured_at=0.0,
    )
    return EpochDone(state_id=state_id, epoch=epoch, records=(record,), seconds=1.0)


def test_workers_train_everything_and_then_end() -> None:
    site = Site()
    for worker in range(len(site.ids)):
        while not (turn := site.exchange.turn(site.ids[worker])).done:
            assert turn.order is not None
            assert not site.train(worker, turn.order)
    assert set(site.statuses()) == {"complete"}
    collected = site.exchange.collect()
    assert (collected.idle, collected.error) == (True, None)
    trained = [event.state_id for delivery in collected.deliveries for event in delivery.events]
    assert sorted(trained) == sorted(
        s for segment in site.dispatcher.tree.segments.values() for s in segment.states.values()
    )


def test_what_came_in_is_collected_once_and_in_order() -> None:
    site = Site()
    order = site.take(0)
    epochs = list(site.epochs(order))
    assert site.deliver(0, order, epochs[0])
    assert site.deliver(0, order, epochs[1])
    assert [delivery.events for delivery in site.exchange.collect().deliveries] == [(epochs[0],), (epochs[1],)]
    assert site.exchange.collect().deliveries == ()


def test_a_worker_with_nothing_ready_waits() -> None:
    site = Site()
    site.take(0)
    turn = site.exchange.turn(site.ids[1])
    assert (turn.order, turn.done) == (None, False)


def test_a_worker_ends_when_its_own_path_is_complete_whoever_trained_it() -> None:
    site = Site()
    while (order := site.dispatcher.next_order(site.ids[0])) is not None:
        site.train(1, order)
    assert site.exchange.turn(site.ids[0]).done


def test_a_dead_workers_segment_goes_to_the_next() -> None:
    site = Site()
    order = site.take(0)
    site.deliver(0, order, *list(site.epochs(order))[:2])
    site.exchange.lost(site.ids[0])
    assert site.idle
    again = site.take(1)
    assert again.segment_id == order.segment_id
    site.train(1, again)
    assert not site.dispatcher.is_done


def test_a_worker_that_asks_again_without_delivering_gave_its_segment_back() -> None:
    site = Site()
    order = site.take(0)
    assert site.take(0).segment_id == order.segment_id


def test_losing_an_idle_worker_changes_nothing() -> None:
    site = Site()
    for _ in range(MAX_DEATHS + 1):
        site.exchange.lost(site.ids[0])
    assert site.take(0) is not None


def test_three_deaths_at_one_epoch_fail_it_and_everything_behind() -> None:
    site = Site()
    while site.dispatcher.trial_status(site.ids[4]) == "open":
        site.train(4, site.take(4))
    site.exchange.collect()
    window = site.take(0)
    assert window.first_epoch == 3
    for _ in range(MAX_DEATHS - 1):
        site.exchange.lost(site.ids[0])
        assert site.take(0).segment_id == window.segment_id
    site.exchange.lost(site.ids[0])
    (delivery,) = site.exchange.collect().deliveries
    (event,) = delivery.events
    assert isinstance(event, SegmentFailed)
    assert (event.failure.epoch, event.failure.state_id) == (3, window.states[3])
    assert "died 3 times" in event.failure.reason
    assert site.statuses() == ["failed", "failed", "open", "open", "complete"]
    assert site.exchange.turn(site.ids[0]).done
    while site.dispatcher.trial_status(site.ids[3]) == "open":
        site.train(3, site.take(3))
    assert site.statuses() == ["failed", "failed", "open", "complete", "complete"]


def test_a_segment_that_gets_on_between_deaths_does_not_fail() -> None:
    """Machines that are taken away every few epochs are no reason to give up."""
    site = Site()
    site.train(4, site.take(4))
    long = site.take(4)
    deaths = 0
    for epochs in range(1, len(long.states)):
        seen = list(long.states.items())[:epochs]
        site.deliver(4, long, *(epoch_done(state_id, epoch) for epoch, state_id in seen))
        for _ in range(MAX_DEATHS - 1):
            site.exchange.lost(site.ids[4])
            deaths += 1
            assert site.take(4).segment_id == long.segment_id
    assert deaths > MAX_DEATHS
    assert site.statuses() == ["open"] * 5


def test_a_failure_of_the_code_fails_at_once() -> None:
    site = Site()
    order = site.take(0)
    failure = Failure(state_id=order.states[1], epoch=1, place="epoch 1", reason="NaN", details="")
    assert not site.deliver(0, order, SegmentFailed(failure=failure))
    assert site.statuses() == ["failed"] * 5
    assert site.idle
    assert all(site.exchange.turn(trial_id).done for trial_id in site.ids)


def test_a_missing_parent_is_made_again() -> None:
    site = Site()
    trunk = site.take(0)
    site.train(0, trunk)
    child = site.take(0)
    site.states.clear()
    assert not site.deliver(0, child, ParentMissing(state_id=trunk.segment_id), finished=True)
    assert site.take(1).segment_id == trunk.segment_id


def test_a_parent_that_only_the_driver_sees_does_not_make_workers_turn_for_ever() -> None:
    """A node without the shared disk reports every state missing."""
    site = Site()
    site.train(0, site.take(0))
    child = site.take(0)
    for _ in range(MAX_MISSING - 1):
        site.deliver(0, child, ParentMissing(state_id=child.parent or ""), finished=True)
        assert site.take(0).segment_id == child.segment_id
    site.exchange.collect()
    site.deliver(0, child, ParentMissing(state_id=child.parent or ""), finished=True)
    event = site.exchange.collect().deliveries[-1].events[0]
    assert isinstance(event, SegmentFailed)
    assert "same store" in event.failure.reason
    assert site.dispatcher.trial_status(site.ids[4]) == "failed"


def test_a_worker_that_was_given_up_may_deliver_but_not_go_on() -> None:
    """Its epochs count; the segment that its trial's new worker has meanwhile is not let go."""
    site = Site()
    trunk = site.take(0)
    site.exchange.lost(site.ids[0])
    site.train(1, site.take(1))
    newer = site.take(0)
    assert newer.segment_id != trunk.segment_id
    assert not site.deliver(0, trunk, *site.epochs(trunk), finished=True)
    assert not site.idle
    site.exchange.lost(site.ids[0])
    assert site.take(0).segment_id == newer.segment_id


def test_a_stop_drains_after_the_epoch_in_progress() -> None:
    site = Site()
    order = site.take(0)
    site.exchange.stop()
    assert not site.idle
    assert site.exchange.turn(site.ids[1]).done
    assert not site.deliver(0, order, next(site.epochs(order)))
    assert site.idle
    assert site.exchange.turn(site.ids[0]).done
    again = site.dispatcher.next_order()
    assert again is not None
    assert again.segment_id == order.segment_id, "the next run goes on with it"


def test_a_finished_segment_counts_as_finished_while_stopping() -> None:
    site = Site()
    order = site.take(0)
    site.exchange.stop()
    assert not site.train(0, order)
    while (other := site.dispatcher.next_order()) is not None:
        assert other.segment_id != order.segment_id


def test_what_workers_cannot_get_ends_the_run_with_the_first_error() -> None:
    site = Site()
    first, second = (DataError(Problem(where="x", rule=rule)) for rule in ("first", "second"))
    site.exchange.fail(first)
    site.exchange.fail(second)
    assert site.exchange.collect().error is first
    assert site.exchange.turn(site.ids[0]).done


@pytest.mark.parametrize(("mortality", "share"), [(0.02, 1), (0.3, 1), (0.02, 3), (0.3, 3)])
@given(
    starts=st.sets(st.integers(1, 7), min_size=1, max_size=3),
    lengths=st.sets(st.integers(1, 3), min_size=1, max_size=2),
    seed=st.integers(0, 2**32),
)
def test_whatever_dies_every_trial_is_settled(mortality, share, starts, lengths, seed) -> None:
    rng = random.Random(seed)
    site = Site(grid(tuple(sorted(starts)), tuple(sorted(lengths))), share)
    at_work: dict[int, tuple[Order, list[EpochDone]]] = {}
    ended: set[int] = set()
    told: set[str] = set()
    while len(ended) < len(site.ids):
        worker = rng.choice([index for index in range(len(site.ids)) if index not in ended])
        if worker not in at_work:
            turn = site.exchange.turn(site.ids[worker])
            if turn.done:
                ended.add(worker)
            elif turn.order is not None:
                at_work[worker] = turn.order, list(site.epochs(turn.order))
            else:
                assert at_work, "all wait for nobody"
        elif rng.random() < mortality:
            del at_work[worker]
            site.exchange.lost(site.ids[worker])
        else:
            order, left = at_work[worker]
            events = [left.pop(0) for _ in range(min(len(left), rng.randrange(3)))]
            if not site.deliver(worker, order, *events, finished=not left):
                del at_work[worker]
    for delivery in site.exchange.collect().deliveries:
        told |= {event.failure.state_id for event in delivery.events if isinstance(event, SegmentFailed)}
    for trial, status in zip(site.trials, site.statuses(), strict=True):
        assert status == ("failed" if told & set(trial.lineage.state_ids) else "complete")


def test_news_of_frozen_features_is_told_once_and_summed_over_processes() -> None:
    site = Site()
    assert site.exchange.collect().features is None
    for done in (64, 128):
        site.exchange.features("a", done, 200)
    site.exchange.features("b", 64, 100)
    assert site.exchange.collect().features == (192, 300)
    assert site.exchange.collect().features is None
