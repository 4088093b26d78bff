"""What scripts/export_coco.py does: a data set in our JSON maps becomes a COCO file."""

import argparse
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam_med2d.data.image_io import read_mask, size_of
from sam_med2d.data.record_checks import check_size
from sam_med2d.data.records import SPLITS, Record, has_map, load_index
from sam_med2d.dataset_conversion.formats.coco_ids import own_ids
from sam_med2d.dataset_conversion.polygons import outlines
from sam_med2d.errors import DataError, UsageError
from sam_med2d.runtime.run_folder import make_folder
from segment_anything.utils.atomic import write_text
from segment_anything.utils.rle import area_from_rle, box_from_rle, mask_to_rle


def write_coco(args: argparse.Namespace) -> None:
    """Write a data set's maps as a COCO file, as the flags of scripts/export_coco.py say.

    Raises:
        UsageError: for flags that cannot work.
        DataError: for files that cannot be used.
    """
    if args.out.suffix.lower() != ".json":
        raise UsageError(f"OUT: {args.out} must end in .json")
    if args.out.name.startswith(("image2label", "label2image")):
        raise UsageError(f"OUT: {args.out} has the name of a map: give another")
    splits = [args.split] if args.split else [split for split in SPLITS if has_map(args.data, split)]
    if not splits:
        raise UsageError(f"DIR: {args.data} has no map, such as image2label_train.json")
    if args.out.is_dir():
        raise UsageError(f"OUT: {args.out} is a folder: give the name of a file")
    make_folder(args.out.parent, "OUT")
    records = {split: load_index(args.data, split) for split in splits}
    content = coco(records, args.out.parent, polygons=args.polygons)
    write_text(args.out, json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n")
    counts = ", ".join(f"{len(content[part])} {part}" for part in ("images", "annotations", "categories"))
    print(f"{args.out}: {counts}")
    if outside := [image["file_name"] for image in content["images"] if image["file_name"].startswith("..")]:
        print(f"note: {outside[0]} lies outside of {args.out.parent}; some readers want all below it: write OUT to DIR")


def coco(records: dict[str, list[Record]], folder: Path, *, polygons: bool) -> dict[str, Any]:
    """COCO's content for a data set; ids of images and categories depend on their names alone (coco_ids).

    Args:
        records: of each split.
        folder: what the file names are relative to.
        polygons: masks as outlines instead of run lengths.

    Raises:
        DataError: for files that cannot be used.
    """
    pairs = [(split, record, _relative(record.image, folder)) for split in records for record in records[split]]
    pairs.sort(key=lambda pair: pair[2])
    names = {mask.structure for _, record, _ in pairs for mask in record.masks}
    ids = own_ids([record.image for _, record, _ in pairs], names)
    images, annotations = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        drawn = pool.map(lambda pair: _annotations(pair[1], ids.categories, polygons=polygons), pairs)
        bar = tqdm(zip(pairs, drawn, strict=True), total=len(pairs), desc="reading masks", unit="image", leave=False)
        for (split, record, name), ((height, width), found) in bar:
            image = {"id": ids.images[record.image], "file_name": name, "width": width, "height": height}
            images.append(image | {"split": split})
            for annotation in found:
                annotations.append({"id": len(annotations) + 1, "image_id": image["id"], **annotation})
    return {"images": images, "annotations": annotations, "categories": ids.listed_categories()}


def _annotations(
    record: Record, categories: Mapping[str, int | str], *, polygons: bool
) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Size (height, width) of a photograph, and its masks as annotations without ids."""
    size = size_of(record.image)
    found = []
    for ref in sorted(record.masks, key=lambda ref: (ref.structure, ref.key)):
        mask = read_mask(ref.path)
        check_size(ref.path, mask.shape, record.image, size)
        rle = mask_to_rle(mask)
        outline = [polygon.ravel().tolist() for polygon in outlines(mask)] if polygons else rle
        about = {"area": area_from_rle(rle), "bbox": list(box_from_rle(rle)), "iscrowd": 0}
        found.append({"category_id": categories[ref.structure], "segmentation": outline, **about})
    return size, found


def _relative(path: Path, folder: Path) -> str:
    """The path from the folder on, with slashes. Raises DataError where there is none."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError as error:  # another drive
        raise DataError(f"OUT: {path} cannot be reached from {folder} ({error}): write OUT to DIR") from error
