"""Models and batches that the benchmarks share."""

import argparse
from pathlib import Path

import torch

from benchmarks.reference_training import OracleSam
from benchmarks.sides import OURS, REFERENCE, add_against
from sam_med2d.data.dataset import Batch
from sam_med2d.data.records import MaskRef, Record
from segment_anything.build_sam import MODEL_SPECS, build_network
from segment_anything.modeling import Sam
from segment_anything.preprocessing import Frame


def seeded_model(kind: str, args: argparse.Namespace) -> Sam | OracleSam:
    """A model with adapters and seeded weights.

    Args:
        kind: OURS or REFERENCE; both get the same weights.
        args: with `model_type` and `image_size`.

    Returns:
        The model in training mode.
    """
    torch.manual_seed(0)
    spec = MODEL_SPECS[args.model_type]
    source = build_network(spec, image_size=args.image_size, encoder_adapter=True)
    if kind == OURS:
        return source
    model = OracleSam(image_size=args.image_size, adapter=True, **vars(spec))
    model.load_state_dict(source.state_dict())
    return model


def synthetic_batch(images: int, masks: int, size: int) -> Batch:
    """Noise, already in the model frame, with rectangles of several sizes as masks.

    Args:
        images: B.
        masks: of each image.
        size: side S of the images, pixels.

    Returns:
        B images with B * masks masks.
    """
    count = images * masks
    mask = torch.zeros(count, 1, size, size, dtype=torch.bool)
    shifts = [i % (size // 4) for i in range(count)]
    box = torch.tensor([[size // 4, size // 8 + shift, size // 2 + shift, size // 2] for shift in shifts])
    for i, (left, top, right, bottom) in enumerate(box.tolist()):
        mask[i, 0, top:bottom, left:right] = True
    refs = [MaskRef(Path(f"{i}.png"), f"{i}.png", "rectangle") for i in range(count)]
    return Batch(
        image=torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0)),
        mask=mask,
        box=box.float(),
        image_index=torch.arange(images).repeat_interleave(masks),
        structure_label=torch.full((count,), -1),
        refs=refs,
        seeds=[0] * count,
        frames=[Frame(size, (size, size), (0, 0, size, size), (0, 0, size, size))] * images,
        records=[Record(Path(f"{i}.jpg"), tuple(refs[i * masks : (i + 1) * masks])) for i in range(images)],
        truth=list(mask[:, 0].numpy()),
    )


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that "train" and "evaluate" share."""
    parser.add_argument("--model-type", choices=MODEL_SPECS, default="vit_b", help="size of the image encoder")
    parser.add_argument("--image-size", type=int, default=256, help="side of the images, pixels")
    parser.add_argument("--only", choices=(OURS, REFERENCE), help=argparse.SUPPRESS)  # the side of one worker process
    add_against(parser)
