"""Photographs and patients that are in two splits, so that a test measures what was trained on."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from tqdm import tqdm

from sam_med2d.data.image_io import read_image
from sam_med2d.data.patients import patients_in_names
from sam_med2d.dataset_checks.duplicate_images import Similarity, candidates, compare
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.dataset_checks.map_checks import ListedPhotograph
from sam_med2d.runtime.process_pool import in_processes

Pair = tuple[int, int]  # numbers of two photographs
Who = TypeVar("Who")


def find_near_duplicates(
    photographs: Sequence[ListedPhotograph], digests: Sequence[str], thumbnails: np.ndarray, workers: int
) -> list[Finding]:
    """Photographs that are there more than once, and the same eye in two splits.

    Args:
        photographs: N of them, all readable.
        digests: of their files.
        thumbnails: float16 [N, 2, D], see `duplicate_images.thumbnails`.
        workers: processes that compare.
    """
    first: dict[str, int] = {}
    edges = [(first.setdefault(digest, i), i) for i, digest in enumerate(digests)]
    different = np.fromiter(first.values(), int, len(first))
    pairs = [(int(different[i]), int(different[j])) for i, j in sorted(candidates(thumbnails[different]))]
    findings, eyes = [], []
    for (i, j), similarity in _compare_all(photographs, pairs, edges, workers):
        if similarity is None:
            names = tuple(str(photographs[k].image) for k in (i, j))
            message = f"{' and '.join(names)} could not be compared (the process died): look at the two files"
            findings.append(Finding("check_failed", names, message))
        elif similarity.same_eye and not similarity.is_duplicate:
            eyes.append((i, j))
    group = _groups(len(photographs), edges)
    findings += _duplicate_findings(photographs, digests, group)
    findings += [
        _same_eye_finding(photographs[i], photographs[j])
        for i, j in eyes
        if _is_leakage(photographs[i], photographs[j])
    ]
    return findings


def find_patient_leakage(photographs: Sequence[ListedPhotograph]) -> Iterator[Finding]:
    """Patients in more than one split: as index.csv says, or else, as warnings, as the photographs' names do."""
    unknown = [photograph for photograph in photographs if not photograph.patient]
    for (data_set, patient), theirs in _in_several_splits((p.patient, p) for p in photographs if p.patient):
        message = (
            f"patient {patient} of {data_set} is in several splits ({_places(theirs)}): "
            "keep all photographs of a patient in one split"
        )
        yield Finding("same_patient", tuple(str(photograph.image) for photograph in theirs), message)
    for data_set in dict.fromkeys(photograph.data_set for photograph in unknown):
        members = {p.image: p for p in unknown if p.data_set == data_set}
        named = zip(patients_in_names([*members]).of, members.values(), strict=True)
        for patient, theirs in _in_several_splits((who, photograph) for who, photograph in named if who):
            message = (
                f"{_places(theirs)}: their names look like several photographs of {patient}: keep a patient in one "
                "split, or say in the column patient of index.csv who is seen"
            )
            yield Finding("same_name", tuple(str(photograph.image) for photograph in theirs), message, warning=True)


def _in_several_splits(seen: Iterable[tuple[Who, ListedPhotograph]]) -> Iterator[tuple[Who, list[ListedPhotograph]]]:
    """Those who are seen in photographs of more than one split, with their photographs."""
    by_patient: dict[Who, list[ListedPhotograph]] = {}
    for who, photograph in seen:
        by_patient.setdefault(who, []).append(photograph)
    return ((who, theirs) for who, theirs in by_patient.items() if len({one.split for one in theirs}) > 1)


def _compare_all(
    photographs: Sequence[ListedPhotograph], pairs: list[Pair], edges: list[Pair], workers: int
) -> Iterator[tuple[Pair, Similarity | None]]:
    """Compare pairs, but for those that copies of copies join already; the pairs of copies are added to `edges`."""
    with tqdm(desc="comparing pictures", total=len(pairs), leave=False, unit="pair") as bar:
        while pairs:
            chosen, later = _next_pairs(pairs, _groups(len(photographs), edges))
            bar.update(len(pairs) - len(chosen) - len(later))
            files = [(photographs[i].image, photographs[j].image) for i, j in chosen]
            every = in_processes(_compare_files, files, workers, died=_not_compared)
            for pair, similarity in zip(chosen, every, strict=True):
                bar.update()
                if similarity and similarity.is_duplicate:
                    edges.append(pair)
                yield pair, similarity
            pairs = later


def _next_pairs(pairs: Sequence[Pair], group: np.ndarray) -> tuple[list[Pair], list[Pair]]:
    """Pairs to compare now, a forest that may join the groups [N], and those for later; none inside a group."""
    ends = np.sort(group[np.array(pairs)], axis=1)
    apart = np.flatnonzero(ends[:, 0] != ends[:, 1])
    between, once = np.unique(ends[apart], axis=0, return_index=True)
    numbers = apart[once] + 1.0  # a weight of 0 would be no edge
    tree = minimum_spanning_tree(coo_array((numbers, tuple(between.T)), (len(group), len(group))))
    now = {int(number) - 1 for number in tree.data}
    return [pairs[k] for k in sorted(now)], [pairs[k] for k in apart if k not in now]


def _compare_files(files: tuple[Path, Path]) -> Similarity:
    return compare(*map(read_image, files))


def _not_compared(files: tuple[Path, Path]) -> None:
    """Stands for the similarity of two files that killed the process."""


def _groups(count: int, edges: Sequence[tuple[int, int]]) -> np.ndarray:
    """Number of the group [count] that each item belongs to, where edges join items."""
    if not edges:
        return np.arange(count)
    ends = np.array(edges).T
    return connected_components(coo_array((np.ones(len(edges)), tuple(ends)), (count, count)), directed=False)[1]


def _duplicate_findings(
    photographs: Sequence[ListedPhotograph], digests: Sequence[str], group: np.ndarray
) -> Iterator[Finding]:
    """A finding for each group of more than one; no fault inside one split."""
    order = np.argsort(group, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(members) < 2:
            continue
        copies = [photographs[i] for i in members]
        same_bytes = len({digests[i] for i in members}) == 1
        several = len({copy.split for copy in copies}) > 1
        kind = ("same_bytes" if same_bytes else "same_picture") if several else "repeated"
        what = "the same file" if same_bytes else "the same photograph, resized or saved again"
        advice = "keep it in one split" if several else "keep one of them"
        message = f"{_places(copies)}: {what}; {advice}"
        yield Finding(kind, tuple(str(copy.image) for copy in copies), message, warning=not several)


def _is_leakage(first: ListedPhotograph, second: ListedPhotograph) -> bool:
    """Whether two photographs of one eye are in two splits, and index.csv does not say so anyway."""
    return first.split != second.split and (first.patient is None or first.patient != second.patient)


def _same_eye_finding(first: ListedPhotograph, second: ListedPhotograph) -> Finding:
    message = (
        f"{_places([first, second])}: seemingly two photographs of one eye; look at both, and keep a patient in one "
        "split"
    )
    return Finding("same_eye", (str(first.image), str(second.image)), message, warning=True)


def _places(photographs: Sequence[ListedPhotograph]) -> str:
    return ", ".join(f"{photograph.image} ({photograph.split})" for photograph in photographs)
