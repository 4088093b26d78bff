"""The model sizes and the functions that build them.

`sam_model_registry[name](args)` reads `args.image_size`, `args.sam_checkpoint` and `args.encoder_adapter`, as
SAM-Med2D does; `sam_model_registry[name](checkpoint=..., image_size=..., encoder_adapter=...)` is SAM's way.

PyTorch is imported when a model is built: the names of the sizes are at hand without it.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .modeling import Sam

logger = logging.getLogger(__name__)

EMBEDDING_DIM = 256
PATCH_SIZE = 16
SAM_IMAGE_SIZE = 1024


@dataclass(frozen=True)
class ModelSpec:
    """Size of an image encoder.

    Attributes:
        embed_dim: channels of a token.
        depth: number of blocks.
        num_heads: attention heads of a block.
        global_attn_indexes: blocks that attend to the whole grid; the others to windows.
        window_size: side of a window in tokens.
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]
    window_size: int = 14


MODEL_SPECS = {
    "vit_t": ModelSpec(192, 12, 3, (2, 5, 8, 11), window_size=8),
    "vit_b": ModelSpec(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": ModelSpec(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": ModelSpec(1280, 32, 16, (7, 15, 23, 31)),
}
MODEL_SPECS["default"] = MODEL_SPECS["vit_h"]


def build_network(
    spec: ModelSpec,
    *,
    image_size: int,
    encoder_adapter: bool,
    structures: Sequence[str] = (),
    detail: str | None = None,
) -> Sam:
    """A model with random weights and the default preprocessing, in training mode, on the CPU.

    Args:
        spec: size of the image encoder.
        image_size: side S of the square input in pixels, a multiple of 16; of 32 with adapters (ValueError for others).
        encoder_adapter: an adapter in every block of the image encoder.
        structures: names that structure prompts can give.
        detail: the kind of detail head, a key of HEADS, which returns logits of S x S instead of S/4 x S/4; None: none.
    """
    from .modeling import HEADS, ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from .preprocessing import Preprocessing

    head = None
    if detail:
        head = HEADS[detail](embedding_channels=EMBEDDING_DIM, num_mask_tokens=4, structures=len(structures))
    model = Sam(
        ImageEncoderViT(
            image_size=image_size,
            patch_size=PATCH_SIZE,
            embed_dim=spec.embed_dim,
            depth=spec.depth,
            num_heads=spec.num_heads,
            out_chans=EMBEDDING_DIM,
            window_size=spec.window_size,
            global_attn_indexes=spec.global_attn_indexes,
            adapter=encoder_adapter,
        ),
        PromptEncoder(embed_dim=EMBEDDING_DIM, image_size=image_size, patch_size=PATCH_SIZE, structures=structures),
        MaskDecoder(
            transformer_dim=EMBEDDING_DIM,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_DIM, num_heads=8, mlp_dim=2048),
            presence=bool(structures),
            detail=head,
        ),
    )
    model.preprocessing = Preprocessing(image_size)
    return model


def build_sam(
    model_type: str = "default",
    args: Namespace | str | Path | None = None,
    *,
    checkpoint: str | Path | Checkpoint | None = None,
    image_size: int | None = None,
    encoder_adapter: bool | None = None,
    adapter_start: str = "zero",
    structures: Sequence[str] | None = None,
    detail: str | None = None,
) -> Sam:
    """Build a model of `model_type`, with a checkpoint's weights if one is given, in evaluation mode.

    None means "as the checkpoint says".

    Args:
        model_type: a key of MODEL_SPECS.
        args: SAM-Med2D's way: a Namespace with `sam_checkpoint`, `image_size` and `encoder_adapter`; or a checkpoint.
        checkpoint: a file, a folder of a checkpoint, or one that was read; None for random weights.
        image_size: side S of the square input in pixels; 1024 where there is no checkpoint.
        encoder_adapter: an adapter in every block of the image encoder.
        adapter_start: "zero" makes adapters that the checkpoint lacks start without effect, "kaiming" leaves them
            random as in SAM-Med2D.
        structures: names that structure prompts can give, after the checkpoint's own; () for none at all.
        detail: the kind of detail head, a key of HEADS, for logits of S x S instead of S/4 x S/4; "none" for none. A
            checkpoint's head of another kind is left out.

    Returns:
        The model, on the CPU; `load_report` and `preprocessing` tell what was loaded.

    Raises:
        CheckpointError: for a file that cannot be used, or does not fit the model.
        ValueError: for another value that cannot work.
    """
    from .checkpoint import Checkpoint, read_checkpoint

    if hasattr(args, "sam_checkpoint"):  # a Namespace, or what serves as one
        checkpoint, image_size, encoder_adapter = args.sam_checkpoint, args.image_size, args.encoder_adapter
    elif args is not None:
        checkpoint = args
    if model_type not in MODEL_SPECS:
        raise ValueError(f"model_type {model_type!r} is unknown: choose one of {', '.join(MODEL_SPECS)}.")
    source = checkpoint if isinstance(checkpoint, Checkpoint) or not checkpoint else read_checkpoint(checkpoint)
    if image_size is None:
        image_size = source.image_size if source else SAM_IMAGE_SIZE
    if encoder_adapter is None:
        encoder_adapter = source is not None and source.has_adapters
    names = _structures(source, structures)
    kind, source = _detail(source, detail)
    architecture = {"image_size": image_size, "encoder_adapter": encoder_adapter, "structures": names, "detail": kind}
    model = build_network(MODEL_SPECS[model_type], **architecture)
    if source:
        _load(model, source, adapter_start)
        model.prompt_encoder.presence_thresholds |= source.presence_thresholds(names)
        model.mask_decoder.mask_rule = source.mask_rule
    return model.eval()


def _structures(source: Checkpoint | None, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The names that the model gets: the checkpoint's, then the wanted ones; none at all for ()."""
    known = source.structures if source else ()
    if wanted is None:
        return known
    return tuple(dict.fromkeys((*known, *wanted))) if wanted else ()


def _detail(source: Checkpoint | None, wanted: str | None) -> tuple[str | None, Checkpoint | None]:
    """The kind of detail head that the model gets, and the checkpoint without a head of another kind."""
    known = source.detail if source else None
    kind = known if wanted is None else None if wanted == "none" else wanted
    return kind, source.without_detail() if known and kind and kind != known else source


def _load(model: Sam, source: Checkpoint, adapter_start: str) -> None:
    """Copy the checkpoint's weights and preprocessing into the model, and log what was done."""
    from .checkpoint_loading import load_into

    model.load_report = load_into(model, source)
    logger.info(model.load_report.summary())
    initialised = set(model.load_report.initialised)
    if initialised and adapter_start == "zero":
        for index, block in enumerate(model.image_encoder.blocks):
            if f"image_encoder.blocks.{index}.Adapter.norm.weight" in initialised:
                block.Adapter.zero_start()
        logger.info("the new adapters start at zero: at first the encoder computes what it did without them")
    model.preprocessing, line = source.preprocessing(model.image_size)
    logger.info(line)


sam_model_registry: dict[str, Callable[..., Sam]] = {name: partial(build_sam, name) for name in MODEL_SPECS}
build_sam_vit_t = sam_model_registry["vit_t"]
build_sam_vit_b = sam_model_registry["vit_b"]
build_sam_vit_l = sam_model_registry["vit_l"]
build_sam_vit_h = sam_model_registry["vit_h"]
