"""Every file of the records opened once: what is missing, unreadable, empty or of another size."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from tqdm import tqdm

from sam_med2d.data.image_io import CHECK_MAP, read_bytes, read_image, read_mask
from sam_med2d.data.records import Record, load_index, promptable
from sam_med2d.errors import DataError, SizeError, raise_problems
from sam_med2d.notes import REMARKS
from segment_anything.utils.digest import digest


def check_data_sets(names: Iterable[str], records: Sequence[Record]) -> None:
    """Raise DataError where --complete names a data set that no record is of."""
    present = list(dict.fromkeys(record.data_set for record in records))
    if unknown := [name for name in names if name not in present]:
        raise DataError(f"--complete {unknown[0]}: no photograph is of this data set; there are {', '.join(present)}.")


def load_checked(folder: str | Path, split: str, *, without_masks: bool = False) -> list[Record]:
    """Records of a split as `load_index` returns them, of which every file was opened.

    Raises:
        DataError: lists missing and unreadable files, masks of another size than their photograph, values other than
            {0, 1} or {0, 255}, and empty masks.
    """
    records = load_index(folder, split, without_masks=True)
    check_records(records)
    return records if without_masks else promptable(records)


def check_records(*splits: Sequence[Record]) -> None:
    """Open every file of the splits.

    Raises:
        DataError: lists all problems, masks listed twice too.
    """
    cv2.setNumThreads(0)  # the files are the parallel part; and OpenCV's own threads do not survive a fork
    records = list(dict.fromkeys(record for split in splits for record in split))
    with REMARKS.collected(), ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(pool.map(problems_of, records), total=len(records), desc="checking files", unit="image", leave=False)
        problems = [problem for problems in bar for problem in problems]
    problems += [problem for split in splits for problem in repeated_masks(split)]
    raise_problems(problems)


def repeated_masks(records: Sequence[Record]) -> list[str]:
    """A sentence for each mask that a map lists more than once."""
    times = Counter(mask.path for record in records for mask in record.masks)
    return [f"{path} is listed {n} times in one map: list it once" for path, n in times.items() if n > 1]


def problems_of(record: Record) -> list[str]:
    """What is wrong with a photograph and its masks, one sentence each."""
    return [str(problem) for problem in errors_of(record).values()]


def errors_of(record: Record) -> dict[Path, DataError]:
    """What is wrong with each file of a record."""
    errors: dict[Path, DataError] = {}
    size = None
    try:
        size = read_image(record.image).shape[:2]
    except DataError as error:
        errors[record.image] = error
    for mask in record.masks:
        try:
            check_size(mask.path, read_mask(mask.path).shape, record.image, size)
        except DataError as error:
            errors[mask.path] = error
    return errors


def check_size(mask: Path, shape: tuple[int, int], image: Path, size: tuple[int, int] | None) -> None:
    """Raise SizeError for a mask of another shape [H, W] than its photograph's size (height, width), if it is known."""
    if size and shape != size:
        raise SizeError(
            f"{mask} is {shape[1]} x {shape[0]} pixels, its image {image} {size[1]} x {size[0]}: "
            f"{size_advice(shape, size)}"
        )


def size_advice(shape: tuple[int, ...], size: tuple[int, int]) -> str:
    """What to do about a mask of another shape [H, W] than its photograph's size (height, width)."""
    turned = "; or turn it, if it was drawn by a program that does not turn photographs as their EXIF tag says"
    return f"make the mask from the same picture{turned if tuple(shape) == tuple(size)[::-1] else ''}"


def data_digest(records: Sequence[Record]) -> str:
    """Digest of the records' data: 32 hexadecimal digits (BLAKE2b).

    Names and contents of all files and the structures count, in order; the folders they lie in do not.
    """
    names = [[r.image.name, *([mask.path.name, mask.structure] for mask in r.masks)] for r in records]
    paths = [path for r in records for path in (r.image, *(mask.path for mask in r.masks))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = list(pool.map(lambda path: digest(read_bytes(path, advice=CHECK_MAP)), paths))
    return digest(json.dumps([names, contents]).encode())
