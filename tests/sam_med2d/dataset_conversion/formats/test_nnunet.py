"""Data sets of nnU-Net: labels and regions, channels, splits, pictures and NIfTI."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.records import load_index
from sam_med2d.dataset_conversion.dataset_spec import FoundSamples
from sam_med2d.dataset_conversion.formats.nnunet import NNUNET
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError
from tests.helpers.round_trips import SIZE, ellipse, masks_in, read_back

DISC, CUP = ellipse(18, 25, 10, 9), ellipse(17, 25, 4, 5)
LABELS = DISC.astype(np.uint8) + CUP
COLOURS = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)  # RGB


def dataset_json(folder: Path, **about: object) -> None:
    content = {
        "channel_names": {"0": "R"},
        "labels": {"background": 0, "disc": [1, 2], "cup": 2},
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(content | about))


def put(folder: Path, *names: str, **about: object) -> Path:
    """dataset.json and PNGs: photographs, or with labels in their path maps of labels."""
    folder.mkdir(exist_ok=True)
    dataset_json(folder, **about)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), LABELS if name.startswith("labels") else COLOURS[..., ::-1])
    return folder


def found(folder: Path, **options: object) -> FoundSamples:
    return NNUNET.find(Tree(folder), Choice(options=options))


def masks(folder: Path) -> dict[str, np.ndarray]:
    [sample] = found(folder).samples
    return {source.structure: source.decode(source.path, SIZE) for source in sample.masks}


def test_regions_and_labels(tmp_path):
    read = masks(put(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png"))
    assert np.array_equal(read["disc"], DISC) and np.array_equal(read["cup"], CUP)
    dataset_json(tmp_path, labels={"0": "background", "1": "rim", "2": "cup"})  # nnU-Net 1
    read = masks(tmp_path)
    assert np.array_equal(read["rim"], DISC & ~CUP) and np.array_equal(read["cup"], CUP)
    dataset_json(tmp_path, labels={"background": 0, "rim": 1, "ignore": 2})
    read = masks(tmp_path)
    assert read.keys() == {"rim"} and np.array_equal(read["rim"], DISC & ~CUP)
    dataset_json(tmp_path, labels={"background": 0, "rim": 1})
    with pytest.raises(DataError, match=r"a\.png holds the value\(s\) 2; its classes are 0, 1"):
        masks(tmp_path)


def test_splits(tmp_path):
    names = [f"{kind}{part}" for part in ("Tr/a", "Tr/b", "Ts/c") for kind in ("images", "labels")]
    put(tmp_path, *(f"{name}_0000.png" if name.startswith("images") else f"{name}.png" for name in names))
    splits = {"a": "train", "b": "train", "c": "test"}
    assert {sample.name: sample.split for sample in found(tmp_path).samples} == splits
    (tmp_path / "splits_final.json").write_text('[{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]')
    assert {sample.name: sample.split for sample in found(tmp_path).samples} == splits | {"b": "val"}
    (tmp_path / "labelsTs/c.png").unlink()
    offer = found(tmp_path)
    assert [sample.name for sample in offer.samples] == ["a", "b"] and not offer.problems
    assert offer.notes == ["1 photograph(s) in imagesTs are left out: there is no labelsTs"]


def test_three_channels_become_one_photograph(tmp_path):
    folder = put(tmp_path / "raw", "labelsTr/a.png", channel_names={"0": "R", "1": "G", "2": "B"})
    (folder / "imagesTr").mkdir()
    for channel in range(3):
        cv2.imwrite(str(folder / f"imagesTr/a_{channel:04d}.png"), COLOURS[..., channel])
    made = read_back("nnunet", folder, tmp_path / "made")
    [record] = load_index(made, "train")
    assert np.array_equal(cv2.imread(str(record.image))[..., ::-1], COLOURS)
    assert np.array_equal(masks_in(made)["a", "disc"], DISC)
    (folder / "imagesTr/a_0001.png").unlink()
    with pytest.raises(DataError, match=r"is one of 2 channels: a photograph has one file, or red, green, blue"):
        found(folder)


def test_nifti(tmp_path):
    """As nnU-Net's reader has them, written by SimpleITK: a photograph in three files, or in one of grey."""
    sitk = pytest.importorskip("SimpleITK")
    pytest.importorskip("nibabel")
    folder = put(tmp_path / "raw", file_ending=".nii.gz")
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / part).mkdir()
    for channel in range(3):
        image = sitk.GetImageFromArray(COLOURS[..., channel].astype(np.float32)[None])
        sitk.WriteImage(image, str(folder / f"imagesTr/a_{channel:04d}.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(COLOURS[..., 1]), str(folder / "imagesTs/b_0000.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(LABELS[None]), str(folder / "labelsTr/a.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(LABELS), str(folder / "labelsTs/b.nii.gz"))
    made = read_back("nnunet", folder, tmp_path / "made")
    pictures = {split: cv2.imread(str(load_index(made, split)[0].image))[..., ::-1] for split in ("train", "test")}
    assert np.array_equal(pictures["train"], COLOURS) and np.array_equal(pictures["test"][..., 0], COLOURS[..., 1])
    read = masks_in(made)
    assert all(np.array_equal(read[name, "disc"], DISC) and np.array_equal(read[name, "cup"], CUP) for name in "ab")
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([LABELS] * 2)), str(folder / "labelsTr/a.nii.gz"))
    with pytest.raises(DataError, match=r"labelsTr/a\.nii\.gz is a volume"):
        [source.decode(source.path, SIZE) for sample in found(folder).samples for source in sample.masks]


def test_bad_input(tmp_path):
    folder = put(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png", "labelsTr/b.png", "imagesTr/c_0000.png")
    problems = found(folder).problems
    assert "c_0000.png has no file c.png in labelsTr" in problems[0] and "b.png has no photograph" in problems[1]
    for about, message in (
        ({"labels": {"disc": "one"}}, "the label 'disc' is 'one': write a number, or a list of them"),
        ({"labels": {"disc": 1, "Disc": 2}}, "several labels are called disc"),
        ({"labels": []}, "it has no labels"),
        ({"file_ending": "png"}, "write it as '.png'"),
        ({"dataset": {}}, "lists files of elsewhere"),
    ):
        dataset_json(folder, **about)
        with pytest.raises(DataError, match=message):
            found(folder)
    dataset_json(folder)
    (folder / "splits_final.json").write_text("{}")
    with pytest.raises(DataError, match="is no list of folds"):
        found(folder)
    (folder / "dataset.json").unlink()
    with pytest.raises(DataError, match="SOURCE has 0 files dataset.json, one is needed"):
        found(folder)


def test_a_fold_of_other_cases_is_noted(tmp_path):
    put(tmp_path / "in", "imagesTr/a_0000.png", "labelsTr/a.png")
    (tmp_path / "in/splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["a_0000"]}]))
    assert found(tmp_path / "in").notes == [
        "splits_final.json validates on 1 case(s) that imagesTr has not (first: a_0000)"
    ]
