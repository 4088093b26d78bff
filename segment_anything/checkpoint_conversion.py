"""The same weights in other files: HuggingFace's names, and what was trained on a base without the base.

HuggingFace's SamModel holds SAM's own tensors under other names. What it has no place for (adapters, structures, the
detail head, our metadata) goes into a second file beside it, which is read back with it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .checkpoint import (
    ADAPTER,
    BASE,
    HUB_POSITIONS,
    OPTIONAL,
    POSITIONS,
    WEIGHTS_NAME,
    Checkpoint,
    CheckpointError,
    listing,
    read_tensors,
    require_model,
    save_weights,
    tensor_digest,
)
from .checkpoint_loading import resize_positions, resize_relative
from .modeling.sam import PIXEL_MEAN, PIXEL_STD
from .preprocessing import Preprocessing
from .utils.atomic import atomic_path, write_text

EXTRA_NAME = "sam_med2d_extra.safetensors"
PROCESSOR_NAME = "preprocessor_config.json"
ENCODER = "image_encoder."
POSITION_CODE = "shared_image_embedding.positional_embedding"  # HuggingFace has this tensor twice
POSITION_CODE_COPY = "prompt_encoder.shared_embedding.positional_embedding"
# ours, HuggingFace's; # stands for a number, * for the rest of the name
NAMES = (
    ("image_encoder.pos_embed", HUB_POSITIONS),
    ("image_encoder.patch_embed.proj.*", "vision_encoder.patch_embed.projection.*"),
    ("image_encoder.blocks.#.norm#.*", "vision_encoder.layers.#.layer_norm#.*"),
    ("image_encoder.blocks.#.attn.*", "vision_encoder.layers.#.attn.*"),
    ("image_encoder.blocks.#.mlp.*", "vision_encoder.layers.#.mlp.*"),
    ("image_encoder.neck.0.*", "vision_encoder.neck.conv1.*"),
    ("image_encoder.neck.1.*", "vision_encoder.neck.layer_norm1.*"),
    ("image_encoder.neck.2.*", "vision_encoder.neck.conv2.*"),
    ("image_encoder.neck.3.*", "vision_encoder.neck.layer_norm2.*"),
    ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", POSITION_CODE),
    ("prompt_encoder.point_embeddings.#.weight", "prompt_encoder.point_embed.#.weight"),
    ("prompt_encoder.not_a_point_embed.weight", "prompt_encoder.not_a_point_embed.weight"),
    ("prompt_encoder.no_mask_embed.weight", "prompt_encoder.no_mask_embed.weight"),
    ("prompt_encoder.mask_downscaling.0.*", "prompt_encoder.mask_embed.conv1.*"),
    ("prompt_encoder.mask_downscaling.1.*", "prompt_encoder.mask_embed.layer_norm1.*"),
    ("prompt_encoder.mask_downscaling.3.*", "prompt_encoder.mask_embed.conv2.*"),
    ("prompt_encoder.mask_downscaling.4.*", "prompt_encoder.mask_embed.layer_norm2.*"),
    ("prompt_encoder.mask_downscaling.6.*", "prompt_encoder.mask_embed.conv3.*"),
    ("mask_decoder.iou_token.weight", "mask_decoder.iou_token.weight"),
    ("mask_decoder.mask_tokens.weight", "mask_decoder.mask_tokens.weight"),
    ("mask_decoder.transformer.layers.#.norm#.*", "mask_decoder.transformer.layers.#.layer_norm#.*"),
    ("mask_decoder.transformer.norm_final_attn.*", "mask_decoder.transformer.layer_norm_final_attn.*"),
    ("mask_decoder.transformer.*", "mask_decoder.transformer.*"),
    ("mask_decoder.output_upscaling.0.*", "mask_decoder.upscale_conv1.*"),
    ("mask_decoder.output_upscaling.1.*", "mask_decoder.upscale_layer_norm.*"),
    ("mask_decoder.output_upscaling.3.*", "mask_decoder.upscale_conv2.*"),
    ("mask_decoder.output_hypernetworks_mlps.#.layers.0.*", "mask_decoder.output_hypernetworks_mlps.#.proj_in.*"),
    ("mask_decoder.output_hypernetworks_mlps.#.layers.1.*", "mask_decoder.output_hypernetworks_mlps.#.layers.0.*"),
    ("mask_decoder.output_hypernetworks_mlps.#.layers.2.*", "mask_decoder.output_hypernetworks_mlps.#.proj_out.*"),
    ("mask_decoder.iou_prediction_head.layers.0.*", "mask_decoder.iou_prediction_head.proj_in.*"),
    ("mask_decoder.iou_prediction_head.layers.1.*", "mask_decoder.iou_prediction_head.layers.0.*"),
    ("mask_decoder.iou_prediction_head.layers.2.*", "mask_decoder.iou_prediction_head.proj_out.*"),
)


# --- HuggingFace ----------------------------------------------------------------------------------------------


def hub_name(key: str) -> str | None:
    """HuggingFace's name of one of our tensors; None where it has no place for it."""
    return _renamed(key, NAMES)


def own_name(key: str) -> str | None:
    """Our name of a tensor of HuggingFace's SamModel; None where we have no place for it."""
    return _renamed(POSITION_CODE if key == POSITION_CODE_COPY else key, [(theirs, ours) for ours, theirs in NAMES])


def _renamed(key: str, names: Iterable[tuple[str, str]]) -> str | None:
    """The key by the first pair of patterns (old, new) that it fits; None where it fits none."""
    for old, new in names:
        pattern = re.escape(old).replace(r"\#", r"(\d+)").replace(r"\*", r"(.+)")
        if found := re.fullmatch(pattern, key):
            parts = iter(found.groups())
            return re.sub(r"[#*]", lambda _: next(parts), new)  # noqa: B023  (used up before the next turn)
    return None


def to_hub(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our state dict as that of HuggingFace's SamModel, and the tensors that it has no place for, under our names."""
    theirs = {name: value for key, value in state.items() if (name := hub_name(key))}
    theirs[POSITION_CODE_COPY] = theirs[POSITION_CODE].clone()
    return theirs, {key: value for key, value in state.items() if not hub_name(key)}


def from_hub(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of HuggingFace's SamModel.

    Args:
        path: their file, for messages.
        state: SamModel's state dict.

    Returns:
        Our state dict.

    Raises:
        CheckpointError: for tensors that we have no place for.
    """
    if unknown := [key for key in state if not own_name(key)]:
        raise CheckpointError(f"{path}: {len(unknown)} tensors are not SamModel's: {listing(unknown)}.")
    codes = [state[key] for key in (POSITION_CODE, POSITION_CODE_COPY) if key in state]
    if len(codes) == 2 and not torch.equal(*codes):
        raise CheckpointError(f"{path}: {POSITION_CODE_COPY} and {POSITION_CODE} differ; here they are one tensor.")
    return {own_name(key): value for key, value in state.items()}


def hub_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The content of config.json of HuggingFace's SamModel, as the shapes of our state dict say it."""
    grid, width = state[POSITIONS].shape[2:]
    tables = {key: value for key, value in state.items() if key.endswith("attn.rel_pos_h")}
    sides = {int(key.split(".")[2]): (len(table) + 1) // 2 for key, table in tables.items()}
    windows = set(sides.values()) - {grid}
    return {
        "architectures": ["SamModel"],
        "model_type": "sam",
        "dtype": "float32",  # else weights that are stored in 16 bits are computed in 16 bits
        "vision_config": {
            "hidden_size": width,
            "num_hidden_layers": len(sides),
            "num_attention_heads": width // next(iter(tables.values())).shape[1],
            "mlp_dim": len(state["image_encoder.blocks.0.mlp.lin1.weight"]),
            "image_size": 16 * grid,
            "patch_size": 16,
            "window_size": windows.pop() if windows else grid,
            "global_attn_indexes": [index for index, side in sides.items() if side == grid],
            "output_channels": len(state["image_encoder.neck.0.weight"]),
            "layer_norm_eps": 1e-6,
        },
        "prompt_encoder_config": {"image_size": 16 * grid, "patch_size": 16, "layer_norm_eps": 1e-6},
        "mask_decoder_config": {"layer_norm_eps": 1e-5},  # as in SAM's own code; transformers' default is 1e-6
    }


def hub_processor(rule: Preprocessing) -> dict[str, Any] | None:
    """The content of preprocessor_config.json: SAM's own preprocessing, longer side S, padded right and bottom.

    Args:
        rule: how the weights' photographs were prepared.

    Returns:
        JSON values; None where SamProcessor cannot give the colours that the weights expect.
    """
    if rule.channel_order != "rgb" or rule.pixel_scale != "sam":
        return None
    size, mask_size = rule.image_size, rule.image_size // 4
    return {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"longest_edge": size},
        "resample": 2,  # Pillow's number for bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in PIXEL_MEAN],
        "image_std": [value / 255 for value in PIXEL_STD],
        "do_pad": True,
        "pad_size": {"height": size, "width": size},
        "mask_size": {"longest_edge": mask_size},
        "mask_pad_size": {"height": mask_size, "width": mask_size},
    }


def save_hub(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """Write a folder for `from_pretrained` of SamModel, and of SamProcessor where that can prepare the photographs.

    Args:
        folder: made if needed.
        checkpoint: what is written.

    Returns:
        A line for each thing that SamModel cannot hold; it goes into EXTRA_NAME, which `read_any` reads back.
    """
    theirs, extra = to_hub(checkpoint.state)
    processor = hub_processor(checkpoint.preprocessing(checkpoint.image_size)[0])
    with atomic_path(folder / WEIGHTS_NAME) as temporary:
        own = {key: value.detach().cpu().contiguous() for key, value in theirs.items()}
        save_file(own, temporary, metadata={"format": "pt"})  # which transformers asks for
        for old in (WEIGHTS_NAME, PROCESSOR_NAME):  # of other weights, which the rest would not fit
            (folder / old).unlink(missing_ok=True)
        save_weights(folder / EXTRA_NAME, extra, checkpoint.metadata)
        _write_json(folder / "config.json", hub_config(checkpoint.state))
        if processor:
            _write_json(folder / PROCESSOR_NAME, processor)
    return _not_held(extra, checkpoint.metadata)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1) + "\n")


def _not_held(extra: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> list[str]:
    """A line for each part that SamModel cannot hold."""
    parts = {what: [key for key in extra if part in key] for part, what in OPTIONAL.items()}
    parts["other tensors"] = [key for key in extra if not any(part in key for part in OPTIONAL)]
    lines = [f"{what} ({len(keys)} tensors, such as {keys[0]})" for what, keys in parts.items() if keys]
    return lines + [f"the metadata ({', '.join(metadata)})"] * bool(metadata)


def read_any(
    path: str | Path, *, trust: bool = False, flag: str = "--sam_checkpoint", entry: str | None = None
) -> Checkpoint:
    """As `read_checkpoint`, also of weights with HuggingFace's names and what `save_hub` wrote beside them.

    Raises:
        CheckpointError: for a file that cannot be used, and for tensors that no model here has.
    """
    return under_own_names(read_tensors(path, trust=trust, flag=flag, entry=entry))


def under_own_names(found: Checkpoint) -> Checkpoint:
    """The weights of a model that were read, with our names or HuggingFace's, under ours, with what `save_hub` wrote.

    Raises:
        CheckpointError: for one that is no model, and for tensors that no model here has.
    """
    if HUB_POSITIONS in found.state:
        state, metadata = from_hub(found.path, found.state), found.metadata
        beside = found.path.with_name(EXTRA_NAME)
        if beside.is_file():
            extra = read_tensors(beside)
            state, metadata = state | extra.state, extra.metadata
        found = replace(found, state=state, metadata=metadata)
    state = require_model(found).state
    faults = {
        "has {} tensors of another model": [k for k in state if not (hub_name(k) or any(p in k for p in OPTIONAL))],
        "holds {} tensors of whole numbers (quantised?)": [k for k, v in state.items() if not v.is_floating_point()],
        "is no whole model, it lacks {} tensors": [k for k, _ in NAMES if not re.search("[#*]", k) and k not in state],
    }
    for what, keys in faults.items():
        if keys:
            raise CheckpointError(f"{found.path} {what.format(len(keys))}: {listing(keys)}.")
    return found


# --- what was trained, and its base ---------------------------------------------------------------------------


def split(checkpoint: Checkpoint, base: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `merge` needs to make a checkpoint from its base again.

    Args:
        checkpoint: what was trained.
        base: what it was trained from.

    Returns:
        Tensors: all but those of the image encoder that are the base's to the bit. And metadata.
    """
    encoder = _encoder(base, checkpoint.state)
    state = {
        key: value
        for key, value in checkpoint.state.items()
        if key not in encoder or value.dtype != encoder[key].dtype or not torch.equal(value, encoder[key])
    }
    about = {"digest": tensor_digest(checkpoint.state), "order": list(checkpoint.state)}
    about["tables"] = {key: list(value.shape) for key, value in checkpoint.state.items() if _is_table(key)}
    return state, {**checkpoint.metadata, BASE: about}


def merge(trained: Checkpoint, base: Checkpoint) -> Checkpoint:
    """The checkpoint that `split` took apart, to the bit.

    Args:
        trained: what `split` returned, as it was read.
        base: what the checkpoint was trained from.

    Returns:
        The whole checkpoint.

    Raises:
        CheckpointError: for another base, or a file that `split` did not make.
    """
    about = trained.metadata.get(BASE)
    try:
        shapes = {key: torch.empty(shape, device="meta") for key, shape in about["tables"].items()}
        state = {**base.state, **_encoder(base, shapes), **trained.state}
        state = {key: state[key] for key in about["order"]}
        whole = about["digest"] == tensor_digest(state)
    except KeyError as error:
        raise CheckpointError(f"--base {base.path} has no tensor {error}: {trained.path} has another base.") from error
    except TypeError as error:
        raise CheckpointError(f"{trained.path} was not written with --to adapters: nothing to merge.") from error
    if not whole:
        raise CheckpointError(f"--base {base.path} is not the base of {trained.path}: the merged weights differ.")
    metadata = {key: value for key, value in trained.metadata.items() if key != BASE}
    return Checkpoint(trained.path, state, metadata)


def _is_table(key: str) -> bool:
    """Whether a tensor is a table of positions, which has another shape for another image size."""
    return key == POSITIONS or key.endswith(("rel_pos_h", "rel_pos_w"))


def _encoder(base: Checkpoint, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The base's image encoder without adapters, its position tables as large as those of `like`."""
    found = {}
    for key, value in base.state.items():
        if key.startswith(ENCODER) and ADAPTER not in key:
            wanted = like[key].shape if key in like else value.shape
            if _is_table(key) and wanted != value.shape:
                value = resize_positions(value, wanted[1]) if key == POSITIONS else resize_relative(value, wanted[0])
            found[key] = value
    return found
