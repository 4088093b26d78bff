"""JSON maps -> records -> datasets -> batches.

`load_index` reads and checks a folder's map, `FundusDataset` turns a record into arrays in the model frame, and
`collate` joins images that carry any number of masks: `image_index` tells which image a mask belongs to.
"""

import atexit
import hashlib
import json
import os
import re
import signal
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from segment_anything.training.augmentation import Augmentation
from segment_anything.training.prompts import bounding_box, largest_component
from segment_anything.training.sampling import Draw, EpochBatches
from segment_anything.utils.transforms import Frame, Preprocessing

SPLITS = ("train", "val", "test")
BOXES = ("component", "mask")
MAX_PROBLEMS_SHOWN = 200


class DataError(ValueError):
    """Data that cannot be used; the message lists every problem with its file."""


@dataclass(frozen=True)
class MaskRef:
    """One mask: its file, a key that is unique in its map, and the structure it shows."""

    path: Path
    key: str
    structure: str


@dataclass(frozen=True)
class Record:
    """One photograph and its masks."""

    image: Path
    masks: tuple[MaskRef, ...]


# --- maps -----------------------------------------------------------------------------------------------------


def _map_names(split: str) -> list[str]:
    """File names that a split's map may have."""
    return [f"image2label_{split}.json", f"label2image_{split}.json"]


def map_path(folder: Path, split: str) -> Path:
    """The map of a split: image2label_<split>.json or label2image_<split>.json, whichever is there.

    Training prefers the first, testing the second. Raises DataError when neither exists.
    """
    names = _map_names(split)
    for name in reversed(names) if split == "test" else names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {names[0]} and no {names[1]}: check --data_path.")


def has_map(folder: str | Path, split: str) -> bool:
    """Whether a folder has a map of the split, of either direction."""
    return any((Path(folder) / name).is_file() for name in _map_names(split))


def read_map(path: Path) -> dict[str, list[str]]:
    """Read a map of either direction as {image: [masks]}, paths as written. Raises DataError on another shape."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a JSON {type(content).__name__}: give an object, see data_demo/README.md.")
    inverse = path.name.startswith("label2image")
    images: dict[str, list[str]] = {}
    problems = []
    for key, value in content.items():
        if inverse and isinstance(value, str):
            images.setdefault(value, []).append(key)
        elif not inverse and isinstance(value, list) and all(isinstance(item, str) for item in value):
            images[key] = value
        else:
            wanted = "the image's path as a string" if inverse else "a list of mask paths"
            problems.append(f"{path}: the value of {key!r} is {json.dumps(value)[:60]}; give {wanted}")
    _raise_problems(problems)
    return images


def resolve(name: str, folder: Path) -> Path:
    """A path of a map: against the current folder if it exists there, else against the map's folder.

    Back-slashes are read as separators where no file has the name as written.
    """
    spellings = dict.fromkeys([name, name.replace("\\", "/")])
    candidates = [path for spelling in spellings for path in (Path(spelling), folder / spelling)]
    return next((path for path in candidates if path.exists()), candidates[-1])


def structure_of(mask: Path, image: Path) -> str:
    """Structure shown by a mask: the suffix of its name, else the folder it lies in.

    `<image>_<structure>_<nnn>.png` gives <structure>; a mask with its image's own name gives its folder, lower
    case and with underscores (`optic-disc/FIVES-52.png` -> optic_disc).
    """
    stem = re.sub(r"_\d+$", "", mask.stem)
    if stem.startswith(f"{image.stem}_"):
        return stem[len(image.stem) + 1 :]
    if image.stem in (mask.stem, stem):
        return re.sub(r"[\s-]+", "_", mask.parent.name.lower())
    suffix = re.search(r"_([A-Za-z][A-Za-z_]*)$", stem)
    return suffix.group(1) if suffix else re.sub(r"[\s-]+", "_", mask.parent.name.lower())


def load_index(folder: str | Path, split: str, *, check: bool = True) -> list[Record]:
    """Records of a split, in the map's order.

    With `check` every file is opened: missing and unreadable files, masks of another size than their image,
    values other than {0, 1} or {0, 255} and empty masks are reported together in one DataError.
    """
    path = map_path(Path(folder), split)
    images = read_map(path)
    if not any(images.values()):
        raise DataError(f"{path} lists no mask: see data_demo/README.md for the layout.")
    basenames = Counter(Path(mask.replace("\\", "/")).name for masks in images.values() for mask in masks)
    records = []
    for image, masks in images.items():
        image_path = resolve(image, path.parent)
        refs = []
        for mask in masks:
            mask_path, written = resolve(mask, path.parent), mask.replace("\\", "/")
            name = Path(written).name
            key = name if basenames[name] == 1 else written
            refs.append(MaskRef(mask_path, key, structure_of(mask_path, image_path)))
        records.append(Record(image_path, tuple(refs)))
    if check:
        check_records(records)
    return [record for record in records if record.masks]


def check_records(*splits: Sequence[Record]) -> None:
    """Open every file of the splits. Raises one DataError that lists all problems, masks listed twice too."""
    cv2.setNumThreads(0)  # the files are the parallel part; and OpenCV's own threads do not survive a fork
    records = list(dict.fromkeys(record for split in splits for record in split))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(pool.map(problems_of, records), total=len(records), desc="checking files", unit="image", leave=False)
        problems = [problem for problems in bar for problem in problems]
    for split in splits:
        times = Counter(mask.path for record in split for mask in record.masks)
        problems += [f"{path} is listed {n} times in one map: list it once" for path, n in times.items() if n > 1]
    _raise_problems(problems)


def _raise_problems(problems: list[str]) -> None:
    if problems:
        shown = problems[:MAX_PROBLEMS_SHOWN]
        rest = len(problems) - len(shown)
        tail = [f"... and {rest} more"] if rest else []
        raise DataError("\n  ".join([f"{len(problems)} problem(s) in the data:", *shown, *tail]))


def problems_of(record: Record) -> list[str]:
    """What is wrong with a photograph and its masks, one sentence each."""
    problems = []
    size = None
    try:
        size = read_image(record.image).shape[:2]
    except DataError as error:
        problems.append(str(error))
    for mask in record.masks:
        try:
            shape = read_mask(mask.path).shape
        except DataError as error:
            problems.append(str(error))
            continue
        if size and shape != size:
            problems.append(
                f"{mask.path} is {shape[1]} x {shape[0]} pixels, its image {record.image} {size[1]} x {size[0]}: "
                "make the mask from the same picture"
            )
    return problems


# --- files ----------------------------------------------------------------------------------------------------


def read_image(path: Path) -> np.ndarray:
    """A photograph as RGB uint8 [H, W, 3]. Raises DataError that names the file."""
    return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_mask(path: Path) -> np.ndarray:
    """A mask file with values {0, 1} or {0, 255} as uint8 {0, 1} [H, W].

    Raises DataError that names the file, also for other values and for an empty mask.
    """
    mask = _decode(path, cv2.IMREAD_GRAYSCALE)
    highest = int(mask.max())
    if highest == 0:
        raise DataError(f"{path} is empty (all 0): leave it out of the map")
    binary = mask == highest
    if highest not in (1, 255) or not (binary | (mask == 0)).all():
        values = ", ".join(map(str, np.unique(mask)[:6]))
        raise DataError(f"{path} is not binary (values {values} ...): a mask holds 0 and 1, or 0 and 255")
    return binary.astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}): check the path in the map") from error


def _decode(path: Path, mode: int) -> np.ndarray:
    data = _read(path)
    array = cv2.imdecode(data, mode) if data.size else None
    if array is None:
        raise DataError(f"{path} is not a whole picture that OpenCV reads: copy or convert it again")
    return array


def data_digest(records: Sequence[Record]) -> str:
    """Digest of the records' data: 32 hexadecimal digits (BLAKE2b).

    Names and contents of all files and the structures count, in order; the folders they lie in do not.
    """
    names = [[r.image.name, *([mask.path.name, mask.structure] for mask in r.masks)] for r in records]
    paths = [path for r in records for path in (r.image, *(mask.path for mask in r.masks))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = list(pool.map(lambda path: _digest(_read(path)), paths))
    return _digest(json.dumps([names, contents]).encode())


def _digest(content: bytes | np.ndarray) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


# --- samples --------------------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class FundusDataset(Dataset):
    """Photographs with masks in the model frame; the item of a `Draw` is the same whatever process makes it.

    Each item: `image` float32 [3, S, S] normalised; `mask` bool [M, 1, S, S]; `box` float32 [M, 4] half-open
    x0, y0, x1, y1 in model-frame pixels (zeros for a mask that vanished there); `frame`; `record`; `chosen`,
    the M indexes into `record.masks`; `seeds`, M integers for the clicks on each mask; and, with `keep_truth`,
    `truth`: M uint8 {0, 1} masks of original size.

    mask_num: at most so many masks of a photograph, drawn without replacement; None takes all. balance: draw
    them with probability proportional to 1 / (masks of that structure in the data set). drop_vanished: leave
    out masks that vanished in the model frame, as long as another one is there.
    """

    records: Sequence[Record]
    preprocessing: Preprocessing
    _: KW_ONLY
    mask_num: int | None = None
    balance: bool = False
    augmentation: Augmentation | None = None
    box_of: str = "component"
    keep_truth: bool = False
    drop_vanished: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        counts = Counter(mask.structure for record in self.records for mask in record.masks)
        self.mask_weights = {name: 1 / count if self.balance else 1.0 for name, count in counts.items()}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, position: int | Draw) -> dict[str, Any]:
        draw = position if isinstance(position, Draw) else Draw(0, position, position)
        rng = np.random.default_rng([self.seed, draw.epoch, draw.place])
        record = self.records[draw.index]
        chosen = self._choose(record, rng)
        truth = [read_mask(record.masks[i].path) for i in chosen]
        photograph = read_image(record.image)
        frame = self.preprocessing.frame(photograph)
        if self.augmentation:
            frame = self.augmentation.zoom(frame, truth, rng)
        image = self.preprocessing.image(photograph, frame)
        masks = np.stack([self.preprocessing.mask(mask, frame) for mask in truth])
        if self.augmentation:
            image, masks, kept = self.augmentation(image, masks, rng)
            chosen, truth = chosen[kept], [truth[i] for i in kept]
        seen = np.flatnonzero(masks.any((1, 2)))
        if self.drop_vanished and len(seen):
            masks, chosen, truth = masks[seen], chosen[seen], [truth[i] for i in seen]
        item = {
            "image": torch.from_numpy(image),
            "mask": torch.from_numpy(masks)[:, None].bool(),
            "box": torch.tensor([self._box(mask) for mask in masks], dtype=torch.float32),
            "frame": frame,
            "record": record,
            "chosen": chosen,
            "seeds": [int(rng.integers(2**63)) for _ in chosen],
        }
        return item | ({"truth": truth} if self.keep_truth else {})

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


@dataclass
class Batch:
    """B images with N masks in all.

    image: float32 [B, 3, S, S]; mask: bool [N, 1, S, S]; box: float32 [N, 4]; image_index: int64 [N], the
    image of each mask; refs: the N masks' files; seeds: N integers for the clicks on each; frames and records:
    one per image; truth: N original masks or None.
    """

    image: Tensor
    mask: Tensor
    box: Tensor
    image_index: Tensor
    refs: list[MaskRef]
    seeds: list[int]
    frames: list[Frame]
    records: list[Record]
    truth: list[np.ndarray] | None

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on `device`."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch with its tensors in page-locked memory, from where a GPU copies faster."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(self, **{name: change(getattr(self, name)) for name in ("image", "mask", "box", "image_index")})


def collate(items: Sequence[dict[str, Any]]) -> Batch:
    """Join dataset items into a `Batch`."""
    counts = torch.tensor([len(item["mask"]) for item in items])
    return Batch(
        image=torch.stack([item["image"] for item in items]),
        mask=torch.cat([item["mask"] for item in items]),
        box=torch.cat([item["box"] for item in items]),
        image_index=torch.repeat_interleave(torch.arange(len(items)), counts),
        refs=[item["record"].masks[i] for item in items for i in item["chosen"]],
        seeds=[seed for item in items for seed in item["seeds"]],
        frames=[item["frame"] for item in items],
        records=[item["record"] for item in items],
        truth=[mask for item in items for mask in item["truth"]] if "truth" in items[0] else None,
    )


def make_loader(
    dataset: Dataset, *, batch_size: int = 1, num_workers: int, batches: EpochBatches | None = None
) -> DataLoader:
    """`batches`, else all images in order and `batch_size` at a time, read ahead by `num_workers` processes."""
    cv2.setNumThreads(0)  # worker processes are forked: a thread pool made before would hang in them
    loader = DataLoader(
        dataset,
        batch_size=batch_size if batches is None else 1,  # the value that DataLoader wants beside a batch_sampler
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),  # calls Batch.pin_memory
        worker_init_fn=_leave_signals_to_parent if num_workers else None,
    )
    atexit.register(_stop_workers, weakref.ref(loader))
    return loader


def _leave_signals_to_parent(_: int) -> None:
    """Ctrl-C reaches the whole process group; a worker that died of it would take the parent's save along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _stop_workers(reference: weakref.ref) -> None:
    """End the processes of a loader that is still in use when Python exits.

    multiprocessing would send them SIGTERM, which they ignore, and wait for ever.
    """
    loader = reference()
    if loader is not None and loader._iterator is not None:
        loader._iterator._shutdown_workers()
