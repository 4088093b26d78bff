"""Grey values of a DICOM photograph as it says that they are shown: by its window, or its table (VOI LUT).

Windows are told by Secondary Captures and VL Photographs; Ophthalmic Photographs have none of their own, and are shown
as they are. Where several are told, the first one counts, as in viewers. pydicom computes windows; tables are applied
here, as pydicom counts their places in the bits of their values.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.errors import UnreadableError
from sam_med2d.notes import REMARKS

SHOWN_BITS = 16  # of the values that are shown
WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")
RESCALE = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}


def as_shown(path: Path, data: Any, values: np.ndarray, *, bits: int, index: int) -> tuple[np.ndarray, int]:
    """Grey values as they are shown.

    Args:
        path: names the file in messages.
        data: its Dataset.
        values: as stored, unsigned integers [H, W].
        bits: how many of a value are significant.
        index: of the frame.

    Returns:
        Values [H, W] and their bits: others only where the file tells a window or a table.

    Raises:
        UnreadableError: the window or the table cannot be applied.
    """
    told = {element.keyword: element for place in _places(data, index) for element in place}
    if not ("VOILUTSequence" in told or "WindowWidth" in told):
        return values, bits
    try:
        if "ModalityLUTSequence" in told:
            raise ValueError("a table comes before it")
        table, shown = _table(told, bits, is_little=data.original_encoding[1])
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise UnreadableError(
            f"{path} is a DICOM file with a window or table of grey values (VOI LUT) that cannot be applied: export it "
            "as PNG"
        ) from error
    views = told["VOILUTSequence"] if "VOILUTSequence" in told else told["WindowWidth"]
    if views.VM > 1:
        REMARKS.add("the first of several windows (VOI) is applied", path, f"{views.VM} windows")
    return table[np.minimum(values, len(table) - 1)], shown


def _places(data: Any, index: int) -> Iterator[Any]:
    """What may hold a window or a rescaling: the file, what all frames share, the frame; later ones count."""
    names = {*WINDOW, *RESCALE, "VOILUTSequence", "ModalityLUTSequence"}
    yield [data[name] for name in names if name in data]
    shared, frames = (data.get(f"{which}FunctionalGroupsSequence") or [] for which in ("Shared", "PerFrame"))
    for groups in (*shared[:1], *frames[index : index + 1]):
        for macro in ("FrameVOILUTSequence", "PixelValueTransformationSequence"):
            for item in groups.get(macro) or []:
                yield [item[name] for name in names if name in item]


def _table(told: dict[str, Any], bits: int, *, is_little: bool) -> tuple[np.ndarray, int]:
    """What each value is shown as, uint16 [2 ** bits], and its bits. Raises what pydicom does for damaged elements."""
    slope, intercept = (float(told[name].value) if name in told else usual for name, usual in RESCALE.items())
    values = np.arange(2**bits) * slope + intercept
    if "VOILUTSequence" in told:
        entries, first, shown = told["VOILUTSequence"].value[0].LUTDescriptor
        entries = entries or 1 << 16
        places = np.clip(np.rint(values).astype(int) - first, 0, entries - 1)
        return _content(told["VOILUTSequence"].value[0].LUTData, entries, is_little)[places].astype(np.uint16), shown
    return _by_window(told, values, bits), SHOWN_BITS


def _content(data: Any, entries: int, is_little: bool) -> np.ndarray:
    """The values of a table: numbers, words, or two in a word."""
    if not isinstance(data, bytes):
        return np.array(data)
    kind = np.dtype(np.uint8 if len(data) < 2 * entries else "<u2" if is_little else ">u2")
    return np.frombuffer(data, kind, entries)


def _by_window(told: dict[str, Any], values: np.ndarray, bits: int) -> np.ndarray:
    from pydicom import Dataset
    from pydicom.pixels import apply_windowing

    view = Dataset()
    view.PhotometricInterpretation, view.PixelRepresentation, view.BitsStored = "MONOCHROME2", 0, bits
    for name in WINDOW:
        if name in told:
            view[name] = told[name]
    shown = apply_windowing(values, view) / (2**bits - 1)
    return np.rint(shown * (2**SHOWN_BITS - 1)).astype(np.uint16)
