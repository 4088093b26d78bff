#!/usr/bin/env bash
# Expected: SimpleITK reads a DICOM Segmentation of type BINARY, one bit a pixel, as it was written: frames follow each other
# without gaps, and the last byte may hold fewer than 8 pixels (DICOM PS3.5, section 8.1.1 and annex D).
# What happens: where rows x columns x frames is no multiple of 8, the pixels of the last byte are not those of the file: they
# change from one reading to the next, without a warning. All other pixels are right.
# Why it matters for fundus photographs: cameras and crops have odd sizes, and a segmentation of a photograph has its size. Up to
# 7 pixels in the lower right corner of the last structure appear and disappear: a Dice is not repeatable, a bounding box reaches
# to the corner, an area that should be 0 is not. pydicom and highdicom read the same file right.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/last_bits.py" <<'PY'
import sys

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.sr.codedict import codes

path = sys.argv[1]


def write(mask: np.ndarray) -> None:
    """A segmentation of one structure, [H, W], of a photograph that is made up."""
    photograph = Dataset()
    photograph.SOPClassUID, photograph.Modality = pydicom.uid.VLPhotographicImageStorage, "XC"
    photograph.SOPInstanceUID = photograph.StudyInstanceUID = photograph.SeriesInstanceUID = pydicom.uid.generate_uid()
    photograph.Rows, photograph.Columns = mask.shape
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(photograph, name, "")
    photograph.StudyDate = photograph.StudyTime = ""
    kind = codes.SCT.AnatomicalStructure, codes.SCT.OpticNerveHead
    disc = highdicom.seg.SegmentDescription(1, "disc", *kind, "MANUAL")
    uids = highdicom.UID(), highdicom.UID()
    highdicom.seg.Segmentation(
        [photograph], mask[None, ..., None], "BINARY", [disc], uids[0], 1, uids[1], 1, "none", "none", "1", "1",
        omit_empty_frames=False,
    ).save_as(path)


print(f"SimpleITK {sitk.Version.VersionString()}, pydicom {pydicom.__version__}, highdicom {highdicom.__version__}")
for height, width in ((64, 64), (47, 61), (45, 63), (33, 35)):
    wrong = set()
    for value in (False, True):
        mask = np.full((height, width), value)
        write(mask)
        assert (pydicom.dcmread(path).pixel_array == mask).all(), "pydicom"
        assert (highdicom.seg.segread(path).pixel_array == mask).all(), "highdicom"
        for _ in range(20):
            read = sitk.GetArrayFromImage(sitk.ReadImage(path)).reshape(mask.shape) > 0
            wrong |= set(np.flatnonzero(read != mask).tolist())
    rest = height * width % 8
    print(f"{width} x {height}, {rest} pixels in the last byte: wrong are {sorted(wrong)} of {height * width}")
    assert bool(wrong) == bool(rest), "the last byte is read now, or others are not"
    assert wrong <= set(range(height * width - rest, height * width)), "others than those of the last byte"
PY
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet SimpleITK==2.5.7 highdicom==0.28.2 pydicom==3.0.2 numpy==2.2.6
"$folder/venv/bin/python" "$folder/last_bits.py" "$folder/seg.dcm"
