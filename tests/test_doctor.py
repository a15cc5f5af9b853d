"""The doctor on the self-made set, and on a made-up lab: real tables and RDM, drawn JPEGs, a small random CLIP."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from PIL import Image
from sweeper_models import dora
from sweeper_models.backbones import load_backbone
from sweeper_models.weights import WeightsFile, locate_weights

from sweeper.cli import main
from sweeper.doctor import Report, Row, Unfinished, examine
from sweeper.doctor.measure import Measurements, measure
from sweeper.doctor.network_checks import NetworkChecks
from sweeper.doctor.published import PUBLISHED_NETWORK, NetworkFigures
from sweeper.inputs import dataset_of, weights_of
from sweeper.spec.axes import expand
from sweeper.spec.load import load_spec
from sweeper.spec.schema import TrialConfig

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "experiments" / "quickstart.yaml"
POOL_TABLE = "spose_embedding66d_rescaled_1806train.csv"
HELD_OUT_TABLE = "spose_embedding66d_rescaled_48val_reordered.csv"
RSA = "untrained RSA of image features, 1 - Pearson"
BATCH = "predictions of the first batch: mean, min, max"
ORDERING = "targets against behaviour (Spearman)"

MANIFEST = """\
name: lab
images: {{folder: "{images}", pattern: "{{name}}"}}
targets: {{file: "{tables}/spose_embedding66d_rescaled_1806train.csv", format: spose-csv}}
held_out:
  targets: {{file: "{held_out}", format: spose-csv}}
references:
  - {{name: behavioral48, kind: behavioral, file: "{tables}/RDM48_triplet.mat", key: RDM48_triplet, rows: held_out}}
"""
SPEC = """\
name: lab
data: {{manifest: {manifest}, relabel: {relabel}, preprocessing: {preprocessing}, split: {split}}}
model:
  backbone: {backbone}
  pretrained: {pretrained}
  activation: {activation}
  adapter: {{init: reference}}
training: {{order: published, max_epochs: 3}}
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class MadeUpLab:
    """A folder with what a lab has; `spec` writes one more spec for it."""

    def __init__(self, folder: Path, tables: Path) -> None:
        self.folder, self.tables, self.images = folder, tables, folder / "images"
        self.images.mkdir()
        rng = np.random.default_rng(0)
        for table in (POOL_TABLE, HELD_OUT_TABLE):
            for line in (tables / table).read_text().splitlines()[1:]:
                coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize((48, 44)).save(self.images / line.split(",")[1], quality=90)
        self.manifest = self.write_manifest("lab.yaml", tables / HELD_OUT_TABLE)

    def write_manifest(self, name: str, held_out: Path) -> Path:
        path = self.folder / name
        path.write_text(MANIFEST.format(images=self.images, tables=self.tables, held_out=held_out))
        return path

    def spec(self, **fields: object) -> Path:
        values = {
            "manifest": self.manifest,
            "relabel": "none",
            "preprocessing": "things",
            "split": "published",
            "backbone": "tiny-clip",
            "pretrained": "random",
            "activation": "quick_gelu",
        }
        path = self.folder / f"spec{len(list(self.folder.glob('spec*')))}.yaml"
        path.write_text(SPEC.format(**values | fields))
        return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> MadeUpLab:
    folder = Path(os.environ.get("SWEEPER_TEST_DATA") or ROOT / "../shared/data").resolve() / "lab_files"
    if not folder.is_dir():
        pytest.skip(f"real tables not found in {folder}: set SWEEPER_TEST_DATA")
    return MadeUpLab(tmp_path_factory.mktemp("lab"), folder)


def parts_of(spec: Path) -> tuple[TrialConfig, WeightsFile, Measurements]:
    config = expand(load_spec(spec))[0].config
    weights = weights_of(config.model)
    return config, weights, measure(config, weights, dataset_of(config))


@pytest.fixture(scope="module")
def figures(lab: MadeUpLab) -> NetworkFigures:
    """What the "published" network of this lab computes: the small random one, set up correctly."""
    measured = parts_of(lab.spec())[2]
    assert measured.rsa is not None
    assert measured.rsa_cosine is not None
    return NetworkFigures(
        backbone="tiny-clip",
        pretrained="random",
        output_scale=measured.output_scale,
        rsa=measured.rsa,
        rsa_cosine=measured.rsa_cosine,
        rsa_tolerance=1e-7,  # this small network hardly notices another activation
        predictions=measured.predictions,
        predictions_tolerance=(1e-3, 1e-3, 1e-3),
        first_loss=measured.first_loss,
        first_loss_tolerance=1e-2,
        num_trainable=measured.num_trainable,
    )


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    clip = load_backbone(locate_weights("tiny-clip", "random", activation="quick_gelu")).clip
    safetensors.torch.save_file({k: v.contiguous() for k, v in clip.state_dict().items()}, path)
    return path


def row_of(report: Report, name: str) -> Row:
    (row,) = [row for row in report.rows if row.name == name]
    return row


def verdicts(report: Report, verdict: str) -> set[str]:
    return {row.name for row in report.rows if row.verdict == verdict}


def test_a_lab_that_has_everything_right_is_told_so(lab: MadeUpLab, figures: NetworkFigures) -> None:
    report = examine(load_spec(lab.spec()), figures=figures)
    assert verdicts(report, "ok") == {row.name for row in report.rows}, report.to_text()
    assert not report.has_failed
    assert report.to_text().splitlines()[-1].startswith("verdict: network and data are the published ones")
    assert row_of(report, ORDERING).found == "0.8644; alphabetical 0.0365"
    assert row_of(report, "mislabelled rows in use").found.startswith("20 + 1 held out")
    assert "ramp, steamroller, doorknob" in row_of(report, "first batch").found


def test_the_alphabetical_table_is_named_as_the_cause_everywhere(lab: MadeUpLab, figures: NetworkFigures) -> None:
    head, *lines = (lab.tables / HELD_OUT_TABLE).read_text().splitlines()
    table = lab.folder / "48val.csv"
    table.write_text("\n".join([head, *sorted(lines, key=lambda line: line.split(",")[1])]) + "\n")
    spec = lab.spec(manifest=lab.write_manifest("alphabetical.yaml", table))
    report = examine(load_spec(spec), figures=figures)
    assert report.has_failed
    for name in (ORDERING, "order of the 48: first, last", RSA):
        row = row_of(report, name)
        assert row.verdict == "failed"
        assert row.cause is not None
        assert "alphabetical order" in row.cause
    assert row_of(report, ORDERING).found.startswith("0.0365")
    assert row_of(report, BATCH).verdict == "ok"


def test_clips_constants_are_named_as_a_choice(lab: MadeUpLab, figures: NetworkFigures) -> None:
    report = examine(load_spec(lab.spec(preprocessing="clip")), figures=figures)
    for name in ("image constants", RSA, BATCH):
        row = row_of(report, name)
        assert row.verdict == "deviates"
        assert row.cause is not None
        assert "CLIP's image constants" in row.cause
    assert f"with THINGS's {figures.rsa:.4f}" in row_of(report, "image constants").found
    assert not report.has_failed


def test_constants_that_nobody_chose_are_found_by_their_effect(lab: MadeUpLab, figures: NetworkFigures) -> None:
    config, weights, measured = parts_of(lab.spec())
    wrong = replace(measured, rsa=measured.rsa_other_constants, rsa_other_constants=measured.rsa)
    checks = NetworkChecks(config, weights, wrong, figures, inapplicable=None, order_cause=None)
    row = next(row for row in checks.rows() if row.name == RSA)
    assert row.verdict == "failed"
    assert row.cause is not None
    assert row.cause.startswith("CLIP's image constants")


def test_gelu_on_weights_of_quickgelu_is_found(lab: MadeUpLab, figures: NetworkFigures, weights_path: Path) -> None:
    right = examine(load_spec(lab.spec(pretrained=weights_path)), figures=figures)
    assert verdicts(right, "ok") == {row.name for row in right.rows}, right.to_text()
    wrong = examine(load_spec(lab.spec(pretrained=weights_path, activation="gelu")), figures=figures)
    for name in ("activation", RSA, BATCH):
        row = row_of(wrong, name)
        assert row.verdict == "failed"
        assert row.cause is not None
        assert row.cause.startswith("GELU instead of QuickGELU")
    assert row_of(wrong, "activation").found.endswith(f"with the other {figures.rsa:.4f}")


def test_other_weights_under_the_same_name_fail(lab: MadeUpLab, figures: NetworkFigures, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    clip = load_backbone(locate_weights("tiny-clip", "random:5", activation="quick_gelu")).clip
    safetensors.torch.save_file({k: v.contiguous() for k, v in clip.state_dict().items()}, path)
    row = row_of(examine(load_spec(lab.spec(pretrained=path)), figures=figures), RSA)
    assert row.verdict == "failed"
    assert row.cause is not None
    assert row.cause.startswith("other weights")


def test_another_backbone_and_split_are_choices(lab: MadeUpLab, figures: NetworkFigures) -> None:
    spec = lab.spec(pretrained="builtin", activation="null", split="hashed")
    report = examine(load_spec(spec), figures=figures)
    row = row_of(report, RSA)
    assert row.verdict == "deviates"
    assert row.cause is not None
    assert row.cause.startswith("other backbone: tiny-clip builtin")
    assert {"backbone", "first batch", "split: first train, validation positions"} <= verdicts(report, "deviates")
    assert row_of(report, "split: train, validation").verdict == "ok"
    assert not report.has_failed


def test_repaired_rows_are_a_choice(lab: MadeUpLab, figures: NetworkFigures) -> None:
    report = examine(load_spec(lab.spec(relabel="things-uniqueid")), figures=figures)
    changed = {"target scale: mean, SD", "mislabelled rows in use", ORDERING}
    assert verdicts(report, "deviates") == changed, report.to_text()
    assert row_of(report, ORDERING).found == "0.8648; alphabetical 0.0367"
    assert row_of(report, "repair by relabel: rows left, targets against behaviour").verdict == "ok"
    assert not report.has_failed


def test_without_weights_the_data_are_checked_all_the_same(lab: MadeUpLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(lab.folder / "nothing"))
    spec = lab.spec(backbone="ViT-L-14", pretrained="openai")
    with pytest.raises(Unfinished) as caught:
        examine(load_spec(spec))
    assert caught.value.report is not None
    assert row_of(caught.value.report, ORDERING).verdict == "ok"
    outcome = CliRunner().invoke(main, ["doctor", "--model", str(spec)])
    assert outcome.exit_code == 2
    assert "Download https://huggingface.co/" in outcome.output
    assert "0.8644; alphabetical 0.0365" in outcome.output
    assert "the network was not examined" in outcome.output


def test_json_names_absent_weights_beside_the_checks_that_were_made(
    lab: MadeUpLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(lab.folder / "nothing"))
    spec = lab.spec(backbone="ViT-L-14", pretrained="openai")
    outcome = CliRunner().invoke(main, ["doctor", "--model", str(spec), "--json"])
    assert outcome.exit_code == 2
    document = json.loads(outcome.stdout)
    assert set(document) == {"schema_version", "rows"}
    assert {tuple(row) for row in document["rows"]} == {("name", "expected", "found", "verdict", "cause", "remedy")}
    *made, absent = document["rows"]
    assert len(made) > 10
    assert {row["verdict"] for row in made} == {"ok"}
    assert (absent["name"], absent["verdict"]) == ("model.pretrained", "not examined")
    assert "the weights ViT-L-14 openai lie on this machine" in absent["expected"]
    assert absent["remedy"].startswith("Download https://huggingface.co/")
    assert "error: model.pretrained" in outcome.stderr


@pytest.mark.parametrize(
    ("manifest", "place", "rule"),
    [
        ("missing.yaml", "", "the manifest is a readable text file"),
        ("unset.yaml", ":2:10", "the variable SWEEPER_NO_SUCH of a path is set"),
        ("absent.yaml", ":3:11", "the file exists"),
    ],
)
def test_json_names_data_that_cannot_be_had(manifest: str, place: str, rule: str, tmp_path: Path) -> None:
    tables = "targets: {file: nowhere/table.csv, format: spose-csv}\n"
    (tmp_path / "unset.yaml").write_text("name: a\nimages: {folder: '${SWEEPER_NO_SUCH}'}\n" + tables)
    (tmp_path / "absent.yaml").write_text("name: a\nimages: {folder: nowhere}\n" + tables)
    spec = tmp_path / "spec.yaml"
    fields = {"relabel": "none", "preprocessing": "things", "split": "published", "activation": "quick_gelu"}
    model = {"backbone": "tiny-clip", "pretrained": "random"}
    spec.write_text(SPEC.format(manifest=tmp_path / manifest, **fields, **model))
    outcome = CliRunner().invoke(main, ["doctor", "--model", str(spec), "--json"])
    assert outcome.exit_code == 2
    rows = [row for row in json.loads(outcome.stdout)["rows"] if row["verdict"] == "not examined"]
    assert any(row["name"].startswith(f"{tmp_path / manifest}{place}") and rule in row["expected"] for row in rows)
    assert all("images are not those of THINGS" not in str(row["cause"]) for row in json.loads(outcome.stdout)["rows"])


def test_without_pictures_the_tables_are_checked_all_the_same(lab: MadeUpLab) -> None:
    manifest = lab.folder / "empty.yaml"
    manifest.write_text(lab.manifest.read_text().replace(str(lab.images), str(lab.folder / "absent")))
    with pytest.raises(Unfinished, match="the folder of images exists") as caught:
        examine(load_spec(lab.spec(manifest=manifest)))
    assert caught.value.report is not None
    assert verdicts(caught.value.report, "ok") == {row.name for row in caught.value.report.rows}


def test_broken_tables_are_found(lab: MadeUpLab, figures: NetworkFigures) -> None:
    head, *lines = (lab.tables / POOL_TABLE).read_text().splitlines()
    cells = [line.split(",") for line in lines]
    values = np.array([row[2:] for row in cells], dtype=np.float64)
    values *= 100 / values.max(axis=0)
    (lab.folder / "tables").mkdir()
    for name in (HELD_OUT_TABLE, "RDM48_triplet.mat"):
        (lab.folder / "tables" / name).symlink_to(lab.tables / name)
    scaled = [",".join([*row[:2], *map(repr, new)]) for row, new in zip(cells, values.tolist(), strict=True)]
    swapped = [scaled[i] for i in np.random.default_rng(0).permutation(len(scaled))]
    (lab.folder / "tables" / POOL_TABLE).write_text("\n".join([head, *swapped]) + "\n")
    manifest = lab.folder / "scaled.yaml"
    manifest.write_text(lab.manifest.read_text().replace(str(lab.tables), str(lab.folder / "tables")))
    report = examine(load_spec(lab.spec(manifest=manifest)), figures=figures)
    assert row_of(report, "target scale: mean, SD").cause == "each dimension was rescaled by itself"
    cause = row_of(report, "first batch").cause
    assert cause is not None
    assert "another order" in cause
    assert row_of(report, BATCH).verdict == "failed"
    assert row_of(report, RSA).verdict == "ok"


@pytest.fixture(scope="module")
def stand_in_parts() -> tuple[TrialConfig, WeightsFile, Measurements]:
    return parts_of(QUICKSTART)


def vit_l_14(measured: Measurements) -> Measurements:
    """A network that computes what the study's does."""
    return replace(
        measured,
        activations=("quick_gelu",),
        output_scale=100.00001,
        rsa=0.31824,
        rsa_cosine=0.3198,
        rsa_other_activation=0.25,
        rsa_other_constants=0.31,
        predictions=(13.7, 4.2, 23.9),
        first_loss=171.0,
        num_trainable=183_040,
        smallest_side=480,
        image_size=224,
    )


@pytest.mark.parametrize(
    ("changes", "name", "cause"),
    [
        ({}, None, ""),
        ({"dead": ("a.lora_A",)}, "adapters alive: tensors with a gradient", "goes round"),
        ({"output_change": 0.0}, "adapters alive: change of an output by a random start", "goes round"),
        ({"prefix_error": 0.5}, "cached prefix against full forward", "reduced precision"),
        ({"rsa_outputs": None}, "untrained RSA of the 66 outputs", "equal"),
        ({"output_scale": 14.3}, "scale of outputs", "OpenAI"),
        ({"rsa": 0.25, "rsa_other_activation": 0.318}, RSA, "GELU"),
        ({"rsa": 0.25, "smallest_side": 224}, RSA, "centre-cropped"),
        ({"rsa": 0.25}, RSA, "other weights"),
        ({"predictions": (18.0, 4.0, 24.0)}, BATCH, "pictures of the pool"),
    ],
)
def test_published_figures_are_judged(
    stand_in_parts: tuple[TrialConfig, WeightsFile, Measurements],
    changes: dict[str, object],
    name: str | None,
    cause: str,
) -> None:
    config, weights, measured = stand_in_parts
    model = config.model.model_copy(update={"backbone": "ViT-L-14", "pretrained": "openai"})
    config = config.model_copy(update={"model": model})
    weights = replace(weights, activation="quick_gelu", config_name="ViT-L-14")
    found = replace(vit_l_14(measured), **changes)  # type: ignore[arg-type]
    checks = NetworkChecks(config, weights, found, PUBLISHED_NETWORK, inapplicable=None, order_cause=None)
    rows = {row.name: row for row in checks.rows()}
    assert name is None or rows[name].verdict == "failed"
    assert name is None or cause in str(rows[name].cause)
    if name is None:
        assert {row.verdict for row in rows.values()} == {"ok"}


def test_dead_adapters_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dora.PublishedDoraLinear, "forward", lambda self, x: self.get_base_layer()(x))
    report = examine(load_spec(QUICKSTART))
    row = row_of(report, "adapters alive: tensors with a gradient")
    assert (row.verdict, row.found[:6]) == ("failed", "0 of 9")
    assert row_of(report, "adapters alive: change of an output by a random start").verdict == "failed"
    assert report.has_failed


@pytest.mark.parametrize("as_json", [False, True])
def test_a_stand_in_is_sound_but_has_no_published_figures(as_json: bool) -> None:
    arguments = ["doctor", "--model", str(ROOT / "experiments" / "length_grid.yaml"), "--stand-in"]
    outcome = CliRunner().invoke(main, [*arguments, *(["--json"] if as_json else [])])
    assert outcome.exit_code == 0, outcome.output
    if as_json:
        document = json.loads(outcome.output)
        assert set(document) == {"schema_version", "rows"}
        assert set(document["rows"][0]) == {"name", "expected", "found", "verdict", "cause", "remedy"}
        by_name = {row["name"]: row for row in document["rows"]}
        assert by_name[RSA]["verdict"] == "not applicable"
        assert by_name[RSA]["cause"] == "stand-in: published figures do not apply"
        assert by_name["adapters alive: tensors with a gradient"]["verdict"] == "ok"
        return
    lines = outcome.output.splitlines()
    assert any(line.startswith("STAND-IN") for line in lines)
    assert lines[-1].startswith("verdict: sound as far as could be checked; published figures do not apply")


def test_the_table_is_aligned_and_causes_stand_under_their_rows() -> None:
    rows = (
        Row(name="a", expected="1", found="1", verdict="ok"),
        Row(name="long name", expected="22", found="3", verdict="failed", cause="why", remedy="do it"),
    )
    lines = Report(title="t", rows=rows).to_text().splitlines()
    assert lines[2].index("found") == lines[3].index("1", lines[3].index("1") + 1) == lines[4].index("3")
    assert lines[5:7] == ["    likely cause: why", "    remedy: do it"]
    assert lines[-1] == "verdict: FAILED (1 ok, 1 failed): long name"


def test_swept_networks_are_told() -> None:
    assert "only those of the first trial" in str(_subject_cause())


def _subject_cause() -> str | None:
    from sweeper.doctor.examination import _subject

    config = expand(load_spec(QUICKSTART))[0]
    other = config.config.model.model_copy(update={"pretrained": "random"})
    second = replace(config, config=config.config.model_copy(update={"model": other}))
    return _subject((config, second)).cause
