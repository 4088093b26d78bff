"""What the command line requests of a conversion: the data set, its files, its splits."""

import argparse
import difflib
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sam_med2d.data.file_tree import Tree
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
    if args.threshold is not None and data_set.threshold is None:
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
    if not any(sample.masks for sample in offer.samples):
        raise DataError(
            f"SOURCE is not {data_set.title}, or not as downloaded: {len(offer.samples)} photographs and no mask of it "
            f"were found. Expected:\n{textwrap.indent(data_set.layout, '  ')}\nFound:\n  {tree.summary()}"
            + "".join(f"\n  {problem}" for problem in offer.problems[:SHOWN])
        )
    if offer.problems and not leave_out:
        raise_problems(offer.problems, "put them back, or leave such files out with --leave_out")
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


def split_samples(samples: Sequence[Sample], args: argparse.Namespace) -> tuple[list[str], str]:
    """A split for each sample, and in words how it came about.

    Raises:
        UsageError: --split or --val cannot be used.
        DataError: there is an official val, and --val asks for one.
    """
    drawn = f"by {args.by}, seed {args.seed}"
    official = [sample.split for sample in samples]
    if args.split or not any(official):
        if args.val:
            raise UsageError("--val belongs to an official split: here give the share in --split")
        shares = args.split or splits.DEFAULT_SPLIT
        try:
            parsed = splits.parse_shares(shares)
        except ValueError as error:
            raise UsageError(f"--split: {error}") from error
        return splits.divide(samples, parsed, by=args.by, seed=args.seed), f"{shares} {drawn}"
    official = [split or "train" for split in official]
    if args.val:
        moved = splits.carve(samples, official, args.val / 100, by=args.by, seed=args.seed)
        return moved, f"official, {args.val:g} % of train moved to val {drawn}"
    return official, "official"


def describe(data_set: DataSet, choice: Choice, how: str, seed: int) -> dict[str, Any]:
    """What the record says of where the data come from."""
    chosen = {"observer": choice.observer, "threshold": choice.threshold, **choice.options}
    about = {key: getattr(data_set, key) for key in ("name", "title", "citation", "terms", "where")}
    return {**about, "chosen": chosen, "split": how, "seed": seed, "versions": versions()}
