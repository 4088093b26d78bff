"""Masks in NIfTI and NRRD files, written by nibabel, SimpleITK, pynrrd and slicerio."""

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.file_tree import Tree
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats.nifti import NIFTI_SLICES
from sam_med2d.dataset_conversion.formats.nrrd import NRRD_SLICES
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError
from tests.helpers.round_trips import SIZE, drawn, ellipse

nibabel, nrrd = pytest.importorskip("nibabel"), pytest.importorskip("nrrd")
DISC, CUP = ellipse(18, 25, 10, 9), ellipse(17, 25, 4, 5)
LABELS = DISC.astype(np.uint8) + CUP
Write = Callable[[np.ndarray, Path], None]


def by_nibabel(values: np.ndarray, path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), path)


def by_nibabel_with_a_third_axis(values: np.ndarray, path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(values.T[..., None].astype(float), np.diag([-1, -1, 1, 1])), path)


def by_simpleitk(values: np.ndarray, path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))


def by_simpleitk_with_a_third_axis(values: np.ndarray, path: Path) -> None:
    by_simpleitk(values[None], path)


def by_pynrrd(values: np.ndarray, path: Path) -> None:
    nrrd.write(str(path), np.ascontiguousarray(values.T))


def photograph(folder: Path, name: str = "eye") -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"images/{name}.png"), np.full((*SIZE, 3), 90, np.uint8))
    return folder


def found(data_set: DataSet, folder: Path, **options: object) -> FoundSamples:
    return data_set.find(Tree(folder), Choice(options=options))


def masks(data_set: DataSet, folder: Path, **options: object) -> dict[str, np.ndarray]:
    offer = found(data_set, folder, **options)
    assert not offer.problems
    [sample] = offer.samples
    sources = pickle.loads(pickle.dumps(sample.masks))  # other processes read them
    return {source.structure: source.decode(source.path, SIZE) for source in sources}


NIFTI_WRITERS = (by_nibabel, by_nibabel_with_a_third_axis, by_simpleitk, by_simpleitk_with_a_third_axis)


@pytest.mark.parametrize("write", NIFTI_WRITERS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_maps_of_labels(tmp_path, write: Write, suffix):
    write(LABELS, photograph(tmp_path) / f"masks/eye{suffix}")
    read = masks(NIFTI_SLICES, tmp_path, classes="1+2=optic_disc,2=optic_cup")
    assert np.array_equal(read["optic_disc"], DISC) and np.array_equal(read["optic_cup"], CUP)


@pytest.mark.parametrize("write", [by_pynrrd, by_simpleitk, by_simpleitk_with_a_third_axis])
def test_nrrd_maps_of_labels(tmp_path, write: Write):
    write(LABELS, photograph(tmp_path) / "masks/eye.nrrd")
    read = masks(NRRD_SLICES, tmp_path, classes="1+2=optic_disc,2=optic_cup")
    assert np.array_equal(read["optic_disc"], DISC) and np.array_equal(read["optic_cup"], CUP)


def test_a_file_for_each_structure(tmp_path):
    folder = photograph(tmp_path)
    by_nibabel(DISC.astype(np.uint8), folder / "masks/eye_optic_disc.nii.gz")
    by_nibabel(CUP.astype(np.float64) * 255, folder / "masks/eye_optic_cup.nii.gz")
    read = masks(NIFTI_SLICES, folder)
    assert np.array_equal(read["optic_disc"], DISC) and np.array_equal(read["optic_cup"], CUP)
    by_nibabel(LABELS, folder / "masks/eye_optic_cup.nii.gz")
    with pytest.raises(DataError, match=r"eye_optic_cup\.nii\.gz holds 3 values: .* --classes 1=NAME,2=NAME"):
        masks(NIFTI_SLICES, folder)


@pytest.mark.parametrize(("values", "named"), [((1, 2), "1=NAME,2=NAME"), ((np.nan, 1), "1=NAME")])
def test_two_values_without_a_black_one_are_refused(tmp_path, values, named):
    by_nibabel(np.where(DISC, *values[::-1]).astype(np.float32), photograph(tmp_path) / "masks/eye_optic_disc.nii.gz")
    with pytest.raises(DataError, match=rf"holds 2 values: say what they mean with --classes {named}$"):
        masks(NIFTI_SLICES, tmp_path)


def test_rows_before_columns(tmp_path):
    """What nibabel.Nifti1Image(mask) makes of an array [rows, columns]."""
    by_nibabel(LABELS.T, photograph(tmp_path) / "masks/eye.nii.gz")
    classes = {"classes": "1-2=optic_disc"}
    with pytest.raises(DataError, match="has 40 columns and 60 rows, its photograph 60 and 40: .* say --axes yx"):
        masks(NIFTI_SLICES, tmp_path, **classes)
    assert np.array_equal(masks(NIFTI_SLICES, tmp_path, axes="yx", **classes)["optic_disc"], DISC)


def test_a_square_needs_an_orientation_or_the_flag(tmp_path):
    """A program for images writes the one, a NumPy array may have been saved either way."""
    folder, square = photograph(tmp_path), LABELS[:, :40]
    cv2.imwrite(str(folder / "images/eye.png"), np.full((40, 40, 3), 90, np.uint8))
    path = folder / "masks/eye.nii.gz"

    def read(data_set: DataSet, **options: object) -> np.ndarray:
        [source] = found(data_set, folder, classes="1-2=optic_disc", **options).samples[0].masks
        return source.decode(source.path, (40, 40))

    by_nibabel(square.T, path)
    with pytest.raises(DataError, match="a square without the orientation .* say --axes xy .* or --axes yx"):
        read(NIFTI_SLICES)
    assert np.array_equal(read(NIFTI_SLICES, axes="yx"), DISC[:, :40])
    by_simpleitk(square, path)
    assert np.array_equal(read(NIFTI_SLICES), DISC[:, :40])
    path.unlink()
    by_pynrrd(square, folder / "masks/eye.nrrd")
    with pytest.raises(DataError, match="a square without the orientation"):
        read(NRRD_SLICES)
    assert np.array_equal(read(NRRD_SLICES, axes="xy"), DISC[:, :40])
    by_simpleitk(square, folder / "masks/eye.nrrd")
    assert np.array_equal(read(NRRD_SLICES), DISC[:, :40])


@pytest.mark.parametrize(("suffix", "data_set"), [(".nii.gz", NIFTI_SLICES), (".nrrd", NRRD_SLICES)])
def test_volumes_are_refused(tmp_path, suffix, data_set):
    by_simpleitk(np.stack([LABELS] * 3), photograph(tmp_path) / f"masks/eye{suffix}")
    with pytest.raises(DataError, match=r"is a volume, or no picture \(60 x 40 x 3\): give one slice"):
        masks(data_set, tmp_path, classes="1-2=optic_disc")


def test_damaged_files(tmp_path):
    folder = photograph(tmp_path)
    by_nibabel(LABELS, folder / "masks/eye.nii.gz")
    whole = (folder / "masks/eye.nii.gz").read_bytes()
    for content in (b"", b"\x1f\x8bno", whole[: len(whole) // 2]):
        (folder / "masks/eye.nii.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"eye\.nii\.gz cannot be read as NIfTI"):
            masks(NIFTI_SLICES, folder, classes="1-2=optic_disc")
    (folder / "masks/eye.nii.gz").unlink()
    by_pynrrd(LABELS, folder / "masks/eye.nrrd")
    whole = (folder / "masks/eye.nrrd").read_bytes()
    for content in (b"", b"NRRD0004\n", b"NRRD0004\ntype: uchar\nsizes: a b\n\n", whole[:-20]):
        (folder / "masks/eye.nrrd").write_bytes(content)
        with pytest.raises(DataError, match=r"eye\.nrrd cannot be read as NRRD"):
            masks(NRRD_SLICES, folder, classes="1-2=optic_disc")
    (folder / "masks/eye.nrrd").write_bytes(whole.replace(b"\n\n", b"\ndata file: other.raw\n\n", 1))
    with pytest.raises(DataError, match="has its data in another file"):
        masks(NRRD_SLICES, folder, classes="1-2=optic_disc")


# --- segmentations of 3D Slicer -----------------------------------------------------------------------------------


def slicer_file(path: Path, labels: np.ndarray, segments: list[dict], **more: object) -> None:
    """A .seg.nrrd as slicerio writes it. labels: [x, y, z], or [layer, x, y, z]."""
    slicerio = pytest.importorskip("slicerio")
    about = {"containedRepresentationNames": ["Binary labelmap"], "masterRepresentation": "Binary labelmap"}
    about |= {"ijkToLPS": np.eye(4), "voxels": labels, "segments": segments, **more}
    slicerio.write_segmentation(str(path), about, index_order="F")


def segment(name: str, value: int, layer: int = 0) -> dict[str, object]:
    about = {"id": f"Segment_{name}", "name": name, "labelValue": value, "layer": layer, "color": [1, 0, 0]}
    return about | {"nameAutoGenerated": False, "colorAutoGenerated": False, "extent": [0, 1, 0, 1, 0, 0]}


def test_segments_by_their_names(tmp_path):
    path = photograph(tmp_path) / "masks/eye.seg.nrrd"
    labels = (DISC & ~CUP).T[..., None] * np.uint8(3) + CUP.T[..., None]
    slicer_file(path, labels, [segment("rim", 3), segment("Cup", 1)])
    read = masks(NRRD_SLICES, tmp_path)
    assert np.array_equal(read["rim"], DISC & ~CUP) and np.array_equal(read["cup"], CUP)
    named = masks(NRRD_SLICES, tmp_path, classes="rim=optic_disc,Cup=optic_cup")
    assert named.keys() == {"optic_disc", "optic_cup"}
    with pytest.raises(DataError, match="there is no label Rim"):
        masks(NRRD_SLICES, tmp_path, classes="Rim=optic_disc")


def test_segments_of_one_structure_are_one_mask(tmp_path):
    path = photograph(tmp_path) / "masks/eye.seg.nrrd"
    labels = (DISC & ~CUP).T[..., None] * np.uint8(3) + CUP.T[..., None]
    slicer_file(path, labels, [segment("rim", 3), segment("Cup", 1)])
    read = masks(NRRD_SLICES, tmp_path, classes="rim=optic_disc,Cup=optic_disc,Cup=optic_cup")
    assert np.array_equal(read["optic_disc"], DISC) and np.array_equal(read["optic_cup"], CUP)
    slicer_file(path, labels, [segment("Disc", 3), segment("disc", 1)])
    offer = found(NRRD_SLICES, tmp_path)
    assert [source.structure for source in offer.samples[0].masks] == ["disc"]
    assert offer.notes == ["labels Disc, disc are all disc: see --classes"]


def test_segments_that_overlap_lie_in_layers(tmp_path):
    layers = np.stack([DISC.T[..., None], CUP.T[..., None]]).astype(np.uint8)
    path = photograph(tmp_path) / "masks/eye.seg.nrrd"
    slicer_file(path, layers, [segment("disc", 1, 0), segment("cup", 1, 1)])
    read = masks(NRRD_SLICES, tmp_path)
    assert np.array_equal(read["disc"], DISC) and np.array_equal(read["cup"], CUP)


def test_what_slicer_cuts_off_is_put_back(tmp_path):
    part = DISC[5:30, 10:40].T[..., None].astype(np.uint8)
    path = photograph(tmp_path) / "masks/eye.seg.nrrd"
    slicer_file(path, part, [segment("disc", 1)], referenceImageExtentOffset=[10, 5, 0])
    assert np.array_equal(masks(NRRD_SLICES, tmp_path)["disc"], DISC)
    slicer_file(path, part, [segment("disc", 1)], referenceImageExtentOffset=[40, 5, 0])
    with pytest.raises(DataError, match=r"30 x 25 pixels from \(40, 5\) on, which leave the photograph of 60 x 40"):
        masks(NRRD_SLICES, tmp_path)
    slicer_file(path, part, [segment("disc", 1)])
    with pytest.raises(DataError, match="has 30 columns and 25 rows, its photograph 60 and 40"):
        masks(NRRD_SLICES, tmp_path)


def test_axes_that_run_backwards(tmp_path):
    """The last pixel lies at the origin of space; with the first one there the order is that of the file."""
    path, turned = photograph(tmp_path) / "masks/eye.seg.nrrd", np.diag([-1.0, 1, 1, 1])
    slicer_file(path, DISC.T[..., None].astype(np.uint8), [segment("disc", 1)], ijkToLPS=turned)
    assert np.array_equal(masks(NRRD_SLICES, tmp_path)["disc"], DISC)
    turned[0, 3] = SIZE[1] - 1
    slicer_file(path, DISC.T[::-1, :, None].astype(np.uint8), [segment("disc", 1)], ijkToLPS=turned)
    assert np.array_equal(masks(NRRD_SLICES, tmp_path)["disc"], DISC)
    slicer_file(path, DISC.T[..., None].astype(np.uint8), [segment("disc", 1)], ijkToLPS=np.eye(4)[[1, 0, 2, 3]])
    with pytest.raises(DataError, match="its axes are turned in space"):
        masks(NRRD_SLICES, tmp_path)


def test_headers_that_cannot_be_meant(tmp_path):
    folder = photograph(tmp_path)
    slicer_file(folder / "masks/eye.seg.nrrd", np.zeros((2, 60, 40, 1), np.uint8), [segment("disc", 1, 2)])
    with pytest.raises(DataError, match="segment 'disc' is on layer 2, which the file has not"):
        masks(NRRD_SLICES, folder)
    slicer_file(folder / "masks/eye.seg.nrrd", np.zeros((60, 40, 1), np.uint8), [segment("a", 1), segment("b", 1)])
    with pytest.raises(DataError, match="the segments 'a' and 'b' have the same label value 1"):
        masks(NRRD_SLICES, folder)
    values = np.zeros((60, 40, 1), np.uint8)
    values[3, 4] = 7
    slicer_file(folder / "masks/eye.seg.nrrd", values, [segment("disc", 1)])
    with pytest.raises(DataError, match="no segment has the label value 7, which some pixels have"):
        masks(NRRD_SLICES, folder)
    slicer_file(folder / "masks/eye.seg.nrrd", np.zeros((60, 40, 4), np.uint8), [segment("disc", 1)])
    with pytest.raises(DataError, match="is a volume"):
        masks(NRRD_SLICES, folder)
    photograph(folder, "other")
    by_pynrrd(LABELS, folder / "masks/other.nrrd")
    with pytest.raises(DataError, match=r"other\.nrrd has no segments, and .*eye\.seg\.nrrd has"):
        masks(NRRD_SLICES, folder)


def test_many_kinds_of_masks_survive(tmp_path):
    for name, mask in drawn(0).items():
        by_simpleitk(mask.astype(np.uint8), photograph(tmp_path) / f"masks/eye_{name}.nii.gz")
    assert all(np.array_equal(mask, drawn(0)[name]) for name, mask in masks(NIFTI_SLICES, tmp_path).items())
