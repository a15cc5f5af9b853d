from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweeper.data.manifest import load_manifest
from sweeper.data.verify import Finding, verify_manifest

from .conftest import Lab
from .test_dataset import THINGS


def findings_of(path: Path) -> list[Finding]:
    return verify_manifest(load_manifest(path))


def only(findings: list[Finding], level: str, check: str) -> Finding:
    (found,) = [f for f in findings if (f.level, f.check) == (level, check)]
    return found


def bad(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.level in ("warning", "error")]


def test_good_manifest_has_nothing_to_complain_about(lab: Lab) -> None:
    findings = findings_of(lab.manifest())
    assert bad(findings) == []
    assert "1.0000 in the given order" in only(findings, "ok", "row order").message
    assert "5 held out, 12 in the pool" in only(findings, "ok", "held-out set").message
    assert "2 trials" in only(findings, "ok", "triplets").message
    assert all("manifest.yaml:" in f.where for f in findings)


def test_what_cannot_be_read_does_not_stop_the_other_checks(lab: Lab) -> None:
    (lab.folder / "images" / "thing03.png").unlink()
    (lab.folder / "trials.npz").unlink()
    findings = findings_of(lab.manifest())
    assert [f.check for f in bad(findings)] == ["files", "images"]
    assert only(findings, "ok", "row order")


def test_missing_and_broken_images_are_told_in_one_run(lab: Lab) -> None:
    folder = lab.folder / "images"
    (folder / "thing03.png").unlink()
    (folder / "thing05.png").write_bytes(b"\x89PNG nothing")
    (folder / "apple.png").unlink()
    (folder / "boat.png").write_bytes(b"")
    (folder / "thing07.png").write_bytes((folder / "thing04.png").read_bytes())
    (folder / "kiwi.png").write_bytes((folder / "thing04.png").read_bytes())
    findings = findings_of(lab.manifest())
    pool, held_out = (f for f in findings if (f.level, f.check) == ("error", "images"))
    assert "2 of 12 images cannot be used, 1 missing and 1 undecodable: thing03 (missing), thing05 (" in pool.message
    assert "2 of 5 images cannot be used, 1 missing and 1 undecodable: apple (missing), boat (" in held_out.message
    assert str(lab.folder) not in pool.message + held_out.message
    assert pool.remedy is not None
    assert "pattern" in pool.remedy
    assert "thing07 = thing04" in only(findings, "warning", "images").message
    assert "kiwi = thing04" in only(findings, "error", "held-out set").message
    assert not [f for f in findings if f.check == "files"]


def test_an_unreadable_image_stops_no_other_check(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name in ("thing03.png", "kiwi.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (lab.folder / "images" / "thing03.png").write_bytes(b"nothing")
    findings = findings_of(lab.manifest())
    assert "1 undecodable: thing03 (" in only(findings, "error", "images").message
    assert only(findings, "ok", "row order")


def test_images_found_by_a_search_are_told_likewise(lab: Lab) -> None:
    (lab.folder / "images" / "thing03.png").unlink()
    (lab.folder / "images" / "thing05.png").write_bytes(b"nothing")
    for target in ("pattern: '*.png'", "pattern: '**/*.png'"):
        text = lab.text.replace('pattern: "{name}.png"', target)
        found = only(findings_of(lab.manifest(text)), "error", "images").message
        assert "thing03 (missing), thing05 (" in found


def test_many_bad_images_are_counted(lab: Lab) -> None:
    folder = lab.folder / "images"
    names = tuple(f"thing{i:02d}" for i in range(30))
    lab.write_table("targets.csv", names, np.random.default_rng(1).random((30, 4)).astype(np.float32) * 100)
    for name in lab.names[:5]:
        (folder / f"{name}.png").write_bytes(b"nothing")
    found = only(findings_of(lab.manifest()), "error", "images").message
    assert "23 of 30 images cannot be used, 18 missing and 5 undecodable: thing12 (missing), thing13 (" in found
    assert "thing01 (cannot identify image file) and 3 more" in found
    assert "thing02" not in found


def test_images_missing_from_an_array_are_told_by_the_reader(lab: Lab) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (11, 4, 4, 3), dtype=np.uint8)
    np.savez(lab.folder / "pool.npz", images=pixels, names=np.array(lab.names[:11]))
    images = "images: {file: pool.npz, key: images, names: names}"
    text = lab.text.replace('images: {folder: images, pattern: "{name}.png"}', images)
    text = text.replace("held_out:\n", 'held_out:\n  images: {folder: images, pattern: "{name}.png"}\n')
    found = only(findings_of(lab.manifest(text)), "error", "files").message
    assert "1 missing, first thing11" in found


def test_broken_and_repeated_images_are_found(lab: Lab) -> None:
    folder = lab.folder / "images"
    (folder / "thing03.png").write_bytes(b"\x89PNG nothing")
    (folder / "thing05.png").write_bytes((folder / "thing04.png").read_bytes())
    (folder / "kiwi.png").write_bytes((folder / "thing04.png").read_bytes())
    findings = findings_of(lab.manifest())
    assert (
        "1 of 12 images cannot be used, 0 missing and 1 undecodable: thing03"
        in only(findings, "error", "images").message
    )
    assert "thing05 = thing04" in only(findings, "warning", "images").message
    assert "kiwi = thing04" in only(findings, "error", "held-out set").message


def test_alphabetical_rdm_is_found(lab: Lab) -> None:
    order = sorted(range(5), key=lambda i: lab.held_out_names[i])
    np.savez(lab.folder / "rdm.npz", rdm=lab.rdm[np.ix_(order, order)])
    found = only(findings_of(lab.manifest()), "error", "row order")
    assert "its rows are in alphabetical order" in found.message
    assert found.remedy is not None


def test_scale_and_repeated_targets_are_found(lab: Lab) -> None:
    values = lab.targets / lab.targets.max(axis=0)
    values[3] = values[2]
    lab.write_table("targets.csv", lab.names, values)
    messages = [f.message for f in bad(findings_of(lab.manifest())) if "targets" in f.message]
    assert any("rescaled by itself" in m for m in messages)
    assert any("not on the scale 0..100" in m for m in messages)
    assert any("1 rows repeat" in m for m in messages)


def test_missing_provenance_is_noted(lab: Lab) -> None:
    text = lab.text.replace("source: made for a test\nlicence: none needed\n", "")
    assert {f.check for f in findings_of(lab.manifest(text)) if f.level == "note"} == {"source", "licence"}


def test_trial_with_the_same_image_twice_is_found(lab: Lab) -> None:
    np.savez(lab.folder / "trials.npz", triplets=np.array([[0, 1, 1]]), odd_position=np.array([0]))
    assert only(findings_of(lab.manifest()), "error", "triplets").message.startswith("1 trials")


@pytest.fixture
def things(real_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "things.yaml"
    path.write_text(THINGS.replace("LAB", str(real_data / "lab_files")))
    return path


def test_mislabelled_rows_are_found_without_any_image(things: Path) -> None:
    findings = findings_of(things)
    assert "21 mislabelled SPoSE rows (20 in the pool, 1 held out)" in only(findings, "note", "labels").message
    order = only(findings, "ok", "row order").message
    assert "0.8648 in the given order" in order
    assert "0.0367 in alphabetical order" in order
    things.write_text(things.read_text() + "relabel: none\n")
    findings = findings_of(things)
    assert only(findings, "warning", "labels").remedy is not None
    assert "0.8644 in the given order, 0.0365 in alphabetical order" in only(findings, "ok", "row order").message


def test_alphabetical_table_of_the_48_is_found(things: Path, real_data: Path) -> None:
    table = real_data / "lab_files" / "spose_embedding66d_rescaled_48val_reordered.csv"
    header, *rows = table.read_text().splitlines()
    rows.sort(key=lambda row: row.split(",")[1])
    (things.parent / "48val.csv").write_text("\n".join([header, *rows]) + "\n")
    things.write_text(things.read_text().replace(str(table), "48val.csv"))
    found = only(findings_of(things), "error", "row order")
    assert "its rows are in published (pizza, beaver, ...) order" in found.message


def test_shipped_manifests_verify(experiments: Path) -> None:
    photos = findings_of(experiments / "photos484.yaml")
    assert bad(photos) == []
    assert "484 images exist and decode (300x300 pixels)" in only(photos, "ok", "images").message
    assert "the odd one in 0.709" in only(photos, "ok", "triplets").message
    assert bad(findings_of(experiments / "objects92.yaml")) == []


def test_lab_layout_in_folders_per_concept(lab: Lab) -> None:
    folder = lab.folder / "archive"
    for concept in ("kiwi", "music_box"):
        (folder / concept).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / concept / f"{concept}_01b.jpg")
    (lab.folder / "t.csv").write_text("n,v,w\nkiwi_01b.jpg,50,3\nmusic_box_01b.jpg,2,9\n")
    text = "name: a\nimages: {folder: archive, pattern: '{concept}/{name}'}\ntargets: {file: t.csv, names: n}\n"
    assert "2 images exist" in only(findings_of(lab.manifest(text)), "ok", "images").message
