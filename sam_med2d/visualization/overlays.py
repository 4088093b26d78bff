"""Outlines, prompts and measurements on photographs, and pictures as PNG, written atomically."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from segment_anything.utils.atomic import atomic_path
from segment_anything.utils.masks import resize_mask

# Okabe and Ito's palette, legible to the colour-blind
TRUTH_COLOUR = (0, 158, 115)
PREDICTION_COLOUR = (230, 159, 0)
FOREGROUND_COLOUR = (86, 180, 233)
BACKGROUND_COLOUR = (204, 121, 167)
TILE_SIDE = 256
MEASUREMENTS_SIDE = 1024  # longer side of a photograph with its measurements
FONT = cv2.FONT_HERSHEY_SIMPLEX
OVERLAY_SIDE = 768  # of a photograph with its outlines, at most
LEGEND = (
    ("truth", TRUTH_COLOUR),
    ("prediction", PREDICTION_COLOUR),
    ("box, foreground click", FOREGROUND_COLOUR),
    ("background click", BACKGROUND_COLOUR),
)
OUTLINES = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#FFFFFF")  # on photographs: dark


def draw_case(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, points: np.ndarray, labels: np.ndarray, caption: str
) -> np.ndarray:
    """A tile of a contact sheet: the photograph, outlines of truth and prediction, the prompts.

    Args:
        image: RGB uint8 [H, W, 3].
        truth: bool [H, W].
        predicted: bool [H, W].
        points: float [P, 2], x and y in pixels of the photograph.
        labels: int [P]: 1 for foreground, 0 for background, 2 and 3 for box corners; -1 is skipped.
        caption: stands above the photograph.

    Returns:
        RGB uint8 [TILE_SIDE + 22, TILE_SIDE, 3].
    """
    scale = TILE_SIDE / max(image.shape[:2])
    canvas = _scaled(image, scale)
    for mask, colour in ((truth, TRUTH_COLOUR), (predicted, PREDICTION_COLOUR)):
        _draw_outline(canvas, mask, colour)
    _draw_prompts(canvas, points * scale, labels)
    tile = np.zeros((TILE_SIDE + 22, TILE_SIDE, 3), np.uint8)
    tile[22 : 22 + canvas.shape[0], : canvas.shape[1]] = canvas
    _write(tile, caption, (4, 15))
    return tile


class Overlay:
    """A photograph with outlines of masks, a colour for each name, and their prompts."""

    def __init__(self, image: np.ndarray) -> None:
        """Begin with the photograph, RGB uint8 [H, W, 3], at most OVERLAY_SIDE pixels wide and high."""
        self.scale = min(1.0, OVERLAY_SIDE / max(image.shape[:2]))
        self.canvas = _scaled(_halved(image, self.scale), self.scale, image.shape[:2])
        self.colours: dict[str, tuple[int, int, int]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the photograph in the picture."""
        return self.canvas.shape[:2]

    def add(self, name: str, mask: np.ndarray, points: np.ndarray, labels: np.ndarray) -> None:
        """Draw a mask and its prompts.

        Args:
            name: stands in the legend; masks of one name have one colour.
            mask: bool, of the photograph's size or any other with its proportions, at best of `size`.
            points: float [P, 2], x and y in pixels of the photograph.
            labels: int [P], as in `draw_case`.
        """
        following = _rgb(OUTLINES[len(self.colours) % len(OUTLINES)])
        _draw_outline(self.canvas, mask, self.colours.setdefault(name, following))
        _draw_prompts(self.canvas, points * self.scale, labels)

    def picture(self) -> np.ndarray:
        """The picture so far, RGB uint8, with a line for each name below the photograph."""
        height, width = self.canvas.shape[:2]
        picture = np.zeros((height + 20 * len(self.colours) + 6, width, 3), np.uint8)
        picture[:height] = self.canvas
        for row, (name, colour) in enumerate(self.colours.items()):
            y = height + 6 + 20 * row
            cv2.rectangle(picture, (6, y), (18, y + 10), colour, -1)
            _write(picture, name, (24, y + 10))
        return picture


def _halved(image: np.ndarray, scale: float) -> np.ndarray:
    """A large photograph at half its size, a quarter and so on: what is to be scaled further, in a fifth of the time.

    An odd last row or column is left out, which is less than a pixel of the picture.
    """
    while scale <= 0.5:
        height, width = (side // 2 for side in image.shape[:2])
        if not min(height, width):
            break
        whole = image[: 2 * height, : 2 * width]
        image, scale = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), 2 * scale
    return image


def _scaled(image: np.ndarray, scale: float, size: tuple[int, int] | None = None) -> np.ndarray:
    """The picture, of another size: that of `size`, by default its own, times the scale."""
    size = [max(1, round(side * scale)) for side in (size or image.shape[:2])[::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _draw_outline(canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Outline of a mask [H, W] on a picture of its proportions."""
    height, width = canvas.shape[:2]
    method = cv2.INTER_AREA if height < mask.shape[0] else cv2.INTER_LINEAR
    small = cv2.resize(mask.astype(np.uint8) * 255, (width, height), interpolation=method)
    outline, _ = cv2.findContours((small >= 128).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outline, -1, colour, 1, cv2.LINE_AA)


def _write(canvas: np.ndarray, text: str, origin: tuple[int, int]) -> None:
    """White text with its lower left corner at `origin` (x, y)."""
    cv2.putText(canvas, text, origin, FONT, 0.4, (255, 255, 255), 1, cv2.LINE_AA)


def _draw_prompts(canvas: np.ndarray, points: np.ndarray, labels: np.ndarray) -> None:
    """A box around two corners, and a dot for each click."""
    corners = {int(label): point for point, label in zip(points, labels, strict=True) if label in (2, 3)}
    if len(corners) == 2:
        first, second = (tuple(int(v) for v in corners[label].round()) for label in (2, 3))
        cv2.rectangle(canvas, first, second, FOREGROUND_COLOUR, 1)
    for point, label in zip(points, labels, strict=True):
        if label in (0, 1):
            centre = tuple(int(v) for v in point.round())
            cv2.circle(canvas, centre, 4, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(canvas, centre, 3, FOREGROUND_COLOUR if label else BACKGROUND_COLOUR, -1, cv2.LINE_AA)


def contact_sheet(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Tiles with a line below that explains the colours.

    Args:
        tiles: RGB uint8, all of one size.
        columns: tiles in a row.

    Returns:
        RGB uint8.
    """
    sheet = _mosaic(tiles, columns)
    legend_width = sum(_entry_width(text) for text, _ in LEGEND)
    top, more = len(sheet), max(0, legend_width - sheet.shape[1])
    sheet = np.pad(sheet, ((0, 26), (0, more), (0, 0)))
    x = 6
    for text, colour in LEGEND:
        cv2.rectangle(sheet, (x, top + 8), (x + 12, top + 18), colour, -1)
        _write(sheet, text, (x + 18, top + 18))
        x += _entry_width(text)
    return sheet


def _mosaic(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Tiles, RGB uint8 of one size, in rows; what is left of the last row is black."""
    filled = [*tiles, *[np.zeros_like(tiles[0])] * (-len(tiles) % columns)]
    return np.vstack([np.hstack(filled[i : i + columns]) for i in range(0, len(filled), columns)])


def _entry_width(text: str) -> int:
    """Pixels that a legend's entry takes: its square, its text and a gap."""
    return 40 + 8 * len(text)


def draw_measurements(
    image: np.ndarray,
    outlines: Sequence[tuple[np.ndarray, str]],
    rulers: Sequence[tuple[tuple[float, float], tuple[float, float], str]],
    entries: Sequence[tuple[str, str]],
    circles: Sequence[tuple[float, float, float]] = (),
) -> np.ndarray:
    """A photograph with outlines of masks, rulers and circles, and lines of text beside it.

    Args:
        image: RGB uint8 [H, W, 3].
        outlines: mask, bool [H, W], and colour of each, "#RRGGBB".
        rulers: both ends, x and y in edges of the photograph's pixels, and colour of each.
        entries: text and colour of each line.
        circles: x and y of the centre, as of rulers, and radius of each, in pixels.

    Returns:
        RGB uint8; the longer side of the photograph is MEASUREMENTS_SIDE.
    """
    scale = MEASUREMENTS_SIDE / max(image.shape[:2])
    canvas = _scaled(image, scale)
    height, width = canvas.shape[:2]
    for mask, colour in outlines:
        small = resize_mask(mask.astype(np.uint8), (height, width))
        found, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, found, -1, _rgb(colour), 1)
    for first, last, colour in rulers:
        ends = [tuple(round(v * scale) for v in end) for end in (first, last)]
        cv2.line(canvas, *ends, _rgb(colour), 1)
    for x, y, radius in circles:
        cv2.circle(canvas, (round(x * scale), round(y * scale)), round(radius * scale), _rgb("#FFFFFF"), 1, cv2.LINE_AA)
    line_height = 22
    margin = 24 + max((cv2.getTextSize(text, FONT, 0.45, 1)[0][0] for text, _ in entries), default=0) + 12
    sheet = np.zeros((max(height, line_height * len(entries) + 12), width + margin, 3), np.uint8)
    sheet[:height, :width] = canvas
    for i, (text, colour) in enumerate(entries):
        y = line_height * (i + 1)
        cv2.rectangle(sheet, (width + 8, y - 9), (width + 17, y), _rgb(colour), -1)
        cv2.putText(sheet, text, (width + 24, y), FONT, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return sheet


def _rgb(colour: str) -> tuple[int, ...]:
    """ "#RRGGBB" as numbers."""
    return tuple(bytes.fromhex(colour[1:]))


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """Write a picture as PNG, atomically.

    Args:
        path: of the file; its folder is made where it is missing.
        rgb: uint8 [H, W, 3], or grey, uint8 or uint16 [H, W].
    """
    pixels = rgb if rgb.ndim == 2 else cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
