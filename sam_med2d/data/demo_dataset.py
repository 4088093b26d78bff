"""The small data set data_demo/: synthetic fundus photographs with exact masks, and one real photograph."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam_med2d.data.synthetic_fundus import STRUCTURES, synthetic_fundus
from sam_med2d.errors import UsageError
from segment_anything.utils.atomic import atomic_path, write_text

JPEG_QUALITY = 90
# (height, width) for a size of 448. The 4:3 pictures have a field of view clipped at the top and the bottom.
SHAPES = ((384, 384), (400, 448), (427, 512), (480, 640), (448, 448), (360, 480))
REFERENCE_SIZE = 448
HEALTHY_EVERY = 3  # one eye in this many has no lesions
RANGES = {"count": (3, 500), "seed": (0, 10**6), "size": (96, 2560)}
RETINA = "retina"  # the real photograph
RETINA_SIDE = 512
# The disc outline of the 512 px photograph, fitted by eye as an ellipse to the edge of the pale disc, inside
# the crescent of pigment on its right: centre (x, y) and half axes (x, y) in pixels.
RETINA_DISC_CENTRE = (78.0, 235.5)
RETINA_DISC_AXES = (33.0, 37.0)

Maps = dict[str, dict[str, list[str]]]  # {split: {photograph's name: [structures]}}
Picture = tuple[np.ndarray, dict[str, np.ndarray]]  # RGB uint8 [H, W, 3] and {structure: bool mask [H, W]}


def write_dataset(
    out: Path, *, count: int = 11, seed: int = 0, size: int = REFERENCE_SIZE, with_retina: bool = False
) -> Maps:
    """Write the data set: what is listed in its maps.

    Args:
        out: its folder.
        count: number of synthetic photographs.
        seed: another one gives other eyes.
        size: typical side in pixels.
        with_retina: make the real photograph, too; it is listed whenever it is in `out`.

    Raises:
        UsageError: for a number out of its range, a folder that cannot be written, or a missing scikit-image.
    """
    _check_ranges(count=count, seed=seed, size=size)
    retina = _retina_picture() if with_retina else None
    try:
        return _write(out, list(_synthetic_pictures(count=count, seed=seed, size=size)), retina)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot write there ({error})") from error


def _check_ranges(**values: int) -> None:
    """Raise UsageError for a number out of its range."""
    for flag, value in values.items():
        low, high = RANGES[flag]
        if not low <= value <= high:
            raise UsageError(f"--{flag} must be from {low} to {high}, got {value}")


def split_of(index: int, count: int) -> str:
    """The split of synthetic photograph `index` of `count`: about two in eleven each for val and test."""
    held_out = max(1, round(count * 2 / 11))
    if index < count - 2 * held_out:
        return "train"
    return "val" if index < count - held_out else "test"


def _synthetic_pictures(*, count: int, seed: int, size: int) -> Iterator[tuple[str, *Picture]]:
    """Name, photograph and masks of drawn eyes of a typical side in pixels; `count` changes none of them."""
    for index in range(count):
        height, width = (round(side * size / REFERENCE_SIZE) for side in SHAPES[index % len(SHAPES)])
        lesions = index % HEALTHY_EVERY != HEALTHY_EVERY - 1
        own_seed = seed * RANGES["count"][1] + index  # so that two values of --seed share none
        image, masks = synthetic_fundus(height=height, width=width, seed=own_seed, lesions=lesions)
        yield f"synthetic_{index + 1:02d}", image, masks


def _retina_picture() -> Picture:
    """The CC0 photograph of scikit-image, 512 x 512 pixels, with its disc drawn by hand; UsageError without it."""
    try:
        from skimage.data import retina

        photograph = retina()
    except (ImportError, OSError) as error:
        reason = f"needs scikit-image with its picture retina.jpg ({error}); try: pip install scikit-image"
        raise UsageError(f"--retina {reason}") from error
    image = cv2.resize(photograph, (RETINA_SIDE, RETINA_SIDE), interpolation=cv2.INTER_AREA)
    row, column = np.mgrid[:RETINA_SIDE, :RETINA_SIDE]
    across = (column - RETINA_DISC_CENTRE[0]) / RETINA_DISC_AXES[0]
    down = (row - RETINA_DISC_CENTRE[1]) / RETINA_DISC_AXES[1]
    return image, {"optic_disc": across**2 + down**2 <= 1}


# --- files ----------------------------------------------------------------------------------------------------


def _write(out: Path, pictures: list[tuple[str, *Picture]], retina: Picture | None) -> Maps:
    """Write photographs, masks and maps."""
    maps: Maps = {"train": {}, "val": {}, "test": {}}
    for index, (name, image, masks) in enumerate(pictures):
        _write_picture(out, name, image, masks)
        for absent in set(STRUCTURES) - set(masks):  # of an earlier run with another seed
            (out / _mask_path(name, absent)).unlink(missing_ok=True)
        maps[split_of(index, len(pictures))][name] = list(masks)
    if retina is not None:
        _write_picture(out, RETINA, *retina)
    if all((out / path).is_file() for path in (_image_path(RETINA), _mask_path(RETINA, "optic_disc"))):
        maps["test"][RETINA] = ["optic_disc"]
    _write_maps(out, maps)
    return maps


def _write_picture(out: Path, name: str, image: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    """Write images/<name>.jpg and one masks/<name>_<structure>_000.png for each mask."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _write_pixels(out / _image_path(name), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    for structure, mask in masks.items():
        grey = mask.astype(np.uint8) * 255
        _write_pixels(out / _mask_path(name, structure), grey, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _write_pixels(path: Path, pixels: np.ndarray, flags: list[int]) -> None:
    """Encode uint8 pixels, BGR or grey, as the file's suffix says."""
    done, encoded = cv2.imencode(path.suffix, pixels, flags)
    assert done, f"OpenCV cannot encode {path.suffix}"
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _write_maps(out: Path, maps: Maps) -> None:
    """Write the three JSON maps."""
    for split in ("train", "val"):
        images = {
            _image_path(name): [_mask_path(name, structure) for structure in structures]
            for name, structures in maps[split].items()
        }
        _write_json(out / f"image2label_{split}.json", images)
    masks = {
        _mask_path(name, structure): _image_path(name)
        for name, structures in maps["test"].items()
        for structure in structures
    }
    _write_json(out / "label2image_test.json", masks)


def _image_path(name: str) -> str:
    """Path of a photograph, relative to the data set."""
    return f"images/{name}.jpg"


def _mask_path(name: str, structure: str) -> str:
    """Path of a mask, relative to the data set."""
    return f"masks/{name}_{structure}_000.png"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
