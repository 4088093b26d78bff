"""Folders without a map -> records: photographs, and masks that find their photograph by their names."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sam_med2d.data.photographs import photographs_in, pictures_in
from sam_med2d.data.records import MaskRef, Record, saved_name, structure_of
from sam_med2d.errors import raise_problems


def records_in(folder: Path) -> list[Record]:
    """The photographs that lie in a folder itself, in order of their paths, as records without masks."""
    return [Record(path, (), folder.resolve().name) for path in photographs_in(folder, below=False)]


def with_masks(records: Sequence[Record], folder: Path) -> tuple[list[Record], list[Path]]:
    """Records with the masks of a folder, and of the folders in it, instead of their own.

    A file is taken for a mask under the name by which `test.py --save_pred` saves one of the records' own masks; as
    `<image>_<structure>_<nnn>.png`; or with its photograph's own name in a folder named as its structure.

    Returns:
        The records, and the files that belong to none.

    Raises:
        DataError: it is not clear which photograph is meant, or which of several files of one name.
    """
    own = {os.path.abspath(record.image) for record in records}
    names = _Names(records)
    masks: dict[int, list[MaskRef]] = {}
    seen: dict[tuple[int, str, str], Path] = {}
    problems, rest = [], []
    for path in pictures_in(folder):
        if os.path.abspath(path) in own:
            continue
        owners, structure = names.of(path)
        if not owners:
            rest.append(path)
        elif len(owners) > 1:
            pair = " or ".join(str(records[owner].image) for owner in owners[:2])
            problems.append(f"{path} may be of {pair}: give one folder of photographs at a time")
        elif first := seen.get(key := (owners[0], structure, path.name)):
            problems.append(f"{path} is there a second time, as {first}: give the folder of one result")
        else:
            seen[key] = path
            masks.setdefault(owners[0], []).append(MaskRef(path, str(path.relative_to(folder)), structure))
    raise_problems(problems)
    return [replace(record, masks=tuple(masks.get(i, ()))) for i, record in enumerate(records)], rest


class _Names:
    """What a mask's name says of its photograph and structure."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.saved: dict[str, list[tuple[int, str]]] = {}
        self.stems: dict[str, list[int]] = {}
        for i, record in enumerate(records):
            for name in {record.image.stem, record.image.name}:  # the latter where photographs differ in their suffix
                self.stems.setdefault(name, []).append(i)
            for mask in record.masks:
                self.saved.setdefault(saved_name(mask.name), []).append((i, mask.structure))

    def of(self, path: Path) -> tuple[list[int], str]:
        """Indexes of the records that a file may be a mask of, none if it is no mask; its structure."""
        if known := self.saved.get(path.name):
            return [i for i, _ in known], known[0][1]
        # a saved name has its folders in it: optic-disc__eye7.png
        for spelling in dict.fromkeys((path, path.parent / path.name.replace("__", "/"))):
            words = spelling.stem.split("_")
            beginnings = ("_".join(words[:count]) for count in range(len(words), 0, -1))
            if stem := next((stem for stem in beginnings if stem in self.stems), None):
                owners = self.stems[stem]
                place = Path(os.path.abspath(spelling))
                return owners, structure_of(place, self.records[owners[0]].image.with_name(f"{stem}.png"))
        return [], ""
