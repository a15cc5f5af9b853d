"""Individual differences from a store, against plain loops; outputs are made by hand, data by the simulator."""

import json
from itertools import combinations, islice, product

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import pearsonr, spearmanr

from sweeper.cli import main
from sweeper.errors import StoreError
from sweeper.evaluation import set_id
from sweeper.inputs import dataset_of
from sweeper.metrics.time_courses import dimensions_behind, lower_noise_bound
from sweeper.neural import curves_of
from sweeper.randomness import stream
from sweeper.reporting import html
from sweeper.reporting.caption import caption
from sweeper.reporting.figures import figures, png, save_figures
from sweeper.reporting.html import html_report
from sweeper.reporting.individual_figures import draw_individuals
from sweeper.reporting.individual_rows import individual_rows
from sweeper.reporting.individual_text import HOW_TO_RUN, individuals_text
from sweeper.reporting.individuals import individuals_of
from sweeper.reporting.load import load_sweep, open_view
from sweeper.reporting.people import groups_of
from sweeper.reporting.subject_pair import pair_rows, pairs_of, pairs_text
from sweeper.reporting.time_lines import course_rows

from .conftest import RSA_ITEM, HandMade

PEOPLE, TIMES, STIMULI, DIMENSIONS, ONSET = 5, 40, 8, 66, 5
MANIFEST = f"""
name: hand
source: drawn and simulated
licence: Apache-2.0
generator: {{name: drawings, num_train: 16, num_test: {STIMULI}, seed: 1, participants: {PEOPLE}}}
"""
SPEC = """
name: hand
data: {manifest: MANIFEST}
model: {variant: clip-hba-meg, backbone: tiny-clip, pretrained: builtin}
training: {max_epochs: 3}
axes: AXES
"""
BOTH = "{subject: [1, 2, 3, 4, 5], model.curves.participants: [targets, all]}"
LOSSES = (1.25, 1.0, 0.8, 0.9)  # the best epoch is not the last
BEST = 2
LOST = 9  # a time at which participant 3's model has no RDM


def outputs_of(trial, epoch):
    """Untrained: the same for all. Best: a part of their own each. Else: noise, which nothing may be made of."""
    shared = np.random.default_rng(0).random((STIMULI, DIMENSIONS))
    outputs = np.tile(shared, (TIMES, 1, 1))
    if epoch > 0:
        config, noise = trial.config, np.random.default_rng([epoch, trial.config.seeds.init])
        own = np.random.default_rng([7, int(config.subject or 0)]).random((TIMES, STIMULI, DIMENSIONS))
        curves = 0.3 if config.model.curves.participants == "all" else 0.5
        outputs = outputs + curves * own + (0.1 if epoch == BEST else 9.0) * noise.random(outputs.shape)
        if config.subject == "3":
            outputs[LOST, 4] = 1.0
    outputs[: ONSET - 1] = 0.0  # at the onset itself there are RDMs, which do not count
    return outputs


def made(folder, axes=BOTH, measured=lambda trial, epoch: True):
    """Returns a store in which every trial has losses and outputs."""
    (folder / "hand.yaml").write_text(MANIFEST)
    text = SPEC.replace("MANIFEST", str(folder / "hand.yaml")).replace("AXES", axes)
    hand = HandMade(folder / "store", text, items=({**RSA_ITEM, "column": "rsa_neural_meg"},))

    def curve(trial, epoch):
        return {"val_loss": LOSSES[epoch], "rsa": 0.1} if measured(trial, epoch) else None

    hand.measure(curve)
    for trial, epoch in product(hand.trials, range(4)):
        if measured(trial, epoch):
            held_out = dataset_of(trial.config).held_out
            hand.outputs(trial, epoch, outputs_of(trial, epoch), set_id(held_out, "things"))
    return hand


@pytest.fixture(scope="module")
def hand(tmp_path_factory):
    return made(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def view(hand):
    return open_view(hand.store, "hand")


@pytest.fixture(scope="module")
def found(hand, view):
    return individuals_of(view, hand.store)


@pytest.fixture(scope="module")
def data(hand):
    """The participants' own RDMs over the held-out stimuli."""
    dataset = dataset_of(hand.trials[0].config)
    (series,) = dataset.series
    return list(series.each(series.participants, dataset.held_out.images.names))


def pairs(rdm):
    return [rdm[i, j] for i, j in combinations(range(STIMULI), 2)]


def rdm_of(outputs):
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN where a row is constant, as wanted
        return 1 - np.corrcoef(outputs.astype(np.float32).astype(float))


def trials_of(hand, curves):
    return [trial for trial in hand.trials if trial.config.model.curves.participants == curves]


def distances(series):
    """1 - Pearson of everything, for each two people."""
    long = [[value for rdm in one for value in pairs(rdm)] for one in series]
    return [1 - pearsonr(a, b).statistic for a, b in combinations(long, 2)]


COMPARED = [time for time in range(ONSET, TIMES) if time != LOST]


def test_the_agreement_is_that_of_a_plain_loop(hand, found, data):
    assert [one.group.label for one in found] == ["curves.participants targets", "curves.participants all"]
    for one, curves in zip(found, ("targets", "all"), strict=True):
        models = [[rdm_of(outputs_of(trial, BEST)[t]) for t in COMPARED] for trial in trials_of(hand, curves)]
        theirs = distances([[rdms[t] for t in COMPARED] for rdms in data])
        assert one.people.compared.nonzero()[0].tolist() == COMPARED
        assert one.agreements["trained"].rho == pytest.approx(spearmanr(distances(models), theirs).statistic)
        np.testing.assert_allclose(one.distances["trained"][np.triu_indices(PEOPLE, 1)], distances(models), rtol=1e-5)
        assert 0 < one.agreements["trained"].p_value <= 1


def test_ranks_within_each_time_leave_levels_out(hand, found, data):
    def ranked(series):
        per_time = {(a, b): [] for a, b in combinations(range(PEOPLE), 2)}
        for (a, b), t in product(per_time, range(len(COMPARED))):
            per_time[a, b].append(spearmanr(pairs(series[a][t]), pairs(series[b][t])).statistic)
        return [1 - np.mean(values) for values in per_time.values()]

    models = [[rdm_of(outputs_of(trial, BEST)[t]) for t in COMPARED] for trial in trials_of(hand, "targets")]
    expected = spearmanr(ranked(models), ranked([[rdms[t] for t in COMPARED] for rdms in data])).statistic
    assert found[0].agreements["geometry"].rho == pytest.approx(expected)


def test_untrained_models_differ_by_their_noise_alone(hand, found, data):
    trials = trials_of(hand, "targets")
    draws = stream(0, "individuals/noise").standard_normal((TIMES, STIMULI, DIMENSIONS))
    noisy = []
    for trial in trials:
        level = curves_of(trial.config, dataset_of(trial.config)).noise
        outputs = outputs_of(trial, 0).astype(np.float32).astype(float)
        per_time = []
        for t in COMPARED:
            spread = outputs[t].std(axis=0, ddof=1)
            per_time.append(rdm_of(np.maximum(outputs[t] + level[t] * draws[t] * spread, 0)))
        noisy.append(per_time)
    expected = spearmanr(distances(noisy), distances([[rdms[t] for t in COMPARED] for rdms in data])).statistic
    assert found[0].agreements["untrained"] is None
    assert found[0].agreements["noisy"].rho == pytest.approx(expected)
    assert found[1].agreements["noisy"] is None, "common curves, one noise for all"


def test_own_models_are_held_against_others(hand, found, data):
    models = [[rdm_of(outputs_of(trial, BEST)[t]) for t in range(TIMES)] for trial in trials_of(hand, "targets")]
    table = np.array(
        [
            [np.mean([spearmanr(pairs(model[t]), pairs(rdms[t])).statistic for t in COMPARED]) for rdms in data]
            for model in models
        ]
    )
    match, others = found[0].matching, ~np.eye(PEOPLE, dtype=bool)
    assert (match.matched, match.mismatched) == pytest.approx((table.diagonal().mean(), table[others].mean()))
    means = [np.mean([table[i, j] for i in range(PEOPLE) if i != j]) for j in range(PEOPLE)]
    assert match.ahead == np.mean(table.diagonal() > means)
    np.testing.assert_allclose(found[0].own, table.diagonal())


def test_lines_over_time_are_means_with_their_references(hand, found, data):
    courses, trials = found[0].courses, trials_of(hand, "targets")
    targets = 1 - np.corrcoef(dataset_of(trials[0].config).held_out.targets.astype(float))
    for t in (ONSET, 20):
        own, start = (
            [
                spearmanr(pairs(rdm_of(outputs_of(trial, epoch)[t])), pairs(rdms[t])).statistic
                for trial, rdms in zip(trials, data, strict=True)
            ]
            for epoch in (BEST, 0)
        )
        table = [spearmanr(pairs(targets), pairs(rdms[t])).statistic for rdms in data]
        assert courses["own_model"][t] == pytest.approx(np.mean(own))
        assert courses["untrained_model"][t] == pytest.approx(np.mean(start))
        assert courses["targets"][t] == pytest.approx(np.mean(table))
        assert courses["lower_noise_bound"][t] == pytest.approx(lower_noise_bound(data)[t])
    assert np.isnan(courses["own_model"][[0, LOST]]).all(), "someone has no RDM there"
    assert found[0].mean("own_model") == pytest.approx(found[0].matching.matched)


def test_rows_hold_each_control(hand, view, found):
    own, common = individual_rows(view, hand.store)
    assert (own["curves"], common["curves"]) == ("own", "common")
    assert own["model.curves.participants"] == "targets"
    assert (own["num_people"], own["num_stimuli"], own["num_times"]) == (PEOPLE, STIMULI, len(COMPARED))
    assert own["common_curves_rho"] == common["rho"] == found[1].agreements["trained"].rho
    assert (own["untrained_rho"], common["common_curves_rho"], own["missing"]) == (None, None, None)
    assert -0.3 < own["shuffled_mean"] < 0.3 < own["shuffled_sd"] + 0.3
    assert own["ceiling_times"] > 0.3
    assert own.keys() == common.keys()


def test_the_text_says_what_is_compared_and_what_was_not_run(hand, view, tmp_path):
    text = individuals_text(view, hand.store)
    assert f"{PEOPLE} participants, {STIMULI} held-out stimuli, {len(COMPARED)} times from 25 to 875 ms" in text
    assert "held-out stimuli chose nothing" in text
    assert "control, the untrained model with these curves: none, these models do not differ" in text
    assert HOW_TO_RUN not in text
    alone = made(tmp_path, "{subject: [1, 2, 3, 4]}")
    assert HOW_TO_RUN in individuals_text(open_view(alone.store, "hand"), alone.store)


def test_models_that_start_from_a_common_parent_say_so(tmp_path):
    hand = made(tmp_path, f"{{subject: [1, 2, 3, 4], model.start_from: [{'a' * 32}]}}")
    view = open_view(hand.store, "hand")
    text = individuals_text(view, hand.store)
    assert "control, the common parent with these curves" in text
    assert "untrained" not in text
    assert individual_rows(view, hand.store)[0]["start"] == "common parent"


def test_open_and_failed_trials_are_named(tmp_path):
    hand = made(tmp_path, "{subject: [1, 2, 3, 4, 5]}", lambda trial, epoch: epoch < 2 or trial.config.subject != "2")
    view = open_view(hand.store, "hand")
    assert individual_rows(view, hand.store)[0]["missing"] == "subject 2 is open"
    assert "  not yet: subject 2 is open" in individuals_text(view, hand.store)
    hand.fail(hand.trial(subject=2), 2)
    row = individual_rows(open_view(hand.store, "hand"), hand.store)[0]
    assert (row["missing"], row["left_out"], row["num_people"]) == (None, "2", 4)


def test_too_few_people_and_no_people(tmp_path):
    (tmp_path / "three").mkdir()
    three = made(tmp_path / "three", "{subject: [1, 2, 3]}")
    assert "at least 4; got 3" in individual_rows(open_view(three.store, "hand"), three.store)[0]["missing"]
    none = made(tmp_path, "{seeds: [1, 2]}")
    view = open_view(none.store, "hand")
    assert groups_of(view) == ()
    assert "no sweep over participants" in individuals_text(view, none.store)


def test_seeds_stand_beside_people(tmp_path):
    hand = made(tmp_path, "{seeds: [1, 2], subject: [1, 2, 3, 4, 5]}")
    view = open_view(hand.store, "hand")
    rows = individual_rows(view, hand.store)
    series = {
        (trial.config.seeds.init, trial.config.subject): [rdm_of(outputs_of(trial, BEST)[t]) for t in COMPARED]
        for trial in hand.trials
    }
    kinds = {"seeds": [], "people": [], "both": []}
    for ((s, p), one), ((r, q), other) in combinations(series.items(), 2):
        kinds["seeds" if p == q else "people" if s == r else "both"].extend(distances([one, other]))
    for row in rows:
        assert row["num_seeds"] == 2
        for kind, values in kinds.items():
            assert row[f"distance_{kind}"] == pytest.approx(np.mean(values), rel=1e-5)
        assert row["variance_people"] is not None
        assert row["variance_seeds"] >= 0
    assert "2 seeds: mean distance of models" in individuals_text(view, hand.store)


def test_two_people_differ_most_at_a_time_and_by_dimensions(hand, view):
    first, second = (outputs_of(hand.trial(subject=each, participants="targets"), BEST) for each in (2, 5))
    later = zip(first[ONSET:], second[ONSET:], strict=True)
    expected = [1 - spearmanr(pairs(rdm_of(a)), pairs(rdm_of(b))).statistic for a, b in later]
    pair, _ = pairs_of(view, hand.store, ("2", "5"))
    assert pair.models[ONSET:] == pytest.approx(expected)
    assert pair.at == ONSET + int(np.argmax(expected))
    shares = dimensions_behind(first[pair.at].astype(np.float32), second[pair.at].astype(np.float32))
    assert [share for _, share in pair.dimensions] == pytest.approx(sorted(shares, reverse=True))
    rows = pair_rows([pair])
    assert [row["time_ms"] for row in rows if row["dimension"] is None and row["is_maximum"]] == [
        pair.times_ms[pair.at]
    ]
    assert sum(row["dimension"] is not None for row in rows) == DIMENSIONS
    assert pair.dimensions[0][0] in pairs_text(view, [pair])
    turned, _ = pairs_of(view, hand.store, ("5", "2"))
    np.testing.assert_allclose(turned.models, pair.models)


@pytest.mark.parametrize("subjects", [("2", "9"), ("2", "2")])
def test_unknown_subjects_are_refused(hand, view, subjects):
    with pytest.raises(StoreError, match="--subjects: names two participants of the sweep"):
        list(pairs_of(view, hand.store, subjects))


def test_every_trial_has_its_courses(hand, view, data):
    rows = course_rows(view, hand.store)
    trial = hand.trial(subject=2, participants="targets")
    own = [row for row in rows if row["trial_id"] == trial.trial_id and row["column"] == "rsa_neural_meg"]
    assert [row["time_ms"] for row in own] == [-100.0 + 25 * step for step in range(TIMES)]
    assert {row["epoch"] for row in own} == {BEST}
    for t in (ONSET, 30):
        outputs = (rdm_of(outputs_of(trial, epoch)[t]) for epoch in (BEST, 0))
        expected = [spearmanr(pairs(rdm), pairs(data[1][t])).statistic for rdm in outputs]
        assert [own[t]["rsa"], own[t]["rsa_untrained"]] == pytest.approx(expected)
    assert (own[0]["rsa"], own[0]["counts"], own[ONSET]["counts"]) == (None, False, True)
    means = [row for row in rows if row["trial_id"] is None and row["model.curves.participants"] == "targets"]
    assert {row["column"] for row in means} == {"own_model", "lower_noise_bound", "targets"}
    at_400 = [row for row in rows if row["column"] == "rsa_neural_meg" and row["time_ms"] == 400.0]
    mean = next(row for row in means if row["column"] == "own_model" and row["time_ms"] == 400.0)
    for number in ("rsa", "rsa_untrained"):  # trials alternate between the two curves
        assert mean[number] == pytest.approx(np.mean([row[number] for row in at_400[::2]]))


def test_figures_are_drawn_and_are_the_same_again(hand, view, found, tmp_path, monkeypatch):
    drawn = dict(islice(figures(view, hand.store, found), 5))
    each = ["individuals_1", "individuals_over_time_1", "individuals_2", "individuals_over_time_2"]
    assert list(drawn) == [*each, "over_time"]
    assert png(drawn["individuals_1"]) == png(draw_individuals(found[0], found[1], caption(view)))
    monkeypatch.setattr("sweeper.reporting.figures.figures", lambda *given: ())
    pair = save_figures(view, tmp_path, hand.store, ("1", "4"))
    assert [path.name for path in pair] == ["subjects_1.png", "subjects_2.png"]


def test_the_page_has_their_section(hand, view, monkeypatch):
    monkeypatch.setattr(html, "figures", lambda *given: islice(figures(*given), 1))
    page = html_report(view, hand.store)
    assert "<h2>Individual differences</h2>" in page
    assert "agreement of the distances" in page
    assert 'id="individuals_1"' in page


def test_the_verb_shows_each_table(hand):
    def call(*words):
        return CliRunner().invoke(main, ["results", "hand", "--store", str(hand.store.root), *words])

    assert "agreement of the distances" in call("--individuals").stdout
    assert "dimensions behind it" in call("--subjects", "1", "2").stdout
    assert len(json.loads(call("--subjects", "1", "2", "--json").stdout)["rows"]) == 2 * (TIMES + DIMENSIONS)
    assert call("--courses", "--format", "csv").stdout.startswith("trial_id,role,subject,")
    assert call("--individuals", "--courses").exit_code == 2
    refused = call("--subjects", "1", "77")
    assert refused.exit_code == 2
    assert "Known: 1, 2, 3, 4, 5" in refused.output


def test_a_notebook_has_them_as_frames(hand):
    results = load_sweep("hand", hand.store.root)
    assert list(results.individuals["num_people"]) == [PEOPLE, PEOPLE]
    assert set(results.courses.columns) >= {"trial_id", "column", "time_ms", "rsa", "rsa_untrained"}
