from dataclasses import replace

import numpy as np
import pytest

from sweeper.data.dataset import Dataset, HeldOut
from sweeper.data.images import ImageSet
from sweeper.data.sources import Triplets
from sweeper.errors import DataError, Problem
from sweeper.evaluation import set_id
from sweeper.metrics.rdm import compute_rdm
from sweeper.metrics.rsa import rsa_score
from sweeper.reporting import dimensions, folds
from sweeper.reporting.dimensions import dimension_rows
from sweeper.reporting.folds import fold_rows, fold_scores, folds_text
from sweeper.reporting.html import html_report
from sweeper.reporting.load import open_view
from sweeper.reporting.output import print_table

from .conftest import GRID, HandMade, bump

TEXT = GRID.replace("manifest: builtin:selfmade", "manifest: builtin:selfmade, folds: 2").replace(
    "  perturbation.start: [2, 5]\n  perturbation.length: [1, 2]",
    "  data.fold: [0, 1]\n  perturbation.start: [2]",
)
NAMES = tuple("abcdefgh")
RNG = np.random.default_rng(0)
TARGETS = RNG.random((8, 5)).astype(np.float32)
FOLD_ROWS = ([0, 3, 4, 7], [1, 2, 5, 6])
TRIPLETS = np.array([[0, 1, 2], [3, 4, 5], [5, 6, 7], [0, 4, 7]])


def odd_ones(embedding):
    """People who choose as the embedding does."""
    found = []
    for triplet in TRIPLETS:
        pairs = [(1, 2), (0, 2), (0, 1)]
        alike = [embedding[triplet[first]] @ embedding[triplet[second]] for first, second in pairs]
        found.append(int(np.argmax(alike)))
    return np.array(found)


def held_out(fold):
    rows = FOLD_ROWS[fold]
    pixels = np.stack([np.full((2, 2, 3), row, dtype=np.uint8) for row in rows])
    images = ImageSet(names=tuple(NAMES[row] for row in rows), sources=pixels)
    return HeldOut(images=images, targets=TARGETS[rows], row_ids=None, references=())


def dataset_of(config):
    part = held_out(config.data.fold)
    triplets = Triplets(names=NAMES, rows=TRIPLETS, odd_position=odd_ones(TARGETS))
    return Dataset(
        name="hand",
        pool=part.images,
        targets=TARGETS,
        row_ids=np.zeros(0, dtype=np.int64),
        dimensions=tuple("vwxyz"),
        held_out=part,
        triplets=triplets,
        notes=(),
    )


def outputs_of(fold, epoch):
    """The targets themselves at the best epoch, noise before training."""
    noise = np.random.default_rng([fold, epoch]).random((4, 5))
    return TARGETS[FOLD_ROWS[fold]] + (0.0 if epoch in (6, 10) else 3.0 * noise)


@pytest.fixture
def hand(tmp_path, monkeypatch):
    """Every trial's best validation epoch (6 after the window, 10 for the baseline) has perfect outputs."""
    monkeypatch.setattr(folds, "dataset_of", dataset_of)
    monkeypatch.setattr(dimensions, "dataset_of", dataset_of)
    made = HandMade(tmp_path / "store", TEXT).measure(bump)
    for trial in made.trials:
        fold = trial.config.data.fold
        for epoch in range(trial.stop.last_epoch + 1):
            made.outputs(trial, epoch, outputs_of(fold, epoch), set_id(held_out(fold), "things"))
    return made


def test_out_of_fold_scores_by_hand(hand):
    scores = fold_scores(open_view(hand.store, "hand"), hand.store)
    assert [(score.label, score.role, score.folds) for score in scores] == [
        ("start 2", "trial", 2),
        ("baseline", "baseline", 2),
    ]
    for score in scores:
        assert score.missing is None
        assert (score.photos, score.triplets, score.distinct_triplets) == (8, 4, 4)
        assert score.accuracy == score.target_accuracy == 1.0
        assert score.accuracy_se == 0.0
        untrained = np.zeros((8, 5))
        for fold in (0, 1):
            untrained[FOLD_ROWS[fold]] = outputs_of(fold, 0)
        hits = odd_ones(untrained.astype(np.float32)) == odd_ones(TARGETS)
        assert score.untrained_accuracy == hits.mean()
        assert score.gain == 1.0 - hits.mean()
        assert score.untrained_accuracy_se == pytest.approx(hits.std(ddof=1) / 2)
        assert score.rsa_targets == pytest.approx(1.0)
        assert score.rsa_targets_pooled == pytest.approx(1.0)
        by_hand = rsa_score(compute_rdm(untrained.astype(np.float32)), compute_rdm(TARGETS))
        assert score.rsa_targets_pooled_untrained == pytest.approx(by_hand)


def test_people_who_repeat_triplets_do_not_shrink_the_errors(hand, monkeypatch):
    odd = (odd_ones(TARGETS) + np.array([1, 0, 0, 0])) % 3

    def score(repeats):
        triplets = Triplets(names=NAMES, rows=np.tile(TRIPLETS, (repeats, 1)), odd_position=np.tile(odd, repeats))
        monkeypatch.setattr(folds, "dataset_of", lambda config: replace(dataset_of(config), triplets=triplets))
        return fold_scores(open_view(hand.store, "hand"), hand.store)[0]

    once, often = score(1), score(9)
    assert (often.triplets, often.distinct_triplets) == (36, 4)
    assert once.accuracy == often.accuracy == 0.75
    assert once.accuracy_se == pytest.approx(0.25)
    assert often.accuracy_se == pytest.approx(0.25)


def test_an_open_fold_is_named(hand, tmp_path):
    other = HandMade(tmp_path / "other", TEXT)
    score = fold_scores(open_view(other.store, "hand"), other.store)[0]
    assert score.accuracy is None
    assert score.missing == "fold 0 is open"


def test_absent_files_are_said_and_nothing_breaks(hand, monkeypatch):
    def absent(config):
        raise DataError(Problem(where="photos", rule="the image folder must exist"))

    monkeypatch.setattr(folds, "dataset_of", absent)
    view = open_view(hand.store, "hand")
    assert "must exist" in fold_scores(view, hand.store)[0].missing
    assert "not yet: photos: the image folder must exist" in folds_text(view, hand.store)
    assert "must exist" in html_report(view, hand.store)


def test_text_and_rows_say_the_same(hand, capsys):
    view = open_view(hand.store, "hand")
    text = folds_text(view, hand.store)
    assert "out of fold 1.000 ± 0.000" in text
    assert "on 4 human choices on 4 distinct triplets" in text
    assert "chance 0.333" in text
    assert "plumbing" not in text
    assert fold_rows(view, hand.store)[0]["accuracy"] == 1.0
    print_table(view, what="folds", format_="json", store=hand.store.root)
    assert '"accuracy": 1.0' in capsys.readouterr().out


def test_a_sweep_without_folds_has_no_scores(tmp_path):
    made = HandMade(tmp_path / "plain", GRID)
    assert fold_scores(open_view(made.store, "hand"), made.store) == ()
    assert "no folds" in folds_text(open_view(made.store, "hand"), made.store)


def test_dimensions_by_hand(hand):
    trial = hand.trials[0]
    rows = list(dimension_rows(open_view(hand.store, "hand"), hand.store, [trial.trial_id]))
    assert len(rows) == 7 * 5
    assert [row["name"] for row in rows[:5]] == list("vwxyz")
    fold = trial.config.data.fold
    errors = ((outputs_of(fold, 0) - TARGETS[FOLD_ROWS[fold]]) ** 2).mean(axis=0)
    assert [row["squared_error"] for row in rows[:5]] == pytest.approx(list(errors))
    assert [row["correlation"] for row in rows[-5:]] == pytest.approx([1.0] * 5)
