"""The model sizes and the functions that build them.

`sam_model_registry[name](args)` reads `args.image_size`, `args.sam_checkpoint` and `args.encoder_adapter`, as
SAM-Med2D does; `sam_model_registry[name](checkpoint=..., image_size=..., encoder_adapter=...)` is SAM's way.
"""

import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .checkpoint import Checkpoint, load_into, read_checkpoint
from .modeling import DetailHead, ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from .preprocessing import Preprocessing

logger = logging.getLogger(__name__)

EMBEDDING_DIM = 256
PATCH_SIZE = 16
SAM_IMAGE_SIZE = 1024


@dataclass(frozen=True)
class ModelSpec:
    """Size of an image encoder; the window is in tokens."""

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
    detail: bool = False,
) -> Sam:
    """A model with random weights and the default preprocessing. Raises ValueError for a bad `image_size`."""
    head = None
    if detail:
        head = DetailHead(embedding_channels=EMBEDDING_DIM, num_mask_tokens=4, structures=len(structures))
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
    detail: bool | None = None,
) -> Sam:
    """Build a model of `model_type`, with a checkpoint's weights if one is given, in evaluation mode.

    Without an `image_size` the checkpoint's own is used (1024 when there is none); without `encoder_adapter`
    the model has adapters if the checkpoint has; in the same way `structures` (names that can be asked for without a
    click; the checkpoint's own come first, () asks for none) and `detail` (a DetailHead). `adapter_start`: "zero" makes
    adapters that the checkpoint lacks start without effect, "kaiming" leaves them random as in SAM-Med2D.
    `model.load_report` and `model.preprocessing` tell what was loaded. Raises CheckpointError or ValueError.
    """
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
    known = source.structures if source else ()
    names = known if structures is None else tuple(dict.fromkeys((*known, *structures))) if structures else ()
    model = build_network(
        MODEL_SPECS[model_type],
        image_size=image_size,
        encoder_adapter=encoder_adapter,
        structures=names,
        detail=bool(source and source.has_detail) if detail is None else detail,
    )
    if source:
        _load(model, source, adapter_start)
        model.prompt_encoder.presence_thresholds |= source.presence_thresholds(names)
        model.mask_decoder.mask_rule = source.mask_rule
    return model.eval()


def _load(model: Sam, source: Checkpoint, adapter_start: str) -> None:
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
