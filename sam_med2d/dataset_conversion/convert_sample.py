"""One sample -> its photograph and masks in the documented layout, pixels included."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam_med2d.data.image_io import COPY_AGAIN, is_plain, read_image, read_values
from sam_med2d.data.mask_values import binary_mask
from sam_med2d.dataset_conversion.samples import Sample
from sam_med2d.dataset_conversion.slices import read_channels
from sam_med2d.errors import DataError
from segment_anything.utils.field_of_view import find_field_of_view
from segment_anything.utils.masks import resize_mask

JPEG_QUALITY = 95
MIN_VIEW = 0.05  # share of a tile inside the field of view, below which it is left out
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 6]
JPEG = [
    *(cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]

Window = tuple[int, int, int, int]  # top, left, bottom, right, half-open
StructureMasks = list[tuple[str, np.ndarray]]  # structures and their masks, uint8 {0, 1} [H, W]


@dataclass(frozen=True, slots=True)
class Options:
    """What happens to the pixels.

    Attributes:
        fov_crop: cut to the field of view.
        max_side: longer side in pixels, 0 keeps the size.
        instances: each 8-connected component is a mask.
        min_area: components (with instances) and masks of fewer pixels are left out.
        tile, overlap: windows of this side and overlap, in pixels, 0 for whole photographs.
        keep_empty: also tiles without any mask.
        link: symbolic links to photographs that need no change.
    """

    fov_crop: bool = False
    max_side: int = 0
    instances: bool = False
    min_area: int = 1
    tile: int = 0
    overlap: int = 0
    keep_empty: bool = False
    link: bool = False


@dataclass(slots=True)
class LabelledImage:
    """A photograph on its way.

    Attributes:
        name: begins the names of its files.
        pixels: RGB uint8 [H, W, 3].
        masks: of its structures.
        window: the part of the original photograph, in its pixels.
        unchanged: whether the file itself shows just this.
        components: number of 8-connected ones of each structure before and after resizing.
    """

    name: str
    pixels: np.ndarray
    masks: StructureMasks
    window: Window
    unchanged: bool
    components: dict[str, list[int]] = field(default_factory=dict)


def convert(sample: Sample, options: Options, out: Path) -> list[dict[str, Any]]:
    """Write a sample's files below `out`.

    Args:
        sample: the photograph and its masks.
        options: what happens to the pixels.
        out: folder of the data set, with images/ and masks/.

    Returns:
        A row for the photograph, or for each of its tiles: image and masks (paths from `out`), structures, absent,
        size and original [width, height], window [x0, y0, x1, y1], and lost, number of masks left out by structure;
        in the first row components, [before, after] resizing by structure.

    Raises:
        DataError: names a file that cannot be used.
    """
    picture, height, width = _read(sample, options)
    cut = Counter(structure for structure, mask in picture.masks if not mask.any())
    picture.masks = [(structure, mask) for structure, mask in picture.masks if mask.any()]
    picture = _resized(picture, options.max_side)
    looked_for = {source.structure for source in sample.masks}.union(sample.absent)
    rows = []
    for piece in _tiles(picture, options):
        there = {structure for structure, mask in piece.masks if mask.any()}
        row = _write(piece, sample.image, options, out)
        rows.append({**row, "absent": sorted(looked_for - there), "original": [width, height]})
    if rows:
        rows[0]["lost"] = dict(Counter(rows[0]["lost"]) + cut)
        rows[0]["components"] = picture.components
    return rows


def _read(sample: Sample, options: Options) -> tuple[LabelledImage, int, int]:
    """The photograph with its masks, cut to its part and its field of view, and the file's height and width."""
    channels = sample.channels
    pixels = read_channels(channels) if channels else read_image(sample.image, advice=COPY_AGAIN, page=sample.page)
    height, width = pixels.shape[:2]
    left, top, right, bottom = (round(f * n) for f, n in zip(sample.part, (width, height) * 2, strict=True))
    pixels = pixels[top:bottom, left:right]
    masks = [(source.structure, source.decode(source.path, pixels.shape[:2])) for source in sample.masks]
    masks = [(structure, mask.astype(np.uint8)) for structure, mask in masks if mask.any()]
    if options.fov_crop:
        crop = _view(sample, pixels)
        top, left, bottom, right = top + crop[0], left + crop[1], top + crop[2], left + crop[3]
        pixels = _cut(pixels, crop)
        masks = [(structure, _cut(mask, crop)) for structure, mask in masks]
    unchanged = pixels.shape[:2] == (height, width) and not channels and is_plain(sample.image)
    return LabelledImage(sample.name, pixels, masks, (top, left, bottom, right), unchanged), height, width


def _view(sample: Sample, pixels: np.ndarray) -> Window:
    """Bounding box of the field of view: of the data set's own mask if it has one."""
    if sample.field_of_view is None:
        return find_field_of_view(pixels).box
    view = binary_mask(read_values(sample.field_of_view), sample.field_of_view, any_white=True)
    if view.shape != pixels.shape[:2] or not view.any():
        raise DataError(f"{sample.field_of_view} is no field of view of {sample.image}: other size, or empty")
    x, y, w, h = cv2.boundingRect(view.astype(np.uint8))
    return y, x, y + h, x + w


def _cut(array: np.ndarray, window: Window) -> np.ndarray:
    top, left, bottom, right = window
    return array[top:bottom, left:right]


def _resized(picture: LabelledImage, max_side: int) -> LabelledImage:
    """The picture with a longer side of at most max_side; thin and small structures stay (see resize_mask)."""
    height, width = picture.pixels.shape[:2]
    if not max_side or max(height, width) <= max_side:
        return picture
    scale = max_side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    picture.pixels = cv2.resize(picture.pixels, size[::-1], interpolation=cv2.INTER_AREA)
    resized = [(structure, resize_mask(mask, size)) for structure, mask in picture.masks]
    for (structure, before), (_, after) in zip(picture.masks, resized, strict=True):
        counts = picture.components.setdefault(structure, [0, 0])
        counts[:] = counts[0] + _components(before), counts[1] + _components(after)
    picture.masks = resized
    picture.unchanged = False
    return picture


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the windows that cover a length; the last one ends with it."""
    last = max(0, length - tile)
    return [*range(0, last, tile - overlap), last]


def _tiles(picture: LabelledImage, options: Options) -> Iterator[LabelledImage]:
    """The picture, or with a tile size its windows that show something of the field of view."""
    if not options.tile:
        yield picture
        return
    height, width = picture.pixels.shape[:2]
    view = find_field_of_view(picture.pixels).mask()
    scale = (picture.window[2] - picture.window[0]) / height
    for top in starts(height, options.tile, options.overlap):
        for left in starts(width, options.tile, options.overlap):
            window = (top, left, min(height, top + options.tile), min(width, left + options.tile))
            masks = [(structure, _cut(mask, window)) for structure, mask in picture.masks]
            if _cut(view, window).mean() < MIN_VIEW or not (options.keep_empty or any(m.any() for _, m in masks)):
                continue
            y, x, bottom, right = (round(edge * scale) for edge in window)
            place = (
                y + picture.window[0],
                x + picture.window[1],
                bottom + picture.window[0],
                right + picture.window[1],
            )
            name = f"{picture.name}_y{top:05d}_x{left:05d}"
            yield LabelledImage(name, _cut(picture.pixels, window), masks, place, False)


def _write(picture: LabelledImage, source: Path, options: Options, out: Path) -> dict[str, Any]:
    """Write one picture and its masks; their row."""
    height, width = picture.pixels.shape[:2]
    image = _write_image(picture, source, options, out)
    masks: list[str] = []
    lost: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    drawn = [(structure, mask) for structure, mask in picture.masks if mask.any()]
    for structure, mask in _separate(drawn) if options.instances else drawn:
        if mask.sum() < options.min_area:
            lost[structure] += 1
            continue
        name = f"masks/{picture.name}_{structure}_{numbers[structure]:03d}.png"
        _encode(out / name, mask * 255, PNG)
        numbers[structure] += 1
        masks.append(name)
    return {
        "image": image,
        "masks": masks,
        "structures": sorted(numbers),
        "size": [width, height],
        "window": [picture.window[i] for i in (1, 0, 3, 2)],
        "lost": dict(lost),
    }


def _write_image(picture: LabelledImage, source: Path, options: Options, out: Path) -> str:
    """The photograph's file: the source's own where that shows just this, else JPEG from JPEG, PNG from others."""
    suffix = ".jpg" if source.suffix.lower() in (".jpg", ".jpeg") else ".png"
    target = out / f"images/{picture.name}{suffix}"
    target.unlink(missing_ok=True)  # of an earlier run it may be a link, and the source would be written to
    if not picture.unchanged:
        _encode(target, picture.pixels[..., ::-1], JPEG if suffix == ".jpg" else PNG)
        return f"images/{target.name}"
    if options.link:
        target.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, target)
    return f"images/{target.name}"


def _components(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask, connectivity=8)[0] - 1


def _separate(masks: Sequence[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
    """Each 8-connected component as a mask, from top to bottom."""
    for structure, mask in masks:
        count, labels = cv2.connectedComponents(mask, connectivity=8)
        yield from ((structure, (labels == label).astype(np.uint8)) for label in range(1, count))


def _encode(path: Path, pixels: np.ndarray, flags: list[int]) -> None:
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(pixels), flags)
    if not done:
        raise DataError(f"{path} could not be encoded")
    path.write_bytes(data.tobytes())
