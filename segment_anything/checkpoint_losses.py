"""What programs that know SAM alone do otherwise with weights: said, or refused, when weights are written for them."""

from torch import Tensor

from .build_sam import SAM_IMAGE_SIZE
from .checkpoint import ADAPTER, OPTIONAL, POSITIONS, Checkpoint
from .errors import CheckpointError

SAM_WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}  # channels of the image encoder, and SAM's name of the size
LEFT_OUT = {part: what for part, what in OPTIONAL.items() if part != ADAPTER}  # adapters: SAM-Med2D's code has them


def losses(checkpoint: Checkpoint, program: str, *, adapters: bool = False) -> list[str]:
    """Why masks in another program are not those that the weights give here.

    Args:
        checkpoint: what is written for it.
        program: its name.
        adapters: it has a place for adapters.

    Returns:
        A sentence for each reason.
    """
    rule, _ = checkpoint.preprocessing(checkpoint.image_size)
    reasons = {
        f"{program} computes without the adapters: its masks are not those of these weights.": (
            checkpoint.has_adapters and not adapters
        ),
        f"{program} computes without the detail head: its masks are not those of these weights, and empty where they "
        "were trained with one. ONNX files that are exported with --plain keep it.": checkpoint.detail is not None,
        f"these weights expect BGR, and {program} gives RGB: reverse the channels of each photograph, "
        "image[..., ::-1].": rule.channel_order == "bgr",
        "these weights expect pixels in 0..1, (pixel - lowest) / (highest - lowest) of each photograph: make them so, "
        f"{program} does not.": rule.pixel_scale == "unit",
        "masks of these weights begin at the logit ln(predicted IoU), at least -2 (mask rule dice), and those of "
        f"{program} at 0.": checkpoint.mask_rule == "dice",
        "these weights were trained on photographs that are cropped to the field of view (fundus preprocessing): crop "
        f"them, {program} does not.": rule.mode == "fundus",
    }
    return [reason for reason, applies in reasons.items() if applies]


def sam_state(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], list[str]]:
    """The weights for the code of SAM, or with adapters of SAM-Med2D, whose loaders refuse any other tensor.

    Args:
        checkpoint: what is written.

    Returns:
        {name: tensor}; lines about what is left out, and who loads it.

    Raises:
        CheckpointError: for a size that SAM does not have, and a detail head, without which masks are empty.
    """
    path, width = checkpoint.path, checkpoint.state[POSITIONS].shape[-1]
    if width not in SAM_WIDTHS:
        known = ", ".join(SAM_WIDTHS.values())
        raise CheckpointError(
            f"{path}: SAM's code has {known} and no image encoder of {width} channels (vit_t of other programs is "
            "MobileSAM's): take ONNX files exported with --plain instead of --to sam."
        )
    if checkpoint.detail is not None:
        raise CheckpointError(
            f"{path} has a detail head, which SAM's code has no place for, and draws no masks without it: take ONNX "
            "files exported with --plain instead of --to sam, or train with --detail none."
        )
    state = {key: value for key, value in checkpoint.state.items() if not any(part in key for part in LEFT_OUT)}
    out = [what for part, what in LEFT_OUT.items() if any(part in key for key in checkpoint.state)]
    lines = [f"note: left out {', '.join(out)}: clicks and boxes do without"] * bool(out)
    size = checkpoint.image_size
    if checkpoint.has_adapters:
        lines.append("note: with adapters: for SAM-Med2D's own code and ISAT; SAM's code and micro-sam refuse it")
    else:
        own = " and SAM's sam_model_registry" if size == SAM_IMAGE_SIZE else "; SAM's own registry builds 1024 px alone"
        lines.append(f"note: for micro-sam's get_sam_model({SAM_WIDTHS[width]!r}, ..., image_size={size}){own}")
    return state, lines
