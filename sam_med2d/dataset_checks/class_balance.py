"""How many masks of each structure a data set has, how large they are, and what is left of them in the model frame."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sam_med2d.dataset_checks.file_checks import FEW_PIXELS, SIZE_EDGES, MaskFacts
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.dataset_checks.map_checks import ListedPhotograph


@dataclass(slots=True)
class StructureShare:
    """Masks of one structure in one split; `covered`: sum over the photographs of the share that they cover."""

    masks: int = 0
    images: int = 0
    covered: float = 0.0


@dataclass(slots=True)
class StructureSizes:
    """Sizes of one structure's masks and of their parts (8-connected components), in the model frame.

    Attributes:
        small_parts: number of parts below FEW_PIXELS.
        small_masks: (how bad, file) of masks of which half or more is in such parts.
        of_masks, of_parts: histograms over SIZE_EDGES of their areas before they are resampled, int64.
    """

    masks: int = 0
    parts: int = 0
    small_parts: int = 0
    small_masks: list[tuple[float, Path]] = field(default_factory=list)
    of_masks: np.ndarray = field(default_factory=lambda: np.zeros(len(SIZE_EDGES) - 1, np.int64))
    of_parts: np.ndarray = field(default_factory=lambda: np.zeros(len(SIZE_EDGES) - 1, np.int64))

    def add(self, mask: MaskFacts) -> None:
        self.masks += 1
        self.parts += mask.parts
        self.small_parts += mask.small_parts
        self.of_parts += mask.sizes
        place = np.searchsorted(SIZE_EDGES, mask.pixels * mask.scale, side="right") - 1
        self.of_masks[np.clip(place, 0, len(self.of_masks) - 1)] += 1
        if mask.small_share >= 0.5:
            self.small_masks.append((mask.small_share - mask.left, mask.path))


class ClassBalance:
    """Sums over the photographs of a check, which are added one by one."""

    def __init__(self) -> None:
        self.shares: dict[str, dict[str, StructureShare]] = {}  # by structure and split
        self.sizes: dict[str, StructureSizes] = {}
        self.images: Counter[str] = Counter()  # by split
        self._example: dict[tuple[str, str], Path] = {}

    def add(self, photograph: ListedPhotograph, masks: tuple[MaskFacts, ...]) -> None:
        self.images[photograph.split] += 1
        covered: Counter[str] = Counter()
        for mask in masks:
            covered[mask.structure] += mask.share
            self.sizes.setdefault(mask.structure, StructureSizes()).add(mask)
            self._share(mask.structure, photograph.split).masks += 1
            self._example.setdefault((mask.structure, photograph.split), mask.path)
        for structure, share in covered.items():
            entry = self._share(structure, photograph.split)
            entry.images += 1
            entry.covered += share

    def _share(self, structure: str, split: str) -> StructureShare:
        return self.shares.setdefault(structure, {}).setdefault(split, StructureShare())

    def findings(self, image_size: int) -> Iterator[Finding]:
        """Warnings: structures that are hardly seen at --image_size, and those that are not trained."""
        for structure, sizes in sorted(self.sizes.items()):
            if sizes.small_masks:
                yield _small(structure, sizes, image_size)
        if not any("train" in splits for splits in self.shares.values()):
            return
        for structure, splits in sorted(self.shares.items()):
            for split in splits if "train" not in splits else ():
                example = self._example[structure, split]
                message = f"{structure} is in the {split} map ({example}) and not in the training map: train it as well"
                yield Finding("not_trained", (str(example),), message, warning=True)

    def as_dict(self) -> dict[str, Any]:
        """All numbers, as JSON values."""
        return {
            structure: {
                "splits": {split: _numbers(share) for split, share in splits.items()},
                "model_frame": _frame_numbers(self.sizes[structure]),
            }
            for structure, splits in sorted(self.shares.items())
        }


def _small(structure: str, sizes: StructureSizes, image_size: int) -> Finding:
    worst = [path for _, path in sorted(sizes.small_masks, key=lambda entry: -entry[0])]
    message = (
        f"{structure}: {sizes.small_parts} of {sizes.parts} parts are smaller than {FEW_PIXELS} pixels at --image_size "
        f"{image_size}, and {len(sizes.small_masks)} of {sizes.masks} masks consist mostly of such parts, the least "
        f"{worst[0]}: train at a larger --image_size, or on tiles"
    )
    return Finding("small_parts", tuple(map(str, worst)), message, warning=True)


def _numbers(share: StructureShare) -> dict[str, float]:
    return {"masks": share.masks, "images": share.images, "mean_share": share.covered / share.images}


def _frame_numbers(sizes: StructureSizes) -> dict[str, Any]:
    numbers = {"parts": sizes.parts, "small_parts": sizes.small_parts}
    histograms = {"mask_sizes": sizes.of_masks.tolist(), "part_sizes": sizes.of_parts.tolist()}
    return {"masks": sizes.masks, "masks_of_small_parts": len(sizes.small_masks)} | numbers | histograms
