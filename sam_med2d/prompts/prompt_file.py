"""Opening prompts of masks: made from the truth, or read from a prompt file; photographs are checked on the way."""

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sam_med2d.data.dataset import Batch, FundusDataset, collate
from sam_med2d.data.record_checks import errors_of
from sam_med2d.data.records import MaskRef, Record
from sam_med2d.errors import DataError, UnreadableError
from sam_med2d.notes import REMARKS, Found
from sam_med2d.prompts.simulation import first_points
from segment_anything.checkpoint import listing
from segment_anything.modeling.prompt_checks import SHARES, are_shares, box_fault
from segment_anything.utils.atomic import atomic_path

# {mask's name: {"boxes": [[x0, y0, x1, y1]], "point_coords": [[x, y], ...], "point_labels": [1, ...]}}
PromptEntries = dict[str, dict[str, list[Any]]]


def random_stream(seed: int, key: str, purpose: str) -> torch.Generator:
    """Make the random stream of one mask: the same in any batch, order or process.

    Args:
        seed: Of the run.
        key: Of the mask.
        purpose: What is drawn; each purpose has its own stream.

    Returns:
        A generator on the CPU.
    """
    # the seed starts the checksum, as a CPU generator reads no more than 32 bits of its seed
    return torch.Generator().manual_seed(zlib.crc32(f"{purpose}:{key}".encode(), seed))


def make_prompts(batch: Batch, *, point_num: int, seed: int) -> PromptEntries:
    """Make the opening prompts of a batch's masks: the box, and clicks.

    Args:
        batch: Photographs and their masks.
        point_num: Clicks, see `simulation.first_points`.
        seed: Of the clicks.

    Returns:
        An entry for each mask, in model-frame pixels; empty lists for a mask that vanished in the model frame.
    """
    prompts: PromptEntries = {}
    if not batch.refs:  # photographs without a mask, for structure prompts alone
        return prompts
    streams = [random_stream(seed, ref.key, "opening") for ref in batch.refs]
    coords, labels = first_points(batch.mask[:, 0], point_num, streams)
    for i, ref in enumerate(batch.refs):
        exists = bool(batch.mask[i].any())
        prompts[ref.name] = {
            "boxes": batch.box[i : i + 1].int().tolist() if exists else [],
            "point_coords": coords[i].int().tolist() if exists else [],
            "point_labels": labels[i].tolist() if exists else [],
        }
    return prompts


@dataclass(frozen=True)
class CheckedPrompts:
    """A photograph's opening prompts by mask, what is wrong with its data, and {file: why} for unreadable files."""

    prompts: PromptEntries
    problems: list[str]
    unreadable: dict[str, str]
    remarks: Found = field(default_factory=dict)


@dataclass(frozen=True)
class OpeningPrompts(Dataset):
    """`CheckedPrompts` for each photograph of a data set, by clicks as in `first_points`: reads all its files."""

    dataset: FundusDataset
    point_num: int
    seed: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> CheckedPrompts:
        with REMARKS.collected():
            try:
                checked = CheckedPrompts(self._prompts(self.dataset, index), [], {})
            except DataError:
                checked = self._readable_part(self.dataset.records[index])
            return replace(checked, remarks=REMARKS.take())  # this may be a process of its own

    def _prompts(self, dataset: FundusDataset, index: int) -> PromptEntries:
        return make_prompts(collate([dataset[index]]), point_num=self.point_num, seed=self.seed)

    def _readable_part(self, record: Record) -> CheckedPrompts:
        """Prompts of the masks that can be read, and what is wrong with the others."""
        errors = errors_of(record)
        unreadable = {str(path): str(e) for path, e in errors.items() if isinstance(e, UnreadableError)}
        problems = [str(error) for path, error in errors.items() if str(path) not in unreadable]
        rest = without_unreadable(record, unreadable)
        prompts = self._prompts(replace(self.dataset, records=[rest]), 0) if rest and not problems else {}
        return CheckedPrompts(prompts, problems, unreadable)


def without_unreadable(record: Record, unreadable: dict[str, str]) -> Record | None:
    """Leave out what cannot be read.

    Args:
        record: A photograph and its masks.
        unreadable: {file: why}.

    Returns:
        The record without its unreadable masks; None where nothing is left of what there was to evaluate.
    """
    masks = tuple(mask for mask in record.masks if str(mask.path) not in unreadable)
    lost = str(record.image) in unreadable or (record.masks and not masks)
    return None if lost else replace(record, masks=masks)


def write_prompts(path: Path, prompts: Iterable[PromptEntries]) -> None:
    """Write one prompt file, atomically.

    Args:
        path: The file.
        prompts: Entries, some at a time: they need not be in memory together.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "{\n"
        for entries in prompts:
            for name, entry in entries.items():
                file.write(f"{separator} {json.dumps(name)}: {json.dumps(entry)}")
                separator = ",\n"
        file.write("\n}\n")


def read_prompts(path: Path, refs: Sequence[MaskRef], image_size: int) -> PromptEntries:
    """Read the prompts of masks from a prompt file, whose keys may be plain basenames.

    Args:
        path: The file.
        refs: The masks.
        image_size: Side S of the model frame.

    Returns:
        An entry for each mask, by `MaskRef.name`.

    Raises:
        DataError: Names the masks without an entry, with one that is none, or with positions that cannot be meant.
    """
    content = _read_json(path)
    names = Counter(Path(ref.key).name for ref in refs)  # a name that two masks share stands for neither
    plain = {ref.name: content.get(Path(ref.key).name) for ref in refs if names[Path(ref.key).name] == 1}
    prompts = {ref.name: content.get(ref.name, plain.get(ref.name)) for ref in refs}
    missing = [key for key, entry in prompts.items() if entry is None]
    if missing:
        raise DataError(f"--prompt_path {path} has no entry for {len(missing)} mask(s): {listing(missing)}.")
    entries = {key: _read_entry(entry) for key, entry in prompts.items()}
    _refuse_malformed(path, entries)
    outside = [key for key, entry in entries.items() if not _inside(entry, image_size)]
    if outside:
        raise DataError(f"--prompt_path {path}: prompts outside 0..{image_size} for {listing(outside)}.")
    return entries


def read_entries(path: Path) -> PromptEntries:
    """All entries of a prompt file, by the names that it has. Raises DataError for what is none."""
    entries = {key: _read_entry(entry) for key, entry in _read_json(path).items()}
    _refuse_malformed(path, entries)
    return entries


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises DataError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"--prompt_path {path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise DataError(f"--prompt_path {path} holds a JSON {kind}: give an object of mask file names.")
    return content


def _refuse_malformed(path: Path, entries: dict[str, dict[str, list[Any]] | None]) -> None:
    """Raise DataError that names the masks whose entry is None, or the first one that cannot be meant."""
    odd = [key for key, entry in entries.items() if entry is None]
    if odd:
        wanted = '{"boxes": [[x0, y0, x1, y1]], "point_coords": [[x, y], ...], "point_labels": [1, ...]}'
        raise DataError(f"--prompt_path {path}: the entry of {listing(odd)} is not {wanted}.")
    for key, entry in entries.items():
        positions = np.array([*np.ravel(entry["boxes"]), *np.ravel(entry["point_coords"])])
        if fault := SHARES if are_shares(positions) else box_fault(entry["boxes"]):
            raise DataError(f"--prompt_path {path}, {key}: {fault}.")


def _read_entry(entry: Any) -> dict[str, list[Any]] | None:
    """An entry with its lists in our nesting (SAM-Med2D wrote one more level), None if it is something else."""
    try:
        boxes = np.asarray(entry["boxes"], float).reshape(-1, 4)
        coords = np.asarray(entry["point_coords"], float).reshape(-1, 2)
        labels = np.asarray(entry["point_labels"], float).ravel()
    except (KeyError, TypeError, ValueError):
        return None
    if len(boxes) > 1 or len(labels) != len(coords) or not np.isin(labels, (-1, 0, 1)).all():
        return None
    return {"boxes": boxes.tolist(), "point_coords": coords.tolist(), "point_labels": labels.astype(int).tolist()}


def _inside(entry: dict[str, list[Any]], image_size: int) -> bool:
    """Whether all positions of an entry lie in the frame or on its edge."""
    values = [np.asarray(entry[name], float).ravel() for name in ("boxes", "point_coords")]
    return all(((value >= 0) & (value <= image_size)).all() for value in values)
