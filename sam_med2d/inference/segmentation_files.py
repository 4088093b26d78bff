"""What --dicom_seg of predict.py adds to a run: a DICOM segmentation of each photograph, in a folder of the results."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sam_med2d.data.photographs import Photograph
from sam_med2d.dicom_seg.segmentation import (
    AUTOMATIC,
    MAKER,
    SEMIAUTOMATIC,
    Algorithm,
    check_installed,
    check_label,
    is_dicom_photograph,
    read_source,
    write_segmentation,
)
from sam_med2d.errors import DataError, MissingError, UnclearError, UnreadableError, UsageError, raise_problems

FOLDER = "dicom_seg"
REFINEMENTS = ("zoom", "tiles", "mirror", "use_amp")
SHOWN = 3  # photographs in a message


def check_sources(photographs: Sequence[Photograph], labels: Iterable[str], page: int | None) -> None:
    """Refuse, before the work, photographs that no segmentation can refer to, and labels that no segment can have.

    Those that cannot be read are let through: the run leaves them out, and names them.

    Raises:
        UsageError: a package is missing, photographs are no DICOM files, or a label cannot be.
        DataError: names files that do not say which image they are.
    """
    check_installed()
    for label in labels:
        check_label(label)
    others = [str(photograph.path) for photograph in photographs if not is_dicom_photograph(photograph.path)]
    if others:
        raise UsageError(
            f"--dicom_seg: {len(others)} of {len(photographs)} photographs are no DICOM files, such as "
            f"{', '.join(others[:SHOWN])}: a segmentation refers to one; give the DICOM files alone, or leave the flag "
            "out (scripts/export_dicom_seg.py finds the DICOM files of pictures)."
        )
    problems = []
    for photograph in photographs:
        try:
            read_source(photograph.path, page)
        except (MissingError, UnreadableError, UnclearError):
            continue
        except DataError as error:
            problems.append(str(error))
    raise_problems(problems)


def algorithm_of(args: argparse.Namespace, weights: str) -> Algorithm:
    """What a segmentation says of a run with the flags of predict.py and weights of this digest.

    Points, single boxes and prompt files come from a person: SEMIAUTOMATIC.
    """
    path = Path(args.sam_checkpoint)
    name = "/".join(path.parts[-2:]) if path.is_dir() else path.stem
    kind = AUTOMATIC if args.structures or args.boxes_csv else SEMIAUTOMATIC
    return Algorithm(kind, f"{MAKER}, {name}", weights, {f"--{flag}": str(getattr(args, flag)) for flag in REFINEMENTS})


class SegmentationFiles:
    """Writes a file for each photograph, with a segment for each label: the union of its masks."""

    def __init__(self, out: Path, algorithm: Algorithm, page: int | None) -> None:
        self._folder, self._algorithm, self._page = out / FOLDER, algorithm, page

    def write(self, photograph: Photograph, masks: Mapping[str, np.ndarray]) -> None:
        """Write a photograph's masks, bool [H, W] by label; nothing where there are none. Raises DataError."""
        if masks:
            source = read_source(photograph.path, self._page)
            write_segmentation(self._folder / f"{photograph.name}.dcm", source, masks, self._algorithm)
