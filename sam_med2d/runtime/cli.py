"""Command lines: flags that mean what they say, errors as one line and exit code 2, logging."""

import argparse
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from sam_med2d.errors import DataError, UsageError
from segment_anything.checkpoint import CheckpointError


def parse_bool(text: str) -> bool:
    """ "True", "False", "1", "0", "yes", "no", "on", "off" in any case; anything else is a usage error."""
    value = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in value:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return value[text.lower()]


def add_bool(group: argparse._ArgumentGroup, flag: str, *, default: bool | None, help: str) -> None:
    """A flag that means what it says: `--flag`, `--flag True` or `--flag False`."""
    group.add_argument(flag, type=parse_bool, nargs="?", const=True, default=default, metavar="BOOL", help=help)


def add_complete(group: argparse._ArgumentGroup) -> None:
    """The flag --complete, as a dictionary for `maps.complete`."""
    group.add_argument(
        "--complete",
        type=parse_complete,
        action=Merge,
        nargs="+",
        default={},
        metavar="DATA_SET=STRUCTURE,...",
        help="data sets in which a structure without a mask is not there (others: was not annotated)",
    )


def parse_complete(text: str) -> dict[str, list[str]]:
    """ "idrid=haemorrhage,hard_exudate" -> {"idrid": ["haemorrhage", "hard_exudate"]}."""
    data_set, separator, names = text.partition("=")
    if not (data_set and separator and all(names.split(","))):
        raise argparse.ArgumentTypeError(f"{text!r}: write a data set, =, and its structures with commas between")
    return {data_set: names.split(",")}


class Merge(argparse.Action):
    """Joins the dictionaries of lists of a flag's values, also of a flag that is given twice."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        joined = {key: list(names) for key, names in (getattr(namespace, self.dest) or {}).items()}
        for key, names in (item for value in values for item in value.items()):
            joined[key] = list(dict.fromkeys((*joined.get(key, ()), *names)))
        setattr(namespace, self.dest, joined)


def parse_with_given(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, and keep in `args.given` the names of the flags that were written out."""
    args = parser.parse_args(argv)
    parser.set_defaults(**dict.fromkeys(vars(args)))
    args.given = {name for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    return args


def run_main(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a script; what a user can mend ends as one message on standard error and exit code 2."""
    try:
        return main(args)
    except (UsageError, DataError, CheckpointError, OSError) as error:
        print(f"error: {_told_by_loader(str(error)).strip()}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not (told := _cure(error)):
            raise
        print(f"error: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _told_by_loader(message: str) -> str:
    """An error's message without the traceback that a loader process puts before it."""
    return re.split(r"(?m)^[\w.]*Error: ", message)[-1] if message.startswith("Caught ") else message


def _cure(error: RuntimeError) -> str:
    """What to do about an error of PyTorch that a user can mend; empty for others."""
    reason = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in reason:
        cure = "lower --batch_size or --image_size, or train with --grad_checkpointing"
        return f"the device's memory is full ({reason}): {cure}"
    if reason.startswith("DataLoader worker"):
        cure = "free memory (in a container, of /dev/shm too) or give --num_workers 0, and go on with --resume"
        return f"a process that reads photographs has ended ({reason}): {cure}"
    return ""


def setup_logging(file: Path | None = None, *, level: int = logging.INFO) -> None:
    """Log messages from `level` on to standard output and, if given, to the end of `file`."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if file:
        handlers.append(logging.FileHandler(file))
    logging.basicConfig(level=level, format="%(message)s", handlers=handlers, force=True)
