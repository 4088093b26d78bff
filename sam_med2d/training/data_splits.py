"""The training and validation records of a run."""

import argparse
import logging
from collections.abc import Sequence

from sam_med2d.data.record_checks import check_data_sets
from sam_med2d.data.records import Record, complete, has_map, load_folders, promptable
from sam_med2d.errors import DataError

logger = logging.getLogger("train")


def folders_of(args: argparse.Namespace) -> list[str]:
    """The folders of --data_path, of which the default is one."""
    return args.data_path if isinstance(args.data_path, list) else [args.data_path]


def load_splits(args: argparse.Namespace, structures: Sequence[str]) -> list[list[Record]]:
    """Training and validation records of all folders, their files unchecked; the second where there is such a map.

    Photographs without a mask are left out, but for those that are known not to have one of the `structures`. Raises
    DataError where nothing is left to train with, or --complete names a data set that is not there.
    """
    folders = folders_of(args)
    with_val = [folder for folder in folders if has_map(folder, "val")]
    if not with_val:
        logger.warning(f"{', '.join(folders)}: no validation map, so no validation: best is the last checkpoint")
    splits = [load_folders(folders, "train"), load_folders(with_val, "val") if with_val else []]
    check_data_sets(args.complete, [record for records in splits for record in records])
    kept = [promptable(complete(records, args.complete), structures) for records in splits]
    if left_out := sum(map(len, splits)) - sum(map(len, kept)):
        logger.info(f"{left_out} photographs without a mask are left out")
    if not kept[0]:
        raise DataError(f"--data_path {', '.join(folders)}: there is nothing to train with.")
    return kept
