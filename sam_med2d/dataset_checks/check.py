"""The whole check of a data set: maps, files, placement of masks, splits, class balance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from sam_med2d.dataset_checks.alignment import PLACEABLE
from sam_med2d.dataset_checks.class_balance import ClassBalance
from sam_med2d.dataset_checks.duplicate_images import THUMBNAIL
from sam_med2d.dataset_checks.file_checks import PhotographFacts, check_photograph
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.dataset_checks.index_checks import find_index_faults, find_passed_over, unlisted
from sam_med2d.dataset_checks.map_checks import ListedPhotograph, read_maps
from sam_med2d.dataset_checks.mask_placement import resolve_doubts
from sam_med2d.dataset_checks.pixel_shift import Shift, find_pixel_shifts
from sam_med2d.dataset_checks.split_leakage import find_near_duplicates, find_patient_leakage
from sam_med2d.runtime.process_pool import in_processes


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found.

    Attributes:
        photographs: that the maps list.
        findings: faults first.
        balance: of the structures.
        unlisted: names of pictures, by their folder, that lie beside the listed ones and were not looked at.
    """

    photographs: list[ListedPhotograph]
    findings: list[Finding]
    balance: ClassBalance
    unlisted: dict[Path, list[str]]

    @property
    def sound(self) -> bool:
        """Whether nothing but warnings was found."""
        return all(finding.warning for finding in self.findings)


def check(folders: Sequence[Path], *, image_size: int, workers: int) -> CheckResult:
    """Check all maps of the folders together. Of each photograph a few kilobytes are kept.

    Args:
        folders: data sets in the documented layout.
        image_size: side of the model frame in pixels, for which sizes are measured.
        workers: processes that read.

    Raises:
        DataError: an index.csv is no table.
    """
    photographs, findings = read_maps(folders)
    balance = ClassBalance()
    digests, readable = [], []
    shifts: dict[str, list[tuple[Path, Shift]]] = {}
    thumbnails = np.zeros((len(photographs), 2, THUMBNAIL**2), np.float16)
    every = in_processes(partial(_check_photograph, image_size=image_size), photographs, workers, died=_failed)
    bar = tqdm(every, "reading pictures", len(photographs), leave=False, unit="image")
    for photograph, facts in zip(photographs, bar, strict=True):
        findings += facts.findings
        balance.add(photograph, facts.masks)
        found = [(mask.path, mask.shift) for mask in facts.masks if mask.shift]
        shifts.setdefault(photograph.data_set, []).extend(found)
        if facts.digest is not None:
            thumbnails[len(readable)] = facts.thumbnails
            digests.append(facts.digest)
            readable.append(photograph)
    findings += [finding for of_set in shifts.values() for finding in find_pixel_shifts(of_set)]
    findings += [finding for folder in folders for finding in find_index_faults(folder, photographs)]
    findings += find_patient_leakage(photographs)
    findings += find_near_duplicates(readable, digests, thumbnails[: len(readable)], workers)
    findings += balance.findings(image_size)
    findings = resolve_doubts(findings, sum(sizes.masks for kind, sizes in balance.sizes.items() if kind in PLACEABLE))
    left = unlisted(photographs)
    findings += find_passed_over(left)
    findings = sorted(dict.fromkeys(findings), key=lambda finding: (finding.warning, finding.kind))
    return CheckResult(photographs, findings, balance, left)


def _check_photograph(photograph: ListedPhotograph, image_size: int) -> PhotographFacts:
    try:
        return check_photograph(photograph, image_size)
    except (cv2.error, MemoryError) as error:
        return _failed(photograph, repr(error))


def _failed(photograph: ListedPhotograph, reason: str = "the process died") -> PhotographFacts:
    """The facts of a photograph whose files broke the work on them."""
    files = (str(photograph.image), *(str(mask) for mask, _ in photograph.masks))
    message = f"{photograph.image} or one of its masks broke the check ({reason}): look at them, or save them again"
    return PhotographFacts(findings=[Finding("check_failed", files, message)])
