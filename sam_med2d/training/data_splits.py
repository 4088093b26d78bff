"""The training and validation photographs of a run."""

import argparse
import logging
from collections.abc import Sequence

from sam_med2d.data.augmentation import Augmentation
from sam_med2d.data.dataset import FundusDataset
from sam_med2d.data.record_checks import check_data_sets
from sam_med2d.data.records import Record, complete, has_map, load_folders, promptable
from sam_med2d.errors import DataError
from segment_anything.modeling import Sam

logger = logging.getLogger("train")


def data_folders(args: argparse.Namespace) -> list[str]:
    """The folders of --data_path, whose default is one folder."""
    return args.data_path if isinstance(args.data_path, list) else [args.data_path]


def load_splits(args: argparse.Namespace, structures: Sequence[str]) -> list[list[Record]]:
    """Read the maps of all folders; their files stay unchecked.

    Photographs without a mask are left out, but for those that are known not to have one of the structures.

    Args:
        args: Flags of train.py.
        structures: Names of the model's structure prompts.

    Returns:
        Training records and validation records; none of the latter without such a map.

    Raises:
        DataError: Nothing is left to train with, or --complete names a data set that is not there.
    """
    folders = data_folders(args)
    with_val = [folder for folder in folders if has_map(folder, "val")]
    splits = [load_folders(folders, "train"), load_folders(with_val, "val") if with_val else []]
    if not with_val:
        splits[1] = splits[0] if args.keep_start else []
        last = "no validation map, so best is the last checkpoint"
        own = "no validation map, so the training photographs are validated"
        logger.warning(f"{', '.join(folders)}: {own if args.keep_start else last}")
    check_data_sets(args.complete, [record for records in splits for record in records])
    kept = [promptable(complete(records, args.complete), structures) for records in splits]
    if left_out := sum(map(len, splits)) - sum(map(len, kept)):
        logger.info(f"{left_out} photographs without a mask are left out")
    if not kept[0]:
        raise DataError(f"--data_path {', '.join(folders)}: there is nothing to train with.")
    return kept


def training_dataset(args: argparse.Namespace, records: Sequence[Record], model: Sam) -> FundusDataset:
    """Make the data set of a run's training photographs.

    Args:
        args: Flags of train.py.
        records: The photographs.
        model: The model to train, with its preprocessing and structures.
    """
    return FundusDataset(
        records,
        model.preprocessing,
        mask_num=args.mask_num,
        augmentation=None if args.augment == "none" else Augmentation(model.preprocessing, args.augment),
        box_of=args.box,
        drop_vanished=True,
        seed=args.seed,
        balance=args.balance == "structure",
        structures=model.prompt_encoder.structures,
    )
