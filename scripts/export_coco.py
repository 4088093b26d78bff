"""Write a data set in our JSON maps as a COCO file, for annotation programs and other projects.

    python scripts/export_coco.py data_demo data_demo/coco.json
    python scripts/export_coco.py data_demo data_demo/test.json --split test --polygons

Takes about 20 ms for a mask of 4 million pixels. Each mask is one annotation, each structure a category. Masks are
run-length encoded, or with --polygons outlined along their pixels' sides; both are exact, and
`scripts/prepare_dataset.py coco OUT.json DIR` reads them back. Splits go into the images' own field "split".
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from sam_med2d.data.image_io import read_mask, size_of
from sam_med2d.data.record_checks import check_size
from sam_med2d.data.records import SPLITS, Record, has_map, load_index
from sam_med2d.dataset_conversion.polygons import outlines
from sam_med2d.errors import DataError, UsageError
from sam_med2d.runtime.cli import add_bool, run_main
from sam_med2d.runtime.run_folder import make_folder
from segment_anything.utils.atomic import write_text
from segment_anything.utils.rle import area_from_rle, box_from_rle, mask_to_rle


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DIR", help="data set: a folder with JSON maps")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write, ending in .json")
    parser.add_argument("--split", choices=SPLITS, help="default: all that DIR has")
    add_bool(parser, "--polygons", default=False, help="outlines instead of run lengths")
    return parser.parse_args(argv)


def export(args: argparse.Namespace) -> int:
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
    return 0


def coco(records: dict[str, list[Record]], folder: Path, *, polygons: bool) -> dict[str, Any]:
    """COCO's content for the records of each split; file names are relative to `folder`.

    Ids count from 1 in the order of names, so that the same data get the same ids. Raises DataError for files that
    cannot be used.
    """
    pairs = [(split, record, _relative(record.image, folder)) for split in records for record in records[split]]
    pairs.sort(key=lambda pair: pair[2])
    names = sorted({mask.structure for _, record, _ in pairs for mask in record.masks})
    categories = {name: number for number, name in enumerate(names, start=1)}
    images, annotations = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        drawn = pool.map(lambda pair: _annotations(pair[1], categories, polygons=polygons), pairs)
        bar = tqdm(zip(pairs, drawn, strict=True), total=len(pairs), desc="reading masks", unit="image", leave=False)
        for (split, _, name), ((height, width), found) in bar:
            image = {"id": len(images) + 1, "file_name": name, "width": width, "height": height, "split": split}
            images.append(image)
            for annotation in found:
                annotations.append({"id": len(annotations) + 1, "image_id": image["id"], **annotation})
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    return {"images": images, "annotations": annotations, "categories": listed}


def _annotations(
    record: Record, categories: dict[str, int], *, polygons: bool
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
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError as error:  # another drive
        raise DataError(f"OUT: {path} cannot be reached from {folder} ({error}): write OUT to DIR") from error


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(export, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
