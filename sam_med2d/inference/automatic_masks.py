"""What scripts/amg.py does: masks of everything in photographs, without prompts, as Segment Anything's files."""

import argparse
import json
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam_med2d.data.image_io import COPY_AGAIN, read_image
from sam_med2d.data.photographs import photographs_in
from sam_med2d.errors import DataError, UsageError
from sam_med2d.notes import REMARKS
from sam_med2d.runtime.cli import setup_logging
from sam_med2d.runtime.devices import resolve_device
from sam_med2d.runtime.model_loading import load_model
from sam_med2d.runtime.run_folder import make_folder
from sam_med2d.visualization.overlays import write_picture
from sam_med2d.visualization.tables import write_csv
from segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam
from segment_anything.utils.atomic import write_text

METADATA = "metadata.csv"
COLUMNS = ["id", "area", "bbox_x0", "bbox_y0", "bbox_w", "bbox_h", "point_input_x", "point_input_y", "predicted_iou"]
COLUMNS += ["stability_score", "crop_box_x0", "crop_box_y0", "crop_box_w", "crop_box_h"]


def write_automatic_masks(args: argparse.Namespace, settings: Mapping[str, float]) -> int:
    """Find and write the masks of the photographs that the flags name.

    Args:
        args: the flags of scripts/amg.py.
        settings: arguments of SamAutomaticMaskGenerator.

    Returns:
        The exit code: 0, or 1 where photographs could not be read.

    Raises:
        UsageError, CheckpointError: for what a user can mend.
    """
    setup_logging(level=logging.WARNING)
    images = find_photographs(args.input)
    out = make_folder(args.output, "--output")
    model = load_model(args, resolve_device(args.device)).model
    generator = _make_generator(model, settings, rle=args.convert_to_rle)
    found, unreadable = 0, 0
    for path in tqdm(_told_of(images), "photographs", len(images), unit="image"):
        try:
            image = read_image(path, max_pixels=args.max_pixels, advice=COPY_AGAIN, page=args.page)
            records = generator.generate(image)
        except DataError as error:
            print(f"left out: {error}", file=sys.stderr)
            unreadable += 1
            continue
        if args.convert_to_rle:
            write_text(out / f"{path.stem}.json", json.dumps(records))
        else:
            write_folder(records, out / path.stem)
        found += len(records)
    print(f"{found} masks in {len(images) - unreadable} photographs: {out}/")
    if not found:
        print("note: lower --pred-iou-thresh and --stability-score-thresh to see more")
    return 1 if unreadable else 0


def _told_of(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths; what is to be told of the files is told after the last."""
    with REMARKS.collected():
        yield from paths


def find_photographs(path: Path) -> list[Path]:
    """The files that --input names, by name; UsageError where there is none, or where two have one name."""
    if path.is_file():
        return [path]
    found = photographs_in(path, below=False) if path.is_dir() else []
    if not found:
        raise UsageError(f"--input {path}: no photograph is there.")
    if twice := [name for name, times in Counter(image.stem for image in found).items() if times > 1]:
        raise UsageError(f"--input {path}: two photographs are called {twice[0]}, as their results would be.")
    return found


def _make_generator(model: Sam, settings: Mapping[str, float], *, rle: bool) -> SamAutomaticMaskGenerator:
    """A generator by arguments of SamAutomaticMaskGenerator; the UsageError names a flag that cannot work."""
    try:
        return SamAutomaticMaskGenerator(model, output_mode="coco_rle" if rle else "binary_mask", **settings)
    except ValueError as error:
        flag, _, rest = str(error).partition("=")
        raise UsageError(f"--{flag.replace('_', '-')} {rest}") from error


def write_folder(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the masks of a photograph as PNG files with their table, all at once, in place of an earlier run's folder.

    The records are those of `SamAutomaticMaskGenerator.generate`, with masks as arrays.

    Raises:
        UsageError: where the folder holds something else.
    """
    if folder.exists() and not (folder / METADATA).is_file():
        raise UsageError(f"--output: {folder} is there and holds no {METADATA}: choose another folder.")
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        for i, record in enumerate(records):
            write_picture(temporary / f"{i}.png", record["segmentation"].astype("uint8") * 255)
        write_csv(temporary / METADATA, COLUMNS, (_table_row(i, record) for i, record in enumerate(records)))
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _table_row(number: int, record: dict[str, Any]) -> dict[str, Any]:
    """A mask's line of the table."""
    scores = record["predicted_iou"], record["stability_score"]
    cells = [number, record["area"], *record["bbox"], *record["point_coords"][0], *scores, *record["crop_box"]]
    return dict(zip(COLUMNS, cells, strict=True))
