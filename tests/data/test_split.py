import subprocess
import sys

import numpy as np
import pytest

from sweeper.data.split import OrderKind, batch_order, split_pool

KINDS: list[OrderKind] = ["hashed", "published"]


def test_published_split_is_the_studys() -> None:
    split = split_pool("published", 1, 1806)
    assert (len(split.train), len(split.val)) == (1444, 362)
    assert split.train[:10].tolist() == [763, 1020, 326, 173, 1123, 171, 1097, 1076, 1291, 1251]
    assert split.val[:10].tolist() == [152, 1173, 1488, 1040, 218, 1543, 75, 1797, 1670, 797]


def test_published_order_is_the_studys() -> None:
    assert batch_order("published", 1, 1, 1444)[:10].tolist() == [124, 15, 985, 1236, 1, 171, 415, 1255, 1084, 743]


def test_published_order_is_that_of_torchs_loader() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.arange(37))
    generator = torch.Generator().manual_seed(5)
    loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, generator=generator)
    for epoch in range(1, 70):  # beyond one block of the replay
        seen = torch.cat([batch[0] for batch in loader]).numpy()
        np.testing.assert_array_equal(batch_order("published", 5, epoch, 37), seen)


@pytest.mark.parametrize("kind", KINDS)
def test_orders_are_permutations_that_differ_between_epochs_and_seeds(kind: OrderKind) -> None:
    orders = {(seed, epoch): batch_order(kind, seed, epoch, 30) for seed in (1, 2) for epoch in (1, 2, 500)}
    assert all(sorted(order.tolist()) == list(range(30)) for order in orders.values())
    assert len({order.tobytes() for order in orders.values()}) == 6
    assert all(order.dtype == np.int64 for order in orders.values())


@pytest.mark.parametrize("kind", KINDS)
def test_split_covers_the_pool_once(kind: OrderKind) -> None:
    split = split_pool(kind, 3, 101, train_fraction=0.7)
    assert len(split.train) == 70
    assert sorted([*split.train.tolist(), *split.val.tolist()]) == list(range(101))


def test_hashed_numbers_are_pinned() -> None:
    assert split_pool("hashed", 1, 10).train.tolist() == HASHED_TRAIN
    assert batch_order("hashed", 1, 3, 10).tolist() == HASHED_ORDER


HASHED_TRAIN = [2, 6, 9, 3, 1, 0, 5, 8]
HASHED_ORDER = [7, 9, 4, 0, 2, 3, 1, 5, 6, 8]


def test_global_generators_are_left_alone() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    split_pool("published", 1, 20)
    batch_order("published", 1, 2, 20)
    batch_order("hashed", 1, 2, 20)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tobytes()  # type: ignore[union-attr]


def test_epoch_zero_has_no_order() -> None:
    with pytest.raises(ValueError, match="count from 1"):
        batch_order("hashed", 1, 0, 10)


def test_data_modules_do_not_import_torch() -> None:
    code = (
        "import sys, sweeper.data.manifest, sweeper.data.dataset, sweeper.data.split, sweeper.data.verify;"
        "bad = {'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
