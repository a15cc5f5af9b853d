"""Losses over RDM series against plain loops over times and pairs, and what they refuse."""

import math

import numpy as np
import pytest
import torch
from sweeper_models.errors import TensorMismatch, UndefinedLoss
from sweeper_models.rdm_losses import LOSSES, mse, normalised_total, pearson_long, rdm_series, time_generalisation


def draws(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pearson(a, b):
    """Compute Pearson's correlation of two lists of numbers, term by term."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    return covariance / math.sqrt(sum((p - mean_a) ** 2 for p in a) * sum((q - mean_b) ** 2 for q in b))


def plain_losses(model, target):
    """Compute P, M, G of science's section 4.4 by loops."""
    x, y = model.tolist(), target.tolist()
    p = 1 - pearson([v for row in x for v in row], [v for row in y for v in row])
    m = sum(sum((a - b) ** 2 for a, b in zip(r, s, strict=True)) / len(r) for r, s in zip(x, y, strict=True)) / len(x)
    profiles = []
    for series in (x, y):
        z = []
        for row in series:
            mean = sum(row) / len(row)
            deviation = math.sqrt(sum((v - mean) ** 2 for v in row) / len(row))
            z.append([(v - mean) / deviation for v in row])
        r = [[sum(a * b for a, b in zip(one, two, strict=True)) / (len(one) - 1) for two in z] for one in z]
        profiles.append([sum(row) / len(row) for row in r])
    return {"pearson": p, "mse": m, "time_generalisation": 1 - pearson(*profiles)}


@pytest.mark.parametrize(("num_times", "num_stimuli", "dimensions"), [(1, 3, 2), (4, 5, 7), (9, 4, 66)])
def test_series_equal_a_loop_over_times_and_pairs(num_times, num_stimuli, dimensions):
    embeddings = draws(num_times, num_stimuli, dimensions)
    expected = [
        [
            1 - pearson(embeddings[t, i].tolist(), embeddings[t, j].tolist())
            for i in range(num_stimuli)
            for j in range(i + 1, num_stimuli)
        ]
        for t in range(num_times)
    ]
    np.testing.assert_allclose(rdm_series(embeddings), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("num_times", "num_pairs"), [(3, 3), (8, 10), (21, 6)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_losses_equal_plain_loops(num_times, num_pairs, dtype):
    x, y = draws(num_times, num_pairs, dtype=dtype), draws(num_times, num_pairs, seed=1, dtype=dtype)
    expected = plain_losses(x, y)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for name, loss in LOSSES.items():
        assert float(loss(x, y)) == pytest.approx(expected[name], rel=tolerance), name


@pytest.mark.parametrize("index", [torch.tensor([6, 1, 2, 4]), torch.tensor([0, 1, 1, 1, 1, 0, 0, 1]).bool()])
def test_times_left_out_do_not_count(index):
    x, y = draws(8, 10), draws(8, 10, seed=1)
    x[0] = 0.5  # a constant slice that is not asked for disturbs nobody
    expected = plain_losses(x[index], y[index])
    for name, loss in LOSSES.items():
        assert float(loss(x, y, index)) == pytest.approx(expected[name], rel=1e-12), name


def test_gradients_are_those_of_finite_differences():
    embeddings, target = draws(4, 4, 6).requires_grad_(), draws(4, 6, seed=1)
    for loss in LOSSES.values():
        assert torch.autograd.gradcheck(lambda e, loss=loss: loss(rdm_series(e), target), embeddings)


def test_a_series_equal_to_its_target_costs_nothing():
    x = draws(5, 6)
    for loss in LOSSES.values():
        assert float(loss(x, x.clone())) == pytest.approx(0.0, abs=1e-12)
    assert float(pearson_long(x, 1 - x)) == pytest.approx(2.0)


def test_between_time_differences_count_in_the_long_correlation_only():
    target = draws(6, 10)
    shifted = target + torch.arange(6.0, dtype=torch.float64)[:, None]
    assert float(pearson_long(shifted, target)) > 0.5
    assert float(time_generalisation(shifted, target)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_a_constant_slice_is_named(dtype, value):
    x, y = draws(6, 10, dtype=dtype), draws(6, 10, seed=1, dtype=dtype)
    x[4] = value
    with pytest.raises(UndefinedLoss, match="a constant at time index 4") as caught:
        time_generalisation(x, y)
    assert caught.value.where == "model"
    with pytest.raises(UndefinedLoss, match="a constant at time index 4") as caught:
        time_generalisation(y, x, torch.tensor([5, 4, 0]))
    assert caught.value.where == "target"
    assert float(pearson_long(x, y)) > 0
    assert float(mse(x, y)) > 0


def test_a_constant_series_is_refused():
    x, constant = draws(4, 6, dtype=torch.float32), torch.full((4, 6), 0.7)
    for pair in ((x, constant), (constant, x)):
        with pytest.raises(UndefinedLoss, match="a constant at all times"):
            pearson_long(*pair)


def test_a_value_that_is_not_finite_is_named():
    x, y = draws(4, 6), draws(4, 6, seed=1)
    x[2, 3] = math.nan
    with pytest.raises(UndefinedLoss, match="not finite at time index 2"):
        time_generalisation(x, y)
    with pytest.raises(UndefinedLoss, match="not finite at all times"):
        pearson_long(x, y)
    with pytest.raises(UndefinedLoss, match="not finite at time index 2") as caught:
        mse(y, x, torch.tensor([0, 2]))
    assert caught.value.where == "target"
    assert math.isfinite(mse(y, x, torch.tensor([0, 3])))


def test_a_stimulus_without_pattern_is_named():
    embeddings = draws(5, 4, 6, dtype=torch.float32)
    embeddings[3, 2] = 0.3
    with pytest.raises(UndefinedLoss, match="a constant at time index 3, stimulus 2"):
        rdm_series(embeddings)


def test_too_little_is_refused():
    with pytest.raises(TensorMismatch, match="at least 3 stimuli"):
        rdm_series(draws(4, 2, 6))
    with pytest.raises(TensorMismatch, match="at least 3 times"):
        time_generalisation(draws(2, 6), draws(2, 6, seed=1))
    with pytest.raises(TensorMismatch, match="at least 3 times"):
        time_generalisation(draws(4, 6), draws(4, 6, seed=1), torch.tensor([0, 3]))
    with pytest.raises(TensorMismatch, match="same times and pairs"):
        mse(draws(4, 6), draws(5, 6))


def slices_that_cancel():
    """Three slices at 120 degrees: their mean is 0 but for rounding, and so is how much each is like all."""
    u, v = torch.linalg.qr(draws(9, 2, seed=3) - draws(9, 2, seed=3).mean(0)).Q.T
    return torch.stack([u, -u / 2 + 3**0.5 / 2 * v, -u / 2 - 3**0.5 / 2 * v]).float()


@pytest.mark.parametrize(
    "slices",
    [torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]), slices_that_cancel()],
    ids=["orthogonal", "cancelling"],
)
def test_times_that_all_generalise_alike_are_refused(slices):
    with pytest.raises(UndefinedLoss, match="all times") as caught:
        time_generalisation(slices, draws(*slices.shape, dtype=torch.float32))
    assert caught.value.where == "model.generalisation"


def test_the_total_is_weighted_and_normalised():
    losses = {"pearson": torch.tensor(0.6), "mse": torch.tensor(0.02), "time_generalisation": torch.tensor(0.3)}
    start = {"pearson": 0.9, "mse": 0.04, "time_generalisation": 0.5}
    weights = {"pearson": 1.0, "mse": 0.1, "time_generalisation": 0.15}
    total = normalised_total(losses, start, weights)
    assert float(total) == pytest.approx(0.6 / 0.9 + 0.1 * 0.02 / 0.04 + 0.15 * 0.3 / 0.5)
    at_start = {name: torch.tensor(value) for name, value in start.items()}
    assert float(normalised_total(at_start, start, weights)) == pytest.approx(1.25)
    without = normalised_total({"mse": losses["mse"]}, {"mse": 0.04}, {"pearson": 0.0, "mse": 2.0})
    assert float(without) == pytest.approx(1.0)


@pytest.mark.parametrize("weights", [{"mse": 0.0}, {}, {"mse": 1.0, "pearson": -0.1}, {"mse": math.nan}])
def test_weights_must_weigh(weights):
    with pytest.raises(TensorMismatch, match="one is above 0"):
        normalised_total({"mse": torch.tensor(1.0)}, {"mse": 1.0}, weights)


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_a_start_that_cannot_divide_is_refused(value):
    with pytest.raises(TensorMismatch, match=r"start\.mse"):
        normalised_total({"mse": torch.tensor(1.0)}, {"mse": value}, {"mse": 1.0})


def test_values_that_are_not_finite_are_told_as_a_training_that_diverged():
    embeddings = torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(1))
    embeddings[1, 2, 0] = torch.inf
    with pytest.raises(UndefinedLoss, match=r"not finite at time index 1, stimulus 2\. Training has diverged: lower"):
        rdm_series(embeddings)
    embeddings[1, 2] = 0.5
    with pytest.raises(UndefinedLoss, match=r"a constant at time index 1, stimulus 2\. Leave out times"):
        rdm_series(embeddings)
