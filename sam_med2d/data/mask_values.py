"""Whether a picture shows one structure, black and white with soft edges or not, or has more than one meaning.

Flat areas tell. Between black and white, an edge that was smoothed, resized or saved as JPEG has values that differ
from pixel to pixel, whereas a class of a map has one value, or one colour, in a whole area.
"""

import functools
from pathlib import Path

import cv2
import numpy as np

from sam_med2d.errors import ValuesError
from sam_med2d.notes import REMARKS

WHITES = (1, 255, 1023, 4095, 16383, 65535)  # of 1 and 8 bits, of the usual cameras, and of 16 bits
BRIGHT = 0.75  # share of white; the structure's own colour may be darker
FEW = 32  # levels of a picture that has not been smoothed or compressed: equal values then mean the same
CLEAN, NOISE = 8, 4  # of more levels, even of few, those so near black or the structure are of compression (WebP)
EDGE, SAME = 38, 15  # of 255: what compression adds to black or takes from white; between equal pixels
FLAT_SHARE, FLAT_PIXELS = 0.6, 6  # of the pixels between black and white, and more: classes; smooth edges reach 0.4
SLOPE, SOFT_SHARE = 64, 0.25  # of 255 in 3 x 3 pixels; gentler slopes may be this share of the structure
GREY = 0.4  # of the picture; vessel masks that were shrunk to a sixth have 0.25
HUES = 0.01  # of the pixels that are not black; compression makes some of other hues
NUMBERS = range(2, 32)  # a value that is rather a class's number than white
SHOWN, LOOKED_AT = 6, 200  # levels in a message, and those that it chooses from
OVERSHOOT = 0.1  # of white: what interpolation makes beside an edge
FLOATS_CUT = "masks of floats are cut at half of their range (prepare_dataset.py folder --threshold cuts elsewhere)"


def binary_mask(values: np.ndarray, path: Path, *, share: float | None = None, any_white: bool = False) -> np.ndarray:
    """One structure: white, or one colour, on black. Edges may be soft, and count from half of white on.

    White is the highest value of 1, 8, 10, 12, 14 or 16 bits; of dark colours it is their brightest value. Floats reach
    to 1 or to 255; where they have values between, this is noted. What is not finite is outside.

    Args:
        values: numbers or bool [H, W], or RGB [H, W, 3], of which the brightest channel counts.
        path: names the file in messages.
        share: of white, from which on a pixel counts in a soft mask, whose values then need no other meaning; None:
            the picture has to be black and white.
        any_white: whether of black and one other grey value that is white, whatever it is; else it is a class.

    Returns:
        bool [H, W].

    Raises:
        ValuesError: the picture has more than one meaning: several values or colours in flat areas (a map of classes),
            gentle slopes (probabilities), no black, or an unknown range.
    """
    values = _plain(values)
    if share is None and values.ndim == 2 and values.max(initial=0) in WHITES and _is_two_valued(values):
        return values > 0
    light = _largest(values)
    if share is not None:
        return light >= share * _white(light, path)
    if levels := classes_of(values, any_white=any_white):
        raise ValuesError(_refusal(path, levels))
    if not light.any() or _is_two_valued(values):
        return light > 0
    white = _white(light, path)
    if values.ndim == 3 and light.max() < BRIGHT * white:
        white = light.max()
    mask = light >= 0.5 * white
    if not mask.any():
        raise ValuesError(
            f"{path} has no pixel of half of white: its highest value is {light.max():.3g} of {white}. Say from which "
            "share of white on a pixel counts, with prepare_dataset.py folder --threshold"
        )
    if values.dtype.kind == "f":
        REMARKS.add(FLOATS_CUT, path, f"highest value {light.max():.3g}")
    return mask


def classes_of(values: np.ndarray, *, any_white: bool = False) -> dict[str, int]:
    """The levels of a picture that is more than one structure on black.

    Args:
        values: numbers or bool [H, W], or RGB [H, W, 3].
        any_white: as for `binary_mask`.

    Returns:
        Number of pixels by grey value ("128") or colour ("#ff0000"), the most frequent first; {} for a mask of one
        structure, with edges of any kind, and for an empty one.
    """
    values = _plain(values)
    if values.min() < 0:  # of floats, what interpolation makes, or no mask at all
        return {} if values.dtype.kind == "f" else _levels(values)
    if not values.any() or (values.ndim == 2 and values.max() == values.min() in WHITES):
        return {}
    if _is_two_valued(values):
        odd = values.ndim == 2 and values.max() not in WHITES and (not any_white or values.max() in NUMBERS)
        return _levels(values) if odd else {}
    return _levels(values) if _has_meanings(values) else {}


def odd_white(values: np.ndarray) -> str:
    """The one value ("100") or colour ("#ff0000") on black of a mask without white; "" of others."""
    values = _plain(values)
    if (values.ndim == 2 and values.max() in WHITES) or not values.any() or not _is_two_valued(values):
        return ""
    return next(level for level in _levels(values) if level not in ("0", "#000000"))


def _plain(values: np.ndarray) -> np.ndarray:
    """Finite numbers; grey where all channels are equal."""
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if values.ndim == 3 and (values == values[..., :1]).all():
        return np.ascontiguousarray(values[..., 0])
    return values


def _is_two_valued(values: np.ndarray) -> bool:
    """Whether there is black and just one other value or colour."""
    codes = values if values.ndim == 2 else colour_codes(values)
    pixels = np.count_nonzero(codes)
    return pixels < codes.size and pixels == np.count_nonzero(codes == codes.max())


def colour_codes(colours: np.ndarray) -> np.ndarray:
    """Colours as numbers 0xRRGGBB.

    Args:
        colours: RGB [..., 3]; of 16 bits the upper half counts, floats reach to 1 or to 255.

    Returns:
        int32 [...].
    """
    if colours.dtype.kind == "f":
        colours = np.rint(colours * (255 if colours.max(initial=0) <= 1 else 1))
    eight = colours >> 8 if colours.dtype == np.uint16 else colours
    codes, *others = (channel.astype(np.int32) for channel in np.moveaxis(eight, -1, 0))
    for channel in others:
        codes <<= 8
        codes |= channel
    return codes


def _levels(values: np.ndarray) -> dict[str, int]:
    """Pixels of each value or colour, the most frequent first."""
    found, counts = _counted(values if values.ndim == 2 else colour_codes(values))
    order = np.argsort(-counts, kind="stable")
    names = (f"{value:g}" if values.ndim == 2 else f"#{value:06x}" for value in found[order].tolist())
    return dict(zip(names, counts[order].tolist(), strict=True))


def _white(light: np.ndarray, path: Path) -> int:
    """The value of white. Raises ValuesError for floats that reach to none."""
    highest, lowest = light.max(initial=0), light.min(initial=0)
    if light.dtype.kind != "f":
        return next((white for white in WHITES if highest <= white), WHITES[-1])
    white = next((white for white in (1, 255, 65535) if highest <= (1 + OVERSHOOT) * white), 0)
    if not white or lowest < -OVERSHOOT * white or (white > 1 and 2 * highest < white):
        raise ValuesError(
            f"{path} holds floats from {lowest:.4g} to {highest:.4g}: save probabilities of 0 to 1, or of 0 to 255"
        )
    return white


def _has_meanings(values: np.ndarray) -> bool:
    """Whether there are flat areas between black and white, gentle slopes, no black or no white."""
    codes = values if values.ndim == 2 else colour_codes(values)
    levels, _ = _counted(codes)
    eight = _in_eight_bits(values)
    light = _largest(eight)
    place = _structure(eight, light)
    away = _largest(cv2.absdiff(eight, np.full_like(eight, eight[place])))
    between = (light > EDGE) & (away > EDGE)
    if values.dtype.kind == "f" and len(levels) > FEW:  # probabilities, but for numbers in flat areas
        whole = levels[-1] > 1 and (levels == np.rint(levels)).all()
        return bool(whole and _is_flat(eight, light > 0, between, same=0))
    white = next((white for white in WHITES if values.max() <= white), WHITES[-1])
    dim = values.dtype.kind != "f" and values.ndim == 2 and values.max() < 0.5 * white
    if dim or (between.any() and light.min() > EDGE):
        return True
    if (len(levels) == 3 and between.any()) or (eight.ndim == 3 and _has_hues(eight, light, eight[place])):
        return True
    if len(levels) <= FEW:
        numbers, noise = np.searchsorted(levels, codes).astype(np.uint8), len(levels) > CLEAN
        some = (codes != 0) & ~(noise & (light <= NOISE))
        if _is_flat(numbers, some, some & (codes != codes[place]) & ~(noise & (away <= NOISE)), same=0):
            return True
    return _is_flat(eight, light > EDGE, between, same=SAME) or _is_soft(light)


def _has_hues(eight: np.ndarray, light: np.ndarray, colour: np.ndarray) -> bool:
    """Whether pixels lead in another channel than the structure's colour, which no edge of it does."""
    leads = cv2.subtract(light, np.ascontiguousarray(eight[..., colour.argmax()])) > SLOPE
    return np.count_nonzero(leads) > HUES * np.count_nonzero(light > EDGE)


def _structure(eight: np.ndarray, light: np.ndarray) -> tuple[int, int]:
    """A pixel of the most frequent of the bright colours, which is taken for the structure's."""
    codes = light if eight.ndim == 2 else colour_codes(eight)
    bright = light > 255 - (EDGE if eight.ndim == 3 else 1)
    found, counts = _counted(codes[bright])
    row, column = np.unravel_index(np.argmax(bright & (codes == found[counts.argmax()])), light.shape)
    return int(row), int(column)


def _counted(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, in order, and how often; as `np.unique`, and faster for millions of pixels."""
    if codes.dtype.kind in "ui" and codes.min(initial=0) >= 0 and codes.max(initial=0) < 1 << 24:
        counts = np.bincount(codes.ravel())
        found = np.flatnonzero(counts)
        return found, counts[found]
    return np.unique(codes, return_counts=True)


def _is_flat(values: np.ndarray, light: np.ndarray, between: np.ndarray, *, same: int) -> bool:
    """Whether pixels between black and white fill squares, or mostly equal those of their neighbours that are light.

    Args:
        values: uint8 [H, W] or [H, W, 3].
        light: pixels that are not black, bool [H, W].
        between: those between black and white.
        same: difference up to which two pixels are equal.
    """
    wide, near = np.ones((5, 5), np.uint8), np.ones((3, 3), np.uint8)
    spread = _largest(cv2.dilate(values, wide) - cv2.erode(values, wide))
    if np.count_nonzero(between & (spread <= same)) > same // 4:
        return True
    dark = ~light if values.ndim == 2 else ~light[..., None]
    highest = cv2.dilate(np.where(dark, np.uint8(0), values), near)
    lowest = cv2.erode(np.where(dark, np.uint8(255), values), near)
    equal = np.maximum(_largest(cv2.subtract(highest, values)), _largest(cv2.subtract(values, lowest))) <= same
    company = cv2.boxFilter(light.astype(np.uint8), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT) > 1
    return np.count_nonzero(between & equal & company) >= FLAT_SHARE * np.count_nonzero(between) + FLAT_PIXELS


def _in_eight_bits(values: np.ndarray) -> np.ndarray:
    """Values as uint8, the highest one as 255."""
    highest = values.max()
    if values.dtype == np.uint8 and highest == 255:
        return values
    return np.rint(values.clip(0) * (255 / highest)).astype(np.uint8)


def _largest(picture: np.ndarray) -> np.ndarray:
    """Of all channels, [H, W]; as `max(axis=2)`, and faster for millions of pixels."""
    return picture if picture.ndim == 2 else functools.reduce(np.maximum, np.moveaxis(picture, 2, 0))


def _is_soft(light: np.ndarray) -> bool:
    """Whether a good part lies on gentle slopes, as in probabilities, or much between black and white."""
    near = np.ones((3, 3), np.uint8)
    highest, lowest = cv2.dilate(light, near), cv2.erode(light, near)
    grey = light < 255 - EDGE
    gentle = (lowest > EDGE) & (highest - lowest < SLOPE) & grey
    if np.count_nonzero((light > EDGE) & grey) > GREY * light.size:
        return True
    return np.count_nonzero(gentle) > SOFT_SHARE * np.count_nonzero(light >= 128)


def _refusal(path: Path, levels: dict[str, int]) -> str:
    """What was seen in a file, and the commands that say what is meant."""
    colours = any(level.startswith("#") for level in levels)
    shown = sorted(_most_frequent(levels), key=lambda level: level if colours else float(level))
    dots = " ..." if len(levels) > len(shown) else ""
    kind = f"{len(levels)} colours, " if colours else f"{len(levels)} values, " if dots else "values "
    seen = f"{', '.join(shown)}{dots} on {', '.join(str(levels[level]) for level in shown)}{dots} pixels"
    background = {next(iter(levels))} & {"0", "#000000"}  # where it is the most frequent, it goes without saying
    classes = ",".join(f"{level}=NAME" for level in shown if level not in background)
    instances = f" (1-{max(map(float, levels)):g}=NAME if each is one of many)" if dots and not colours else ""
    return (
        f"{path} is not binary ({kind}{seen}): a mask holds 0 and 1, or 0 and 255. For a map of classes use "
        f'prepare_dataset.py labelmap --classes "{classes}"{instances}; for shares of one structure, folder '
        "--threshold 0.5"
    )


def _most_frequent(levels: dict[str, int]) -> list[str]:
    """Levels to show: all of a few, else those that are not nearly another one, as JPEG makes many."""
    if len(levels) <= SHOWN:
        return list(levels)
    numbers = {level: np.array(_channels(level)) for level in list(levels)[:LOOKED_AT]}
    same = SAME / 255 * max(number.max() for number in numbers.values())
    shown: list[str] = []
    for level in numbers:
        if len(shown) < SHOWN and all(np.abs(numbers[level] - numbers[other]).max() > same for other in shown):
            shown.append(level)
    return shown


def _channels(level: str) -> list[float]:
    return [int(level[i : i + 2], 16) for i in (1, 3, 5)] if level.startswith("#") else [float(level)]
