"""The published study's numbers come out of its published curves, float for float (docs/methods.md 3, 12).

The runs of CLIP-HBA are in every clone (`tests/golden/published_runs.csv.gz`). The ViT's are read where the real data
are. Its RSA in a disturbed epoch was computed on scrambled rows, so that its `delta_rsa` is arithmetic on a meaningless
number, and its losses are sums over two ranks. What the files allow is reproduced: all 44 deltas, the golden one among
them, from the baseline columns beside them (`delta_loss` was taken from a baseline rounded to six decimals), and the
facts of the baseline's curve. They allow no more: a disturbed run has one epoch, so it has no recovery, no minimum of
its own and no cell of a heat map.
"""

import csv
from collections.abc import Mapping
from itertools import pairwise

import pytest
from scipy.stats import spearmanr

from sweeper.metrics.recovery import epochs_seen_after, recovered_at_tolerances, recovery_epochs
from sweeper.metrics.summary import baseline_delta, heatmap_deviation, summarize_trial

LENGTHS = (2, 5, 10, 20, 30, 40, 50)
STARTS = (1, 3, 10, 20, 40, 80)
MATRICES = {"published": "recovery_matrix", "fixed": "recovery_matrix_fixed", "clean": "recovery_matrix_clean"}
VIT_STARTS = (5, 10, 15, 16, 20, 25, 30, 35, 45, 70, 98)  # 0-based, as published
GROUP_OF_TYPE = {"blank_image": "uniform_target"}


def nr(value):
    return "NR" if value is None else value


@pytest.fixture(scope="module")
def recover(published, baseline):
    """Returns the function (start, length, ...) -> recovery of the loss, or None."""

    def run(start, length, *, reference=None, **options):
        return recovery_epochs(
            published[f"length_{length}", start].val_loss,
            baseline.val_loss if reference is None else reference,
            start + length - 1,
            window_length=length,
            **options,
        )

    return run


@pytest.mark.parametrize("comparator", MATRICES)
def test_recovery_matrix(recover, goldens, comparator):
    matrix = {
        str(start): {str(length): nr(recover(start, length, comparator=comparator)) for length in LENGTHS}
        for start in STARTS
    }
    assert matrix == goldens["length_experiments"][MATRICES[comparator]]


def test_not_recovered_is_none_beside_the_epochs_seen(recover, published):
    assert [(s, n) for s in STARTS for n in LENGTHS if recover(s, n) is None] == [(10, 50)]
    assert epochs_seen_after(published["length_50", 10].val_loss, 59) == 145 - 59


def test_the_comparator_makes_the_result(recover):
    """Recovery grows with the window's length against `published` only (docs/methods.md 3.4)."""

    def growth(start, comparator):
        cells = {length: recover(start, length, comparator=comparator) for length in LENGTHS}
        seen = {length: cell for length, cell in cells.items() if cell is not None}
        return round(float(spearmanr(list(seen), list(seen.values())).statistic), 2)

    assert min(growth(start, "published") for start in STARTS) >= 0.71
    assert [growth(start, "fixed") for start in STARTS] == [-0.96, -0.96, 0.29, -0.88, -0.78, 0.67]
    clean = [recover(start, length, comparator="clean") for start in STARTS for length in LENGTHS]
    assert 1 <= min(clean) <= max(clean) <= 13


@pytest.mark.parametrize(("last", "expected"), [(118, None), (90, 57), (80, 53), (60, 35)])
def test_a_baseline_cut_short_is_easier_to_reach(recover, baseline, last, expected):
    cut = {epoch: value for epoch, value in baseline.val_loss.items() if epoch <= last}
    assert recover(10, 50, reference=cut) == expected


def test_tolerance_decides_who_recovers(published, baseline):
    curve = published["length_50", 10].val_loss
    found = recovered_at_tolerances(curve, baseline.val_loss, 59, (0.01, 0.0115, 0.0116, 0.0125))
    assert [value is not None for value in found.values()] == [False, False, True, True]  # excess: 1.1526 %


def test_length_runs(published, baseline, goldens, recover):
    for name, golden in goldens["length_experiments"]["runs"].items():
        start, length = golden["start"], golden["length"]
        run = published[f"length_{length}", start]
        own = summarize_trial(run.val_loss, run.rsa, start=start)
        cells = heatmap_deviation(run.val_loss, run.rsa, baseline.val_loss, baseline.rsa, start=start)
        recovery = recover(start, length)
        after = summarize_trial(run.val_loss, run.rsa, start=start + length)
        found = {
            "perturbation_end": run.disturbed[-1],
            "window_flagged": [run.disturbed[0], run.disturbed[-1], len(run.disturbed)],
            "n_rows": len(run.val_loss),
            "last_epoch": own.last_epoch,
            "recovery_epoch": nr(None if recovery is None else recovery + run.disturbed[-1]),
            "epochs_to_recovery": nr(recovery),
            "epochs_to_recovery_vs_baseline_min_only": nr(recover(start, length, comparator="fixed")),
            "min_test_loss": own.best_val_loss,
            "min_test_loss_epoch": own.best_epoch,
            "min_test_loss_deviation": cells.min_val_loss,
            "final_test_loss": own.final_val_loss,
            "max_rsa": own.max_rsa,
            "max_rsa_deviation": cells.max_rsa,
            "max_rsa_deviation_same_epochs": cells.max_rsa_same_epochs,
            "max_rsa_after_window": after.max_rsa,
            "gap_last_minus_argmin": own.last_epoch - own.best_epoch,
            "loss_first_perturbed_epoch": run.val_loss[start],
            "rsa_first_perturbed_epoch": run.rsa[start],
            "train_loss_first_perturbed_epoch": run.train_loss[start],
        }
        assert found == {key: golden[key] for key in found}, name


@pytest.mark.parametrize(
    ("golden", "cell"),
    [
        ("heatmap_max_rsa_deviation", "max_rsa"),
        ("heatmap_max_rsa_deviation_same_epochs", "max_rsa_same_epochs"),
        ("heatmap_min_loss_deviation", "min_val_loss"),
    ],
)
def test_heat_map(published, baseline, goldens, golden, cell):
    found = {}
    for length in LENGTHS:
        for start in STARTS:
            run = published[f"length_{length}", start]
            cells = heatmap_deviation(run.val_loss, run.rsa, baseline.val_loss, baseline.rsa, start=start)
            found.setdefault(str(length), {})[str(start)] = getattr(cells, cell)
    assert found == goldens["length_experiments"][golden]


def test_no_run_contradicts_its_shorter_runs(published):
    """Runs (2, 50), (7, 50), (70, 50) of the study do, by 1.4 to 17.3; none of them may be among the goldens."""
    for start in STARTS:
        for short, long in pairwise(LENGTHS):
            ours, theirs = published[f"length_{short}", start], published[f"length_{long}", start]
            for epoch in range(start, start + short):
                assert abs(ours.val_loss[epoch] - theirs.val_loss[epoch]) < 6e-6, (start, short, long, epoch)


def test_single_epoch_sweep(published, baseline, goldens):
    assert len(goldens["single_epoch_sweep"]) == 49
    for epoch_name, golden in goldens["single_epoch_sweep"].items():
        start = int(epoch_name)
        run = published["single_epoch_sweep", start]
        curves = (run.val_loss, run.rsa, baseline.val_loss, baseline.rsa)
        at, after = (baseline_delta(*curves, epoch=epoch) for epoch in (start, start + 1))
        own = summarize_trial(run.val_loss, run.rsa, start=start)
        found = {
            "delta_loss": at.val_loss,
            "delta_rsa": at.rsa,
            "delta_loss_next_epoch": after.val_loss,
            "delta_rsa_next_epoch": after.rsa,
            "min_test_loss": own.best_val_loss,
            "min_test_loss_epoch": own.best_epoch,
            "max_rsa": own.max_rsa,
            "last_epoch": own.last_epoch,
            "test_loss": run.val_loss[start],
            "train_loss": run.train_loss[start],
            "rsa": run.rsa[start],
            "baseline_test_loss": baseline.val_loss[start],
            "baseline_rsa": baseline.rsa[start],
            "first_epoch": min(run.val_loss),
            "n_rows": len(run.val_loss),
            "patience_seen_in_csv": own.last_epoch - own.best_epoch,
        }
        assert found == {key: golden[key] for key in found}, start
        assert run.disturbed == [start]


def test_early_noise_helps_alignment_only_there(published, baseline):
    """Odd epochs of the study's most robust result: positive for k = 2..7 only, largest at 5 (docs/methods.md 3.3)."""
    deltas = {
        start: baseline_delta(run.val_loss, run.rsa, baseline.val_loss, baseline.rsa, epoch=start).rsa
        for (group, start), run in published.items()
        if group == "single_epoch_sweep"
    }
    assert sorted(start for start, delta in deltas.items() if delta > 0) == [3, 5, 7]
    assert max(deltas, key=deltas.get) == 5


@pytest.mark.parametrize("kind", ["image_noise", "blank_image", "label_shuffle", "target_noise"])
def test_perturbation_type(published, baseline, goldens, kind):
    for start_name, golden in goldens["perturbation_types"][kind].items():
        start = int(start_name)
        run = published[GROUP_OF_TYPE.get(kind, kind), start]
        own = summarize_trial(run.val_loss, run.rsa, start=start)
        delta = baseline_delta(run.val_loss, run.rsa, baseline.val_loss, baseline.rsa, epoch=start)
        found = {
            "delta_loss": delta.val_loss,
            "delta_rsa": delta.rsa,
            "min_test_loss": own.best_val_loss,
            "last_epoch": own.last_epoch,
            "gap_last_minus_argmin": own.last_epoch - own.best_epoch,
        }
        assert found == golden, start


@pytest.mark.parametrize("seed", [1, 2])
def test_baseline(published, goldens, seed):
    run, golden = published[f"baseline_seed{seed}", 0], goldens["baseline"][f"seed{seed}"]
    own = summarize_trial(run.val_loss, run.rsa)
    found = {
        "n_epochs": len(run.val_loss),
        "last_epoch": own.last_epoch,
        "min_test_loss": own.best_val_loss,
        "min_test_loss_epoch": own.best_epoch,
        "rsa_at_min_test_loss": own.rsa_at_best_val_loss,
        "peak_rsa": own.max_rsa,
        "final_test_loss": own.final_val_loss,
        "first_epoch_train_loss": run.train_loss[1],
        "first_epoch_test_loss": run.val_loss[1],
        "first_epoch_rsa": run.rsa[1],
        "min_rsa": min(run.rsa.values()),
        "early_stop_gap": own.last_epoch - own.best_epoch,
    }
    assert found == {key: golden[key] for key in found}
    assert run.disturbed == []


def test_alignment_recovery_depends_on_the_trim_epoch(published, baseline):
    """Beyond the loss minimum the RSA there counts, not the RSA's peak: 16 of 42 cells tell (docs/methods.md 3.4)."""
    peak_epoch = max(baseline.rsa, key=baseline.rsa.get)
    assert peak_epoch == 53
    changed = 0
    for start in STARTS:
        for length in LENGTHS:
            curve = published[f"length_{length}", start].rsa
            found = [
                recovery_epochs(curve, baseline.rsa, start + length - 1, direction="higher", trim_epoch=trim)
                for trim in (98, peak_epoch)
            ]
            changed += found[0] != found[1]
    assert changed == 16


def test_files_equal_the_published_ones(published, real_data):
    """The compact copy holds every run of the source, value for value."""
    sources = [p for p in real_data.glob("published_runs/*/**/*.csv") if p.parent.name != "vit"]
    assert len(sources) + 2 == len(published)
    for path in sources:
        start = path.parent.name.split("_e")[-1].split("_l")[0] if "length" in path.parts else path.stem.split("run")[1]
        group = "length_" + path.parent.name.split("_l")[-1] if "length" in path.parts else path.parent.name
        run = published[group, int(start)]
        lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
        copied = [
            [repr(e), repr(run.train_loss[e]), repr(run.val_loss[e]), repr(run.rsa[e])] for e in sorted(run.val_loss)
        ]
        assert copied == [line[:4] for line in lines], path


def vit_table(real_data, name) -> list[Mapping[str, str]]:
    """Returns the rows of one of the ViT's files, or skips where the copy of the data lacks it."""
    path = real_data / "published_runs" / "vit" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_vit_deltas(real_data, goldens):
    """Every delta follows from the columns beside it; epochs are 0-based there, 1-based here."""
    rows = vit_table(real_data, "perturbation_effects.csv")
    kinds = ["gaussian", "uniform_gray", "label_shuffle", "target_noise"]
    assert [(int(r["perturb_epoch"]), r["perturbation_type"]) for r in rows] == [
        (start, kind) for start in VIT_STARTS for kind in kinds
    ]
    baseline_loss = {int(row["perturb_epoch"]) + 1: float(row["baseline_loss"]) for row in rows}
    baseline_rsa = {int(row["perturb_epoch"]) + 1: float(row["baseline_rsa"]) for row in rows}
    found = {}
    for row in rows:
        epoch = int(row["perturb_epoch"]) + 1
        own = {epoch: float(row["perturbed_loss"])}, {epoch: float(row["perturbed_rsa"])}
        delta = baseline_delta(*own, baseline_loss, baseline_rsa, epoch=epoch)
        found[row["perturb_epoch"], row["perturbation_type"]] = delta
        assert (delta.val_loss, delta.rsa) == (float(row["delta_loss"]), float(row["delta_rsa"])), row
    golden, delta = goldens["vit"]["epoch98_gaussian"], found["98", "gaussian"]
    assert (delta.val_loss, delta.rsa) == (golden["delta_loss"], golden["delta_rsa"])
    assert (baseline_loss[99], baseline_rsa[99]) == (golden["baseline_loss"], golden["baseline_rsa"])
    losses, alignments = ([float(row[name]) for row in rows] for name in ("perturbed_loss", "perturbed_rsa"))
    assert [min(alignments), max(alignments)] == goldens["vit"]["perturbed_rsa_range"]
    assert [min(losses) / 2, max(losses) / 2] == goldens["vit"]["perturbed_true_loss_range"]
    for row in vit_table(real_data, "perturbation_summary_table.csv"):
        delta = found.pop((row["perturb_epoch"], row["perturbation_type"]))
        assert (round(delta.val_loss, 4), round(delta.rsa, 4)) == (float(row["delta_loss"]), float(row["delta_rsa"]))
    assert not found


def test_vit_baseline(real_data, goldens):
    rows = vit_table(real_data, "rsa_results_final.csv")
    golden = goldens["vit"]
    val_loss = {int(row["epoch"]) + 1: float(row["val_loss"]) for row in rows}
    rsa = {int(row["epoch"]) + 1: float(row["rsa_score"]) for row in rows}
    own = summarize_trial(val_loss, rsa)
    found = {
        "n_epochs": len(val_loss),
        "first_rsa": rsa[1],
        "last_rsa": own.final_rsa,
        "peak_rsa": own.max_rsa,
        "peak_rsa_epoch_0based": max(rsa, key=rsa.get) - 1,
        "final_val_loss_as_published": own.final_val_loss,
        "final_val_loss_true": own.final_val_loss / 2,
    }
    assert found == {key: golden[key] for key in found}
    # The deltas' own baseline is this curve, its loss rounded and its RSA computed once more.
    for row in vit_table(real_data, "perturbation_effects.csv"):
        epoch = int(row["perturb_epoch"]) + 1
        assert round(val_loss[epoch], 6) == float(row["baseline_loss"])
        assert rsa[epoch] == pytest.approx(float(row["baseline_rsa"]), rel=1e-12)
