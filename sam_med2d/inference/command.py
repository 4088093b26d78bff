"""What scripts/predict.py does: from checked flags to the results."""

import argparse
import logging
from collections.abc import Sequence
from contextlib import suppress

import torch

from sam_med2d.data.image_io import size_of
from sam_med2d.data.photographs import Photograph, find_photographs
from sam_med2d.dataset_conversion.formats.coco_ids import CocoIds, ids_of_file, own_ids
from sam_med2d.errors import DataError
from sam_med2d.inference.batch_run import BatchRun
from sam_med2d.inference.prompt_sources import (
    PhotographPrompts,
    check_places,
    clicks_for,
    read_boxes,
    read_file,
    structures_for,
)
from sam_med2d.inference.result_files import FOLDERS, check_names
from sam_med2d.inference.segmentation_files import check_sources
from sam_med2d.runtime.cli import setup_logging
from sam_med2d.runtime.devices import cpu_workers, drop_slow_amp
from sam_med2d.runtime.distributed import Processes, joined_processes
from sam_med2d.runtime.model_loading import load_model
from sam_med2d.runtime.run_folder import make_folder
from sam_med2d.runtime.signals import sigterm_as_ctrl_c
from segment_anything.modeling import Sam
from segment_anything.utils.digest import digest

logger = logging.getLogger("predict")


def predict(args: argparse.Namespace) -> int:
    """Predict the masks that the flags ask for, in as many processes as torchrun has started.

    Returns:
        The exit code: 0, 1 where photographs could not be predicted, or 130 for a run that was interrupted.

    Raises:
        UsageError, DataError, CheckpointError: for what a user can mend.
    """
    try:
        with joined_processes(args.device) as (processes, device), sigterm_as_ctrl_c():
            setup_logging(level=logging.INFO if processes.first else logging.ERROR)
            return _make_run(args, processes, device).run()
    except KeyboardInterrupt:
        logger.info("interrupted; what is done is kept: the same command goes on")
        return 130


def _make_run(args: argparse.Namespace, processes: Processes, device: torch.device) -> BatchRun:
    """The run that the flags ask for."""
    drop_slow_amp(args, device)
    photographs = find_photographs(args.inputs, [args.out / folder for folder in FOLDERS])
    workers = max(1, cpu_workers(args.num_workers, here=processes.here))
    make_folder(args.out, "--out")
    if args.embedding_cache:
        make_folder(args.embedding_cache, "--embedding_cache")
    loaded = load_model(args, device)
    prompts, notes = _load_prompts(args, photographs, loaded.model)
    for note in notes:
        logger.info(f"note: {note}")
    paths = [photograph.path for photograph in photographs]
    labels = {prompt.label for photograph in photographs for prompt in prompts[photograph.name]}
    if args.dicom_seg:
        check_sources(photographs, labels, args.page)
    ids = ids_of_file(args.coco_gt, paths, labels) if args.coco_gt else own_ids(paths, labels)
    _check_sizes(ids, args.page)
    file = args.boxes_csv or args.prompt_path
    content = digest(file.read_bytes()) if file else ""
    return BatchRun(
        args,
        loaded.model,
        photographs,
        prompts,
        processes,
        coco_ids=ids,
        prompt_digest=content,
        workers=workers,
        multimask=loaded.multimask,
    )


def _check_sizes(ids: CocoIds, page: int | None) -> None:
    """Raise UsageError for a photograph that has another size in the file of --coco_gt."""
    for path in ids.sizes:
        with suppress(DataError):  # reported when its turn comes
            ids.check_size(path, size_of(path, page=page))


def _load_prompts(
    args: argparse.Namespace, photographs: Sequence[Photograph], model: Sam
) -> tuple[PhotographPrompts, list[str]]:
    """The prompts for each photograph, checked, and notes for the user; UsageError for what cannot be answered."""
    notes: list[str] = []
    if args.structures:
        prompts = structures_for(photographs, args.structures, model.prompt_encoder.structures)
    elif args.box or args.point or args.background:
        prompts = clicks_for(photographs, args.box or [], args.point or [], args.background or [], args.label)
    elif args.boxes_csv:
        prompts, notes = read_boxes(args.boxes_csv, photographs)
    else:
        prompts, notes = read_file(args.prompt_path, photographs, args.prompt_frame)
    check_names(photographs, prompts)
    check_places(photographs, prompts, model.image_size, page=args.page)
    return prompts, notes
