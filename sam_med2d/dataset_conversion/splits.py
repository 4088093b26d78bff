"""Which photograph goes to which split."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from sam_med2d.data.patients import patients_in_names
from sam_med2d.data.records import SPLITS
from sam_med2d.dataset_conversion.samples import Sample
from sam_med2d.errors import DataError

DEFAULT_SPLIT = "70/10/20"


def parse_shares(text: str) -> dict[str, float]:
    """ "70/10/20" -> shares of train, val and test that add up to 1; "80/20" is train and test.

    Raises:
        ValueError: the text is no split.
    """
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) == 2:
        parts.insert(1, 0.0)
    if len(parts) != 3 or min(parts) < 0 or not sum(parts):
        raise ValueError(f"{text!r} is no split: write three percentages, such as 70/10/20")
    return {split: part / sum(parts) for split, part in zip(SPLITS, parts, strict=True)}


def with_named_patients(samples: Sequence[Sample]) -> tuple[list[Sample], str]:
    """Samples with the patients that the names of their photographs tell, where they have none.

    Returns:
        The samples, and in words what in the names tells it; "" where nothing does.
    """
    told = list(samples)
    how = []
    for data_set in dict.fromkeys(sample.data_set for sample in samples):
        members = [i for i, sample in enumerate(samples) if sample.data_set == data_set and not sample.patient]
        named = patients_in_names([samples[i].image for i in members])
        for i, patient in zip(members, named.of, strict=True):
            told[i] = replace(samples[i], patient=patient)
        how += [named.how] * bool(named.examples)
    return told, ", ".join(how)


def divide(samples: Sequence[Sample], shares: dict[str, float], *, by: str, seed: int) -> list[str]:
    """A split for each sample, drawn from each kind of photograph (its source and structures).

    Shares are met as closely as whole patients allow; a split with a share gets at least one patient where there are
    enough.

    Args:
        samples: the photographs.
        shares: of each split, adding up to 1.
        by: "patient" keeps a patient's photographs together, "photograph" does not.
        seed: of the drawing.
    """
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        own = f"\0{sample.name}"
        groups[f"{sample.data_set}/{sample.patient}" if by == "patient" and sample.patient else own].append(i)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: _kind(samples[group[0]]))
    counts = dict.fromkeys(shares, 0)
    splits = [""] * len(samples)
    for done, group in enumerate(order):
        total = sum(counts.values()) + len(group)
        # the emptiest of those that still need a patient when there are only as many left, else the one furthest behind
        empty = [split for split, share in shares.items() if share and not counts[split]]
        open_splits = empty if len(order) - done <= len(empty) else [split for split, share in shares.items() if share]
        behind = max(open_splits, key=lambda split: shares[split] * total - counts[split])
        counts[behind] += len(group)
        for i in group:
            splits[i] = behind
    return splits


def carve(samples: Sequence[Sample], splits: Sequence[str], share: float, *, by: str, seed: int) -> list[str]:
    """The splits, with a share of the training photographs moved to val; arguments as for `divide`.

    Raises:
        DataError: there is an official val.
    """
    if "val" in splits:
        raise DataError("--val: this data set has an official validation part; leave the flag out")
    training = [i for i, split in enumerate(splits) if split == "train"]
    drawn = divide([samples[i] for i in training], {"train": 1 - share, "val": share}, by=by, seed=seed)
    moved = dict(zip(training, drawn, strict=True))
    return [moved.get(i, split) for i, split in enumerate(splits)]


def _kind(sample: Sample) -> tuple[str, ...]:
    return sample.data_set, *sorted({source.structure for source in sample.masks})
