"""Records -> datasets -> batches.

`FundusDataset` turns a record (see records.py) into arrays in the model frame, and `collate` joins images with any
number of masks each: `image_index` says which image a mask belongs to.
"""

import atexit
import signal
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sam_med2d.data.augmentation import Augmentation
from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.record_checks import check_size
from sam_med2d.data.records import MaskRef, Record
from sam_med2d.data.samplers import Draw, EpochBatches
from segment_anything.modeling.prompt_encoder import STRUCTURE
from segment_anything.preprocessing import Frame, Preprocessing
from segment_anything.utils.field_of_view import find_field_of_view
from segment_anything.utils.masks import bounding_box, largest_component

STRUCTURE_SHARE = 0.5  # of the masks, and of the structures known to be absent, that get a structure prompt in training
TENSORS = ("image", "mask", "box", "image_index", "structure_label", "whole_structure")


@dataclass(eq=False, repr=False)
class FundusDataset(Dataset):
    """Photographs with masks in the model frame; the item of a `Draw` is the same whatever process makes it.

    S is the side of the model frame in pixels, H and W are the photograph's, M is the number of targets: masks to click
    on or box, and structures for a structure prompt. Keys of an item:

        image: float32 [3, S, S], normalised; RGB or BGR as the preprocessing says.
        mask: bool [M, 1, S, S].
        box: float32 [M, 4], x0, y0, x1, y1, half-open, in model-frame pixels; zeros for a mask that vanished there.
        structure_label: int64 [M], the point label of a structure prompt; -1 for boxes and clicks.
        whole_structure: int64 [M], the point label of the structure of which the target is all there is in the
            photograph, however it is prompted for; -1 where it may be a part, or has no structure prompt.
        seeds: M integers from 0 to 2**63 - 1, for the clicks on each mask.
        chosen: int64 [M], indexes into `record.masks`; -1 for a structure that is not there.
        refs: M `MaskRef`, the masks' files.
        frame: `Frame`, the way from the photograph to the model frame and back.
        record: `Record`.
        truth: M masks, uint8 {0, 1} [H, W], in the photograph's pixels; with `keep_truth`.
        inside: bool [H, W], the field of view; with `keep_fov`.
        photograph: uint8 [H, W, 3], RGB; with `keep_photograph`.

    Args:
        records: photographs and their masks.
        preprocessing: the way to the model frame.
        mask_num: at most so many masks of a photograph, drawn without replacement; None takes all.
        balance: draw them with probability proportional to 1 / (masks of that structure in the data set).
        augmentation: random changes; None for none.
        box_of: "component", the largest 8-connected component of a mask, or "mask".
        keep_truth, keep_fov, keep_photograph: keys to add to an item.
        drop_vanished: leave out masks that vanished in the model frame, as long as another one is there.
        structures: names with a structure prompt. With the probability STRUCTURE_SHARE a mask gives way to the prompt
            for its whole structure, and a structure that is known not to be there is prompted for (of a photograph
            without a mask at least one).
        every_absent: for testing: boxes and clicks on all masks, and prompts for all structures that are not there.
        seed: of all that is random.
    """

    records: Sequence[Record]
    preprocessing: Preprocessing
    _: KW_ONLY
    mask_num: int | None = None
    balance: bool = False
    augmentation: Augmentation | None = None
    box_of: str = "component"
    keep_truth: bool = False
    keep_fov: bool = False
    keep_photograph: bool = False
    drop_vanished: bool = False
    structures: Sequence[str] = ()
    every_absent: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        counts = Counter(mask.structure for record in self.records for mask in record.masks)
        self.mask_weights = {name: 1 / count if self.balance else 1.0 for name, count in counts.items()}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, position: int | Draw) -> dict[str, Any]:
        draw = position if isinstance(position, Draw) else Draw(0, position, position)
        rng = draw.stream(self.seed)
        record = self.records[draw.index]
        targets = self._targets(record, rng)
        photograph = read_image(record.image)
        truth = [self._read(record, target, photograph.shape[:2]) for target in targets]
        frame = self.preprocessing.frame(photograph)
        if self.augmentation:
            frame = self.augmentation.zoom(frame, [mask for mask in truth if mask.any()], rng)
        image = self.preprocessing.image(photograph, frame)
        masks = np.array([self.preprocessing.mask(mask, frame) for mask in truth], np.uint8)
        masks = masks.reshape(len(truth), *image.shape[1:])  # in a test with structure prompts alone there may be none
        prompted = np.array([target.structure_label >= 0 for target in targets], bool)
        image, kept = self._augmented(image, masks, prompted & ~masks.any((1, 2)), rng)
        return self._item(record, frame, image, masks[kept], [targets[i] for i in kept], rng) | self._originals(
            photograph, frame, [truth[i] for i in kept]
        )

    def _augmented(
        self, image: np.ndarray, masks: np.ndarray, absent: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The image changed, the masks changed in place, and the indexes of those to keep.

        absent: bool [M], empty masks of a structure prompt, which stay: what is not in view is not there.
        """
        kept = np.arange(len(masks))
        if self.augmentation:
            others = np.flatnonzero(~absent)
            image, changed, left = self.augmentation(image, masks[others], rng)
            masks[others[left]] = changed
            kept = np.sort(np.concatenate([others[left], np.flatnonzero(absent)]))
        if self.drop_vanished and len(there := kept[(masks.any((1, 2)) | absent)[kept]]):
            kept = there
        return image, kept

    def _item(
        self,
        record: Record,
        frame: Frame,
        image: np.ndarray,
        masks: np.ndarray,
        targets: Sequence["Target"],
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        return {
            "image": torch.from_numpy(image),
            "mask": torch.from_numpy(masks)[:, None].bool(),
            "box": torch.tensor([self._box(mask) for mask in masks], dtype=torch.float32).view(-1, 4),
            "frame": frame,
            "record": record,
            "chosen": np.array([target.masks[0] if target.masks else -1 for target in targets], np.int64),
            "refs": [target.ref for target in targets],
            "structure_label": torch.tensor([target.structure_label for target in targets], dtype=torch.int64),
            "whole_structure": torch.tensor([self._whole(record, target) for target in targets], dtype=torch.int64),
            "seeds": [int(rng.integers(2**63)) for _ in targets],
        }

    def _originals(self, photograph: np.ndarray, frame: Frame, truth: list[np.ndarray]) -> dict[str, Any]:
        kept = {"inside": (frame.view or find_field_of_view(photograph)).mask()} if self.keep_fov else {}
        kept |= {"photograph": photograph} if self.keep_photograph else {}
        return kept | ({"truth": truth} if self.keep_truth else {})

    def _targets(self, record: Record, rng: np.random.Generator) -> list["Target"]:
        """The masks for boxes and clicks; and, with `structures`, those of structure prompts."""
        chosen = [Target((int(i),), record.masks[i]) for i in self._choose(record, rng)]
        if not self.structures:
            return chosen
        share = 0.0 if self.every_absent else STRUCTURE_SHARE
        by_structure = {}
        for target in chosen:
            name = target.ref.structure
            if name in self.structures and rng.random() < share:
                by_structure[name] = Target(tuple(record.of(name)), target.ref, self._label(name))
        clicked = [target for target in chosen if target.ref.structure not in by_structure]
        share = 1.0 if self.every_absent else STRUCTURE_SHARE
        known = [name for name in record.absent if name in self.structures]
        absent = [name for name in known if rng.random() < share]
        if known and not (chosen or absent):
            absent = [str(rng.choice(known))]
        missing = [Target((), MaskRef(record.image, f"no {name}", name), self._label(name)) for name in absent]
        return [*clicked, *by_structure.values(), *missing]

    def _whole(self, record: Record, target: "Target") -> int:
        """The label of the structure that a target is the whole of, or -1."""
        name = target.ref.structure
        whole = name in self.structures and len(target.masks) == len(record.of(name))
        return self._label(name) if whole else -1

    def _label(self, structure: str) -> int:
        return STRUCTURE + list(self.structures).index(structure)

    @staticmethod
    def _read(record: Record, target: "Target", size: tuple[int, int]) -> np.ndarray:
        """The union of a target's masks, uint8 {0, 1} [H, W]."""
        union = np.zeros(size, np.uint8)
        for i in target.masks:
            mask = read_mask(record.masks[i].path)
            check_size(record.masks[i].path, mask.shape, record.image, size)
            union |= mask
        return union

    def _choose(self, record: Record, rng: np.random.Generator) -> np.ndarray:
        count = len(record.masks)
        if self.mask_num is None or count <= self.mask_num:
            return np.arange(count)
        weights = np.array([self.mask_weights[mask.structure] for mask in record.masks])
        return np.sort(rng.choice(count, self.mask_num, replace=False, p=weights / weights.sum()))

    def _box(self, mask: np.ndarray) -> tuple[int, int, int, int]:
        if not mask.any():
            return 0, 0, 0, 0
        return bounding_box(largest_component(mask) if self.box_of == "component" else mask)


@dataclass(frozen=True)
class Target:
    """What is to be segmented."""

    masks: tuple[int, ...]  # indexes into the record's masks, whose union it is; none where the structure is not there
    ref: MaskRef  # its file; of several masks the first one's
    structure_label: int = -1  # the point label of its structure prompt, -1 for boxes and clicks


@dataclass
class Batch:
    """B images with N masks in all; S is the side of the model frame in pixels.

    Attributes:
        image: float32 [B, 3, S, S], normalised.
        mask: bool [N, 1, S, S].
        box: float32 [N, 4], x0, y0, x1, y1, half-open, in model-frame pixels.
        image_index: int64 [N], the image of each mask.
        structure_label: int64 [N], the point label of a structure prompt, -1 for boxes and clicks.
        refs: the N masks' files.
        seeds: N integers for the clicks on each mask.
        frames, records: one for each image.
        truth: N masks, uint8 {0, 1} [H, W] in their photograph's pixels, or None.
        inside: a field of view for each image, bool [H, W], or None.
        photographs: one for each image, RGB uint8 [H, W, 3], or None.
        whole_structure: int64 [N], the point label of the structure that the mask is the whole of, else -1; or None.
    """

    image: Tensor
    mask: Tensor
    box: Tensor
    image_index: Tensor
    structure_label: Tensor
    refs: list[MaskRef]
    seeds: list[int]
    frames: list[Frame]
    records: list[Record]
    truth: list[np.ndarray] | None
    inside: list[np.ndarray] | None = None
    photographs: list[np.ndarray] | None = None
    whole_structure: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch with its tensors in page-locked memory, from where a GPU copies faster."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = {name: getattr(self, name) for name in TENSORS}
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items() if tensor is not None})


def collate(items: Sequence[dict[str, Any]]) -> Batch:
    """Join dataset items into a `Batch`."""
    counts = torch.tensor([len(item["mask"]) for item in items])
    return Batch(
        image=torch.stack([item["image"] for item in items]),
        mask=torch.cat([item["mask"] for item in items]),
        box=torch.cat([item["box"] for item in items]),
        image_index=torch.repeat_interleave(torch.arange(len(items)), counts),
        structure_label=torch.cat([item["structure_label"] for item in items]),
        whole_structure=torch.cat([item["whole_structure"] for item in items]),
        refs=[ref for item in items for ref in item["refs"]],
        seeds=[seed for item in items for seed in item["seeds"]],
        frames=[item["frame"] for item in items],
        records=[item["record"] for item in items],
        truth=[mask for item in items for mask in item["truth"]] if "truth" in items[0] else None,
        inside=[item["inside"] for item in items] if "inside" in items[0] else None,
        photographs=[item["photograph"] for item in items] if "photograph" in items[0] else None,
    )


def make_loader(
    dataset: Dataset,
    *,
    batch_size: int = 1,
    num_workers: int,
    batches: EpochBatches | None = None,
    join: Callable[[Sequence[Any]], Any] = collate,
) -> DataLoader:
    """A loader of batches, whose processes end with this one.

    Args:
        dataset: what is loaded.
        batch_size: items of a batch where there are no `batches`; they then come in order.
        num_workers: processes that read ahead; 0 reads in this one.
        batches: the draws of each batch.
        join: makes a batch of items.
    """
    cv2.setNumThreads(0)  # worker processes are forked: a thread pool made before would hang in them
    return _Loader(
        dataset,
        batch_size=batch_size if batches is None else 1,  # the value that DataLoader wants beside a batch_sampler
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=join,
        persistent_workers=batches is not None and num_workers > 0,  # what is read once an epoch needs no idle ones
        pin_memory=torch.cuda.is_available(),  # calls Batch.pin_memory
        worker_init_fn=_leave_signals_to_parent if num_workers else None,
    )


class _Loader(DataLoader):
    """Its processes end when Python exits, also of an iterator that an error's traceback keeps alive.

    multiprocessing would send them SIGTERM, which they ignore, and wait for ever.
    """

    def _get_iterator(self) -> Any:
        iterator = super()._get_iterator()
        if self.num_workers:
            atexit.register(_stop_workers, weakref.ref(iterator))
        return iterator


def _leave_signals_to_parent(_: int) -> None:
    """Ctrl-C reaches the whole process group; a worker that died of it would take the parent's save along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _stop_workers(reference: weakref.ref) -> None:
    iterator = reference()
    if iterator is not None:
        iterator._shutdown_workers()
