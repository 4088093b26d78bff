"""Make the small data set in data_demo/: synthetic fundus photographs with exact masks.

    python scripts/make_demo_data.py

Takes about 5 seconds on a CPU. Result: data_demo/images/*.jpg, data_demo/masks/*.png and the three JSON maps,
about 0.5 MB. A second run writes the same bytes. Files of an earlier run with another --count stay in the
folder; the maps list only this run's pictures, and the real photograph `retina` where it is there.

    python scripts/make_demo_data.py --retina

also makes that real photograph again; this alone needs scikit-image.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.data.synthetic_fundus import STRUCTURES, synthetic_fundus

JPEG_QUALITY = 90
# (height, width) for --size 448. The 4:3 pictures have a field of view clipped at the top and the bottom.
SHAPES = ((384, 384), (400, 448), (427, 512), (480, 640), (448, 448), (360, 480))
REFERENCE_SIZE = 448
SIZE_RANGE = (96, 2560)
COUNT_RANGE = (3, 500)
SEED_RANGE = (0, 10**6)
# One eye in this many has no lesions.
HEALTHY_EVERY = 3

RETINA_SIDE = 512
# The disc outline of the 512 px photograph, fitted by eye as an ellipse to the edge of the pale disc, inside
# the crescent of pigment on its right: centre (x, y) and half axes (x, y) in pixels.
RETINA_DISC_CENTRE = (78.0, 235.5)
RETINA_DISC_AXES = (33.0, 37.0)


class DemoDataError(ValueError):
    """A wish that cannot be met; the message names the flag and its value."""


def split_of(index: int, count: int) -> str:
    """The split of synthetic picture `index` of `count`: about two in eleven each for val and test."""
    held_out = max(1, round(count * 2 / 11))
    if index < count - 2 * held_out:
        return "train"
    return "val" if index < count - held_out else "test"


def picture_shape(index: int, size: int) -> tuple[int, int]:
    """Height and width in pixels of synthetic picture `index`."""
    height, width = SHAPES[index % len(SHAPES)]
    return round(height * size / REFERENCE_SIZE), round(width * size / REFERENCE_SIZE)


def synthetic_pictures(*, count: int, seed: int, size: int) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
    """Yield name, RGB uint8 picture [H,W,3] and {structure: bool mask [H,W]}."""
    for index in range(count):
        height, width = picture_shape(index, size)
        lesions = index % HEALTHY_EVERY != HEALTHY_EVERY - 1
        # Each picture has its own seed: --count changes no picture, and two values of --seed share none.
        image, masks = synthetic_fundus(height=height, width=width, seed=seed * COUNT_RANGE[1] + index, lesions=lesions)
        yield f"synthetic_{index + 1:02d}", image, masks


def retina_picture() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The CC0 photograph that scikit-image ships, RGB uint8 [512,512,3], with its disc drawn by hand."""
    try:
        from skimage.data import retina

        photograph = retina()
    except (ImportError, OSError) as error:
        reason = f"needs scikit-image with its picture retina.jpg ({error}); try: pip install scikit-image"
        raise DemoDataError(f"--retina {reason}") from error
    image = cv2.resize(photograph, (RETINA_SIDE, RETINA_SIDE), interpolation=cv2.INTER_AREA)
    row, column = np.mgrid[:RETINA_SIDE, :RETINA_SIDE]
    across = (column - RETINA_DISC_CENTRE[0]) / RETINA_DISC_AXES[0]
    down = (row - RETINA_DISC_CENTRE[1]) / RETINA_DISC_AXES[1]
    return image, {"optic_disc": across**2 + down**2 <= 1}


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside the target, then rename: a broken run never leaves half a file under the final name."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def encode(extension: str, pixels: np.ndarray, flags: list[int]) -> bytes:
    """Encode uint8 pixels (BGR or grey) with OpenCV."""
    done, buffer = cv2.imencode(extension, pixels, flags)
    assert done, f"OpenCV cannot encode {extension}"
    return buffer.tobytes()


def write_picture(out: Path, name: str, image: np.ndarray, masks: dict[str, np.ndarray]) -> None:
    """Write images/<name>.jpg and one masks/<name>_<structure>_000.png for each mask."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    write_bytes(out / image_path(name), encode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]))
    for structure, mask in masks.items():
        grey = mask.astype(np.uint8) * 255
        write_bytes(out / mask_path(name, structure), encode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 9]))


def image_path(name: str) -> str:
    """Path of a picture, relative to the data set."""
    return f"images/{name}.jpg"


def mask_path(name: str, structure: str) -> str:
    """Path of a mask, relative to the data set."""
    return f"masks/{name}_{structure}_000.png"


def write_maps(out: Path, listing: dict[str, dict[str, list[str]]]) -> None:
    """Write the three JSON maps. `listing` is {split: {picture name: [structures]}}."""
    for split in ("train", "val"):
        pairs = {
            image_path(name): [mask_path(name, structure) for structure in structures]
            for name, structures in listing[split].items()
        }
        _write_json(out / f"image2label_{split}.json", pairs)
    pairs = {
        mask_path(name, structure): image_path(name)
        for name, structures in listing["test"].items()
        for structure in structures
    }
    _write_json(out / "label2image_test.json", pairs)


def _write_json(path: Path, content: dict[str, list[str]] | dict[str, str]) -> None:
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def write_dataset(
    out: Path, *, count: int = 11, seed: int = 0, size: int = REFERENCE_SIZE, with_retina: bool = False
) -> dict[str, dict[str, list[str]]]:
    """Write the whole data set into `out` and return {split: {picture name: [structures]}}.

    The real photograph is made only with `with_retina`, and listed whenever it is in `out`.
    """
    retina = retina_picture() if with_retina else None
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    listing: dict[str, dict[str, list[str]]] = {"train": {}, "val": {}, "test": {}}
    pictures = synthetic_pictures(count=count, seed=seed, size=size)
    for index, (name, image, masks) in enumerate(pictures):
        write_picture(out, name, image, masks)
        # An earlier run with another seed may have left a mask of a structure that this eye lacks.
        for absent in set(STRUCTURES) - set(masks):
            (out / mask_path(name, absent)).unlink(missing_ok=True)
        listing[split_of(index, count)][name] = list(masks)
    if retina is not None:
        write_picture(out, "retina", *retina)
    needed = (image_path("retina"), mask_path("retina", "optic_disc"))
    if all((out / path).is_file() for path in needed):
        listing["test"]["retina"] = ["optic_disc"]
    write_maps(out, listing)
    return listing


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the synthetic demo data set.")
    parser.add_argument("--out", type=Path, default=Path("data_demo"), help="folder to write into")
    parser.add_argument("--count", type=int, default=11, help="number of synthetic pictures")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other eyes")
    parser.add_argument("--size", type=int, default=REFERENCE_SIZE, help="typical side in pixels")
    parser.add_argument("--retina", action="store_true", help="also make the real photograph (scikit-image)")
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Raise DemoDataError for a number out of its range."""
    ranges = {"count": COUNT_RANGE, "seed": SEED_RANGE, "size": SIZE_RANGE}
    for flag, (low, high) in ranges.items():
        value = getattr(args, flag)
        if not low <= value <= high:
            raise DemoDataError(f"--{flag} must be from {low} to {high}, got {value}")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 after one message about bad input."""
    args = parse_args(argv)
    try:
        check_args(args)
        listing = write_dataset(args.out, count=args.count, seed=args.seed, size=args.size, with_retina=args.retina)
    except DemoDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: --out {args.out}: cannot write there ({error})", file=sys.stderr)
        return 2
    counts = ", ".join(f"{len(pictures)} {split}" for split, pictures in listing.items())
    print(f"{args.out}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
