"""SAM-Med2D for fundus photographs: the model package.

PyTorch is imported with the first model, predictor or generator, so that a command line is parsed at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .build_sam import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    build_sam_vit_t,
    sam_model_registry,
)

if TYPE_CHECKING:
    from .automatic_mask_generator import SamAutomaticMaskGenerator
    from .predictor import SamPredictor

__all__ = [
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "build_sam_vit_t",
    "sam_model_registry",
]
_MODULES = {"SamAutomaticMaskGenerator": ".automatic_mask_generator", "SamPredictor": ".predictor"}


def __getattr__(name: str) -> Any:
    """Import a class when it is first asked for. Raises AttributeError for a name that the package does not have."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
