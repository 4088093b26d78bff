"""Turn a public fundus data set, as downloaded, or a folder of one's own into JSON maps.

    python scripts/prepare_dataset.py --list                       # the data sets and where to get them
    python scripts/prepare_dataset.py drive ~/Downloads/DRIVE data/drive --val 10
    python scripts/prepare_dataset.py idrid "~/Downloads/A. Segmentation.zip" data/idrid --fov_crop --max_side 1024
    python scripts/prepare_dataset.py folder our_photos data/ours --mask optic_disc="discs/{name}.png"

SOURCE is a folder or an archive; archives in it are unpacked. Nothing is downloaded. OUT appears when it is complete;
an interrupted run goes on with the same command. Takes about 10 ms for a photograph of 512 pixels, a second or two for
one of 4000. Afterwards: `python scripts/check_dataset.py OUT`.
"""

import argparse
import difflib
import re
import signal
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.records import SPLITS
from sam_med2d.dataset_conversion import splits
from sam_med2d.dataset_conversion.archives import unpacked
from sam_med2d.dataset_conversion.build import Built, Unfinished, build, refuse_output
from sam_med2d.dataset_conversion.convert_sample import Options
from sam_med2d.dataset_conversion.dataset_spec import DataSet, Offer
from sam_med2d.dataset_conversion.public import GENERIC, TABLE
from sam_med2d.dataset_conversion.samples import Choice, Sample
from sam_med2d.errors import DataError, UsageError, raise_problems
from sam_med2d.runtime.cli import add_bool, run_main
from sam_med2d.runtime.devices import cpu_workers
from sam_med2d.runtime.reproducibility import versions
from sam_med2d.visualization import tables
from segment_anything.utils.atomic import naming

DEFAULT_SPLIT = "70/10/20"
SHOWN = 5  # problems of a source that is not the data set


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of: {', '.join([*TABLE, *GENERIC])}")
    parser.add_argument("source", nargs="?", type=Path, metavar="SOURCE", help="folder or archive of the data set")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT", help="folder to make")
    add_bool(parser, "--list", default=False, help="print the table of the data sets and stop")
    add_bool(parser, "--overwrite", default=False, help="replace OUT if it is a prepared data set")
    add_bool(parser, "--leave_out", default=False, help="go on without files that are missing or cannot be used")
    parser.add_argument("--num_workers", type=int, help="processes; default: one for each core")
    _add_truth_flags(parser.add_argument_group("which truth"))
    _add_pixel_flags(parser.add_argument_group("pixels"))
    _add_split_flags(parser.add_argument_group("splits"))
    own = parser.add_argument_group("your own data")
    for flag, settings in {
        flag: keywords for form in GENERIC.values() for flag, keywords in form.flags.items()
    }.items():
        users = ", ".join(form.name for form in GENERIC.values() if flag in form.flags)
        own.add_argument(flag, **{**settings, "help": f"{users}: {settings['help']}"})
    return parser.parse_args(argv)


def _add_truth_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--observer", help="who drew the masks, where a data set has several (see --list)")
    group.add_argument("--threshold", type=float, help="share of experts (0 to 1) from which on a soft mask counts")


def _add_pixel_flags(group: argparse._ArgumentGroup) -> None:
    add_bool(group, "--fov_crop", default=False, help="cut photographs to the circular field of view")
    group.add_argument("--max_side", type=int, default=0, help="longer side in pixels; 0: as it is")
    add_bool(group, "--instances", default=False, help="each connected component becomes a mask of its own")
    group.add_argument("--min_area", type=int, default=1, help="leave out masks and components of fewer pixels")
    group.add_argument("--tile", type=int, default=0, help="cut into windows of this side, in pixels; 0: whole")
    group.add_argument("--overlap", type=int, default=0, help="pixels that neighbouring windows share")
    add_bool(group, "--keep_empty", default=False, help="keep windows without any mask")
    add_bool(group, "--link", default=False, help="link to photographs that need no change instead of copying them")


def _add_split_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--split", help=f"shares train/val/test; default: the official split, else {DEFAULT_SPLIT}")
    group.add_argument("--val", type=float, default=0, help="percentage of the official training part to validate on")
    group.add_argument("--by", choices=("patient", "image"), default="patient", help="what is never divided")
    group.add_argument("--seed", type=int, default=0, help="of the draw")


# --- what is asked for ----------------------------------------------------------------------------------------


def find_data_set(name: str) -> DataSet:
    """The data set of this name, whatever its case and punctuation. Raises UsageError with the nearest name."""
    every = {**TABLE, **GENERIC}
    plain = {re.sub(r"[^a-z0-9]", "", key): key for key in every}
    plain |= {re.sub(r"[^a-z0-9]", "", entry.title.lower()): key for key, entry in every.items()}
    wanted = re.sub(r"[^a-z0-9]", "", name.lower())
    if wanted in plain:
        return every[plain[wanted]]
    near = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.4)
    hint = f"; did you mean {plain[near[0]]}?" if near else ""
    raise UsageError(f"NAME: there is no data set {name!r}{hint} (all: {', '.join(every)})")


def check_args(args: argparse.Namespace) -> None:
    """Raise UsageError for flags that cannot work."""
    if None in (args.name, args.source, args.out):
        raise UsageError("give NAME, SOURCE and OUT, or --list")
    if not args.source.exists():
        raise UsageError(f"SOURCE: {args.source} does not exist")
    for flag, lowest in {"max_side": 0, "min_area": 1, "tile": 0, "overlap": 0}.items():
        if getattr(args, flag) < lowest:
            raise UsageError(f"--{flag} {getattr(args, flag)}: give at least {lowest}")
    if args.tile and not args.overlap < args.tile:
        raise UsageError(f"--overlap {args.overlap}: give less than --tile {args.tile}")
    if not args.tile and (args.overlap or args.keep_empty):
        raise UsageError("--overlap and --keep_empty belong to --tile: give a size")
    if not 0 <= args.val < 100:
        raise UsageError(f"--val {args.val}: give a percentage from 0 to below 100")
    if args.threshold is not None and not 0 < args.threshold <= 1:
        raise UsageError(f"--threshold {args.threshold}: give a share above 0, up to 1")


def choice_of(args: argparse.Namespace, data_set: DataSet) -> Choice:
    """What the flags choose of a data set. Raises UsageError for flags that it has no use for."""
    observer = args.observer or next(iter(data_set.observers), "")
    if args.observer and args.observer not in data_set.observers:
        known = ", ".join(data_set.observers) or "none: leave the flag out"
        raise UsageError(f"--observer {args.observer}: {data_set.title} has {known}")
    if args.threshold is not None and data_set.threshold is None:
        raise UsageError(f"--threshold: the masks of {data_set.title} are not soft; leave it out")
    every = {flag: _attribute(flag) for form in GENERIC.values() for flag in form.flags}
    for flag in every.keys() - data_set.flags.keys():
        if getattr(args, every[flag]) is not None:
            raise UsageError(f"{flag} is of no use for {data_set.name}: leave it out")
    own = {every[flag] for flag in data_set.flags}
    options = {name: getattr(args, name) for name in sorted(own)} | {"instances": args.instances}
    return Choice(observer, data_set.threshold if args.threshold is None else args.threshold, options)


def _attribute(flag: str) -> str:
    return flag.lstrip("-")


# --- the samples ----------------------------------------------------------------------------------------------


def offer_of(data_set: DataSet, tree: Tree, choice: Choice, *, leave_out: bool) -> Offer:
    """What a source offers. Raises DataError for another data set, and for missing files unless leave_out."""
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
    """A split for each sample, and how it came about in words."""
    drawn = f"by {args.by}, seed {args.seed}"
    official = [sample.split for sample in samples]
    if args.split or not any(official):
        if args.val:
            raise UsageError("--val belongs to an official split: here give the share in --split")
        shares = args.split or DEFAULT_SPLIT
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


def prepare(args: argparse.Namespace) -> int:
    if args.list:
        print(listing())
        return 0
    check_args(args)
    data_set = find_data_set(args.name)
    choice = choice_of(args, data_set)
    refuse_output(args.out, args.source, overwrite=args.overwrite)
    unfinished = Unfinished(args.out)
    try:
        tree = unpacked(args.source, unfinished.scratch)
        if args.link and any(folder.is_relative_to(unfinished.scratch) for folder in tree.folders):
            raise UsageError("--link: photographs in archives cannot be linked to; unpack them first, or leave it out")
        offer = offer_of(data_set, tree, choice, leave_out=args.leave_out)
        placed, how = split_samples(offer.samples, args)
        options = Options(**{name: getattr(args, name) for name in Options.__dataclass_fields__})
        if data_set.has_instances:
            options = replace(options, instances=False)
        about = describe(data_set, choice, how, args.seed)
        workers = cpu_workers(args.num_workers)
        with naming(unfinished.folder):
            built = build(
                offer.samples,
                placed,
                options,
                unfinished,
                about=about,
                workers=max(1, workers),
                leave_out=args.leave_out,
            )
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on. What is done lies in {unfinished.folder}", file=sys.stderr)
        return 130
    except (DataError, UsageError):
        unfinished.drop_if_nothing_is_done()
        raise
    print(summary(data_set, built, how, offer, args.out))
    return 0


def describe(data_set: DataSet, choice: Choice, how: str, seed: int) -> dict[str, Any]:
    """What the record says of where the data come from."""
    chosen = {"observer": choice.observer, "threshold": choice.threshold, **choice.options}
    about = {key: getattr(data_set, key) for key in ("name", "title", "citation", "terms", "where")}
    return {**about, "chosen": chosen, "split": how, "seed": seed, "versions": versions()}


# --- what is printed ------------------------------------------------------------------------------------------


def listing() -> str:
    """The table of the data sets, and the details of each."""
    lines = [[d.name, d.title, ", ".join(d.structures), _counts(d.counts)] for d in TABLE.values()]
    parts = [tables.table(["NAME", "data set", "structures", "photographs"], lines)]
    for d in TABLE.values():
        facts = [f"cite: {d.citation}", f"terms: {d.terms}", f"from: {d.where}"]
        facts += [f"--observer: {', '.join(d.observers)} (default {d.observers[0]})"] if d.observers else []
        facts += [f"--threshold: {d.threshold} by default"] if d.threshold is not None else []
        parts.append("\n".join([f"{d.name}: {d.title}", *(f"  {fact}" for fact in facts), *_indented(d.layout)]))
    own = [[d.name, d.title] for d in GENERIC.values()]
    return "\n\n".join([*parts, tables.table(["NAME", "your own data"], own), *map(_generic, GENERIC.values())])


def _generic(data_set: DataSet) -> str:
    return "\n".join([f"{data_set.name}: {data_set.title}", *_indented(data_set.layout)])


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}".strip() for split, count in counts.items())


def summary(data_set: DataSet, built: Built, how: str, offer: Offer, out: Path) -> str:
    """What was made, what is missing, and what to do next."""
    found = {split: built.photographs[split] for split in SPLITS if built.photographs[split]}
    lines = [f"{data_set.title}: {_counts(found)} photographs, split {how}"]
    table = [
        [s, str(built.masks[s]), *(str(c[s] or "-") for c in (built.empty, built.lost, built.merged))]
        for s in sorted({*built.masks, *built.empty, *built.lost})
    ]
    lines.append(tables.table(["structure", "masks", "empty in the source", "vanished", "parts merged"], table))
    expected = sum(data_set.counts.values())
    if expected and sum(found.values()) != expected:
        lines.append(f"note: the whole data set has {_counts(data_set.counts)} photographs")
    lines += [f"note: {note}" for note in offer.notes]
    left_out = [*offer.problems, *built.left_out]
    lines += [f"left out: {problem}" for problem in left_out[:20]]
    lines += [f"left out: {len(left_out) - 20} more, see {out}/prepared.json"] if len(left_out) > 20 else []
    lines += [f"terms: {data_set.terms}"] if data_set.terms else []
    return "\n".join([*lines, f"made {out}; next: python scripts/check_dataset.py {out}"])


def _end_like_ctrl_c(*_: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, _end_like_ctrl_c)
    return run_main(prepare, args)


if __name__ == "__main__":
    sys.exit(main())
