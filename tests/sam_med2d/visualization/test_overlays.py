"""Contact sheets of cases, and pictures in files."""

import cv2
import numpy as np
import pytest

from sam_med2d.visualization import overlays
from tests.helpers.histories import tiles


@pytest.mark.parametrize("columns", [1, 4, 40])
def test_the_legend_fits_below_any_number_of_columns(columns):
    """Its last entry is written out to the same width whatever the tiles leave."""
    wide = overlays.contact_sheet(tiles(1), columns=60)[40:]
    sheet = overlays.contact_sheet(tiles(1), columns=columns)[40:]
    used = np.flatnonzero(wide.any((0, 2))).max() + 1
    assert np.array_equal(sheet[:, :used], wide[:, :used]) and sheet.shape[1] >= 30 * columns


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_picture_returns_from_its_file(tmp_path, shape, kind):
    made = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    overlays.write_picture(tmp_path / "new" / "a.png", made)
    read = cv2.imread(str(tmp_path / "new" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == kind and np.array_equal(read if read.ndim == 2 else read[..., ::-1], made)
