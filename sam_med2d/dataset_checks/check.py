"""The whole check of a data set: maps, files, anatomy, splits, balance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from sam_med2d.dataset_checks.alignment import PLACED
from sam_med2d.dataset_checks.class_balance import Balance
from sam_med2d.dataset_checks.duplicate_images import THUMBNAIL
from sam_med2d.dataset_checks.file_checks import Facts, examine
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.dataset_checks.map_checks import Photograph, read_listing
from sam_med2d.dataset_checks.mask_placement import settled
from sam_med2d.dataset_checks.split_leakage import find_patients, find_repeated
from sam_med2d.runtime.process_pool import in_processes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found."""

    photographs: list[Photograph]
    findings: list[Finding]
    balance: Balance

    @property
    def sound(self) -> bool:
        """Whether nothing but warnings was found."""
        return all(finding.warning for finding in self.findings)


def check(folders: Sequence[Path], *, image_size: int, workers: int) -> Outcome:
    """Check all maps of the folders together. Of each photograph a few kilobytes are kept."""
    photographs, findings = read_listing(folders)
    balance = Balance()
    digests, readable = [], []
    thumbnails = np.zeros((len(photographs), 2, THUMBNAIL**2), np.float16)
    every = in_processes(partial(_examine, image_size=image_size), photographs, workers, died=_failed)
    bar = tqdm(every, "reading pictures", len(photographs), leave=False, unit="image")
    for photograph, facts in zip(photographs, bar, strict=True):
        findings += facts.findings
        balance.add(photograph, facts.masks)
        if facts.digest is not None:
            thumbnails[len(readable)] = facts.thumbnails
            digests.append(facts.digest)
            readable.append(photograph)
    findings += find_patients(photographs)
    findings += find_repeated(readable, digests, thumbnails[: len(readable)], workers)
    findings += balance.findings(image_size)
    findings = settled(findings, sum(sizes.masks for kind, sizes in balance.sizes.items() if kind in PLACED))
    findings = sorted(dict.fromkeys(findings), key=lambda finding: (finding.warning, finding.kind))
    return Outcome(photographs, findings, balance)


def _examine(photograph: Photograph, image_size: int) -> Facts:
    try:
        return examine(photograph, image_size)
    except (cv2.error, MemoryError) as error:
        return _failed(photograph, repr(error))


def _failed(photograph: Photograph, reason: str = "the process died") -> Facts:
    """The facts of a photograph whose files broke the work on them."""
    files = (str(photograph.image), *(str(mask) for mask, _ in photograph.masks))
    message = f"{photograph.image} or one of its masks broke the check ({reason}): look at them, or save them again"
    return Facts(findings=[Finding("check_failed", files, message)])
