"""COCO files written from our maps and from predictions: read back, and read by pycocotools."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.image_io import read_mask
from sam_med2d.data.record_checks import load_checked
from sam_med2d.dataset_conversion.archives import unpacked
from sam_med2d.dataset_conversion.dataset_spec import FoundSamples
from sam_med2d.dataset_conversion.formats.coco import find
from sam_med2d.dataset_conversion.samples import Choice, Sample
from scripts import export_annotations
from tests.helpers.commands import run_command
from tests.helpers.round_trips import SIZE, ellipse

pytest.importorskip("pycocotools")


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*SIZE, 3), 90, np.uint8))


def found(source: Path, **options: object) -> FoundSamples:
    return find(unpacked(source, source / ".scratch"), Choice(options=options))


def masks_of(sample: Sample) -> list[tuple[str, np.ndarray]]:
    sources = pickle.loads(pickle.dumps(sample.masks))  # other processes read them
    return [(source.structure, source.decode(source.path, SIZE)) for source in sources]


@pytest.fixture
def data(tmp_path) -> Path:
    """A small data set in our layout: two splits, two masks of one structure, holes and single pixels."""
    folder, generator = tmp_path / "data", np.random.default_rng(0)
    maps: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for name, split, structures in (
        ("b", "train", ("vessel", "vessel")),
        ("a", "train", ("disc",)),
        ("c", "test", ("disc",)),
    ):
        picture(folder / f"images/{name}.jpg")
        masks = []
        for i, structure in enumerate(structures):
            masks.append(f"masks/{name}_{structure}_{i:03d}.png")
            (folder / "masks").mkdir(exist_ok=True)
            noise = generator.random(SIZE) < 0.4
            cv2.imwrite(str(folder / masks[-1]), (noise & (ellipse(25, 40, 9, 9) | (i == 0))).astype(np.uint8) * 255)
        maps[split][f"images/{name}.jpg"] = masks
    for split, content in maps.items():
        (folder / f"image2label_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("flags", [(), ("--polygons",)])
def test_export_and_import_give_the_same_masks(data, flags, capsys):
    assert run_command(export_annotations, [str(data), str(data / "coco.json"), *flags, "--format", "coco"]) == 0
    assert "3 images, 4 annotations, 2 categories" in capsys.readouterr().out
    samples = {sample.name: sample for sample in found(data / "coco.json", instances=True).samples}
    for split in ("train", "test"):
        for record in load_checked(data, split):
            sample = samples[record.image.stem]
            assert (sample.split, sample.image) == (split, record.image)
            written = sorted((ref.structure, read_mask(ref.path).tobytes()) for ref in record.masks)
            read = sorted((structure, mask.astype(np.uint8).tobytes()) for structure, mask in masks_of(sample))
            assert read == written


def test_the_file_is_what_pycocotools_reads(data):
    from pycocotools.coco import COCO as Reader

    run_command(export_annotations, [str(data), str(data / "coco.json"), "--format", "coco"])
    reader = Reader(str(data / "coco.json"))
    assert [category["name"] for category in reader.loadCats(reader.getCatIds())] == ["disc", "vessel"]
    by_name = {image["file_name"]: image for image in reader.loadImgs(reader.getImgIds())}
    assert list(by_name) == ["images/a.jpg", "images/b.jpg", "images/c.jpg"]  # ids go by names
    for record in load_checked(data, "train"):
        image = by_name[f"images/{record.image.name}"]
        annotations = reader.loadAnns(reader.getAnnIds(imgIds=image["id"]))
        for ref, annotation in zip(record.masks, annotations, strict=True):
            mask = read_mask(ref.path)
            assert np.array_equal(reader.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == list(cv2.boundingRect(mask))


def test_a_split_and_the_same_ids_again(data):
    run_command(export_annotations, [str(data), str(data / "one.json"), "--split", "test", "--format", "coco"])
    content = json.loads((data / "one.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["images/c.jpg"]
    before = (data / "one.json").read_bytes()
    run_command(export_annotations, [str(data), str(data / "one.json"), "--split", "test", "--format", "coco"])
    assert (data / "one.json").read_bytes() == before


def test_bad_input_of_the_export(data, tmp_path, capsys):
    (tmp_path / "folder.json").mkdir()
    for words, message in (
        ([data, data / "coco.txt"], "must end in .json"),
        ([data, data / "image2label_train.json"], "has the name of a map"),
        ([data, tmp_path / "folder.json"], "is a folder: give the name of a file"),
        ([data, "/proc/coco.json"], "OUT: cannot write to /proc"),
        ([tmp_path / "nothing", data / "coco.json"], "has no map"),
        ([data, data / "coco.json", "--split", "val"], "has no image2label_val.json: it has train, test"),
    ):
        assert run_command(export_annotations, [*words, "--format", "coco"]) == 2
        assert message in capsys.readouterr().err
    run_command(export_annotations, [str(data), str(tmp_path / "far" / "coco.json"), "--format", "coco"])
    assert "../data/images/a.jpg lies outside" in capsys.readouterr().out
    (data / "masks" / "c_disc_000.png").write_bytes(b"")
    assert run_command(export_annotations, [str(data), str(data / "coco.json"), "--format", "coco"]) == 2
    assert "c_disc_000.png" in capsys.readouterr().err and not (data / "coco.json").exists()
