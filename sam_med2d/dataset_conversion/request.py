"""What the command line requests of a conversion: the data set, its files, its splits."""

import argparse
import difflib
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.patients import alike_in_names
from sam_med2d.dataset_conversion import splits
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats import FORMATS
from sam_med2d.dataset_conversion.public import PUBLIC_SETS
from sam_med2d.dataset_conversion.samples import Choice, Sample
from sam_med2d.errors import DataError, UsageError, raise_problems
from sam_med2d.runtime.reproducibility import versions

SHOWN = 5  # problems of a source that is not the data set


def find_data_set(name: str) -> DataSet:
    """The data set of this name, whatever its case and punctuation. Raises UsageError with the nearest name."""
    every = {**PUBLIC_SETS, **FORMATS}
    plain = {re.sub(r"[^a-z0-9]", "", key): key for key in every}
    plain |= {re.sub(r"[^a-z0-9]", "", entry.title.lower()): key for key, entry in every.items()}
    wanted = re.sub(r"[^a-z0-9]", "", name.lower())
    if wanted in plain:
        return every[plain[wanted]]
    near = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.4)
    hint = f"; did you mean {plain[near[0]]}?" if near else ""
    raise UsageError(f"NAME: there is no data set {name!r}{hint} (all: {', '.join(every)})")


def choice_of(args: argparse.Namespace, data_set: DataSet) -> Choice:
    """What the flags choose of a data set. Raises UsageError for flags that it has no use for."""
    observer = args.observer or next(iter(data_set.observers), "")
    if args.observer and args.observer not in data_set.observers:
        known = ", ".join(data_set.observers) or "none: leave the flag out"
        raise UsageError(f"--observer {args.observer}: {data_set.title} has {known}")
    if args.threshold is not None and data_set.threshold is None and not data_set.may_be_soft:
        raise UsageError(f"--threshold: the masks of {data_set.title} are not soft; leave it out")
    every = {flag: _attribute(flag) for form in FORMATS.values() for flag in form.flags}
    for flag in every.keys() - data_set.flags.keys():
        if getattr(args, every[flag]) is not None:
            raise UsageError(f"{flag} is of no use for {data_set.name}: leave it out")
    own = {every[flag] for flag in data_set.flags}
    options = {name: getattr(args, name) for name in sorted(own)} | {"instances": args.instances}
    return Choice(observer, data_set.threshold if args.threshold is None else args.threshold, options)


def _attribute(flag: str) -> str:
    return flag.lstrip("-")


def find_samples(data_set: DataSet, tree: Tree, choice: Choice, *, leave_out: bool) -> FoundSamples:
    """What a source offers.

    Args:
        data_set: what the source should be.
        tree: its files.
        choice: among observers, thresholds and flags.
        leave_out: whether missing files are let through.

    Raises:
        DataError: it is another data set, or files are missing.
    """
    offer = data_set.find(tree, choice)
    if not any(sample.masks or not data_set.has_masks for sample in offer.samples):
        raise DataError(
            f"SOURCE is not {data_set.title}, or not as downloaded: {len(offer.samples)} photographs and no mask of it "
            f"were found. Expected:\n{textwrap.indent(data_set.layout, '  ')}\nFound:\n  {tree.summary()}"
            + "".join(f"\n  {problem}" for problem in offer.problems[:SHOWN])
        )
    if offer.problems and not leave_out:
        raise_problems(offer.problems, "put them back, or leave such files out with --leave_out")
    if offer.problems and data_set.has_masks:
        offer.samples = [sample for sample in offer.samples if sample.masks or sample.absent]
        if choice.options.get("missing") == "absent":
            offer.notes.append("--missing absent: what was left out counts as absent, too, where nothing else shows it")
    names = Counter(sample.name.lower() for sample in offer.samples)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise DataError(f"several photographs have the name {', '.join(twice[:10])}: rename them")
    masks = Counter(name for sample in offer.samples for name in _mask_names(sample))
    if twice := sorted(name for name, count in masks.items() if count > 1):
        raise DataError(f"masks of two photographs would have the name {', '.join(twice[:10])}: rename the photographs")
    if odd := [sample.name for sample in offer.samples if not re.fullmatch(r"[\w()+, -][\w()+,. -]*", sample.name)]:
        raise DataError(f"these names cannot be names of files: {', '.join(odd[:10])}: rename the photographs")
    return offer


def _mask_names(sample: Sample) -> set[str]:
    """What the names of its masks' files begin with, for comparison."""
    return {f"{sample.name}_{source.structure}".lower() for source in sample.masks}


@dataclass(frozen=True, slots=True)
class Division:
    """Samples in their splits.

    Attributes:
        samples: with the patients by which they were divided.
        splits: the split of each.
        how: in words how it came about.
        notes: what a person should know of the patients.
    """

    samples: list[Sample]
    splits: list[str]
    how: str
    notes: list[str] = field(default_factory=list)


def split_samples(data_set: DataSet, samples: Sequence[Sample], args: argparse.Namespace) -> Division:
    """The official split, or one that is drawn: by patient where patients are known, else by photograph.

    Args:
        data_set: where the samples come from.
        samples: the photographs.
        args: the flags of scripts/prepare_dataset.py.

    Raises:
        UsageError: --split, --val or --by cannot be used.
        DataError: there is an official val, and --val asks for one.
    """
    official = [sample.split for sample in samples]
    if args.split or not any(official):
        if args.val:
            raise UsageError("--val belongs to an official split: here give the share in --split")
        shares = args.split or splits.DEFAULT_SPLIT
        try:
            parsed = splits.parse_shares(shares)
        except ValueError as error:
            raise UsageError(f"--split: {error}") from error
        known, by, notes = _units(data_set, samples, args)
        drawn = splits.divide(known, parsed, by=by, seed=args.seed)
        return Division(known, drawn, f"{shares} by {by}, seed {args.seed}", notes)
    unknown = [sample.image for sample in samples if not sample.split]
    notes = [f"nothing says the split of {len(unknown)} photograph(s): train (first: {unknown[0]})"] if unknown else []
    official = [split or "train" for split in official]
    if not args.val:
        return Division([*samples], official, "official", notes)
    known, by, told = _units(data_set, samples, args)
    moved = splits.carve(known, official, args.val / 100, by=by, seed=args.seed)
    how = f"official, {args.val:g} % of train moved to val by {by}, seed {args.seed}"
    return Division([*samples], moved, how, notes + told)  # the official test part may divide patients that names tell


def _units(
    data_set: DataSet, samples: Sequence[Sample], args: argparse.Namespace
) -> tuple[list[Sample], str, list[str]]:
    """Samples with their patients, what is never divided ("patient" or "photograph"), and notes on it."""
    if args.by == "image":
        return [*samples], "photograph", []
    given = f"--patient {args.patient}" if args.patient else "the data set" if any(s.patient for s in samples) else ""
    known, in_names = ([*samples], "") if args.patient else splits.with_named_patients(samples)
    patients = {(sample.data_set, sample.patient) for sample in known if sample.patient}
    if patients:
        told = " and ".join(filter(None, (given, in_names)))
        note = f"{sum(bool(s.patient) for s in known)} photographs are of {len(patients)} patient(s), told by {told}"
        unknown = sum(not sample.patient for sample in known)
        return known, "patient", [note + f"; {unknown} of unknown patients are taken one by one" * bool(unknown)]
    names = f"the names, such as {_example(samples)}, tell no patient"
    own = "--patient" in data_set.flags
    if args.by:
        advice = "say with --patient REGEX what in them is the patient" if own else "leave it out"
        raise UsageError(f"--by {args.by}: {names}: {advice}, or divide --by image")
    advice = "; if some show one person, say with --patient REGEX what in the names is the patient" if own else ""
    return [*samples], "photograph", [f"{names}: the split is by photograph{advice}"]


def _example(samples: Sequence[Sample]) -> str:
    """Names of two photographs that may be of one person, or of any."""
    return " and ".join(alike_in_names([sample.image for sample in samples]) or [samples[0].image.name])


def describe(data_set: DataSet, choice: Choice, how: str, seed: int) -> dict[str, Any]:
    """What the record says of where the data come from."""
    chosen = {"observer": choice.observer, "threshold": choice.threshold, **choice.options}
    about = {key: getattr(data_set, key) for key in ("name", "title", "citation", "terms", "where")}
    return {**about, "chosen": chosen, "split": how, "seed": seed, "versions": versions()}
