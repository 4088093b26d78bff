"""What is said of a mask that does not fit its photograph."""

from pathlib import Path

import pytest

from sam_med2d.data.record_checks import check_size
from sam_med2d.errors import SizeError


def test_a_mask_that_lies_on_its_side_may_have_to_be_turned():
    mask, image = Path("m.png"), Path("eye.jpg")
    check_size(mask, (30, 40), image, (30, 40))
    for shape, turned in (((40, 30), True), ((30, 41), False)):
        with pytest.raises(SizeError, match="make the mask from the same picture") as raised:
            check_size(mask, shape, image, (30, 40))
        assert ("or turn it" in str(raised.value)) == turned
