"""Command lines: flags that mean what they say, errors as one line and exit code 2, logging.

Nothing here imports PyTorch, so that a command line is parsed, or its help printed, at once.
"""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sam_med2d.errors import DataError, UsageError
from sam_med2d.notes import REMARKS
from segment_anything.errors import CheckpointError

os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # read as PyTorch is imported: Apple's GPUs lack operations
BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


# --- flags ----------------------------------------------------------------------------------------------------


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and the defaults of flags whose help does not speak of them."""

    def _get_help_string(self, action: argparse.Action) -> str:
        default, text = action.default, action.help or ""
        if "default" in text or default is False or default in (None, argparse.SUPPRESS, [], {}):
            return text
        words = default if isinstance(default, list) else [default]
        return f"{text} (default: {' '.join(map(str, words))})"


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of a command line, without flags; `description` is the docstring of the command's file."""
    return argparse.ArgumentParser(description=description, formatter_class=_HelpFormatter)


def add_device(group: argparse._ActionsContainer) -> None:
    """Add the flag --device, which `devices.resolve_device` reads."""
    group.add_argument(
        "--device", help="where PyTorch computes: cpu, cuda, cuda:0, mps, ...; default: the best one present"
    )


def _parse_bool(text: str) -> bool:
    """The value of a word such as "True", "no" or "1", in any case; ArgumentTypeError for others."""
    if text.lower() not in BOOLEANS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return BOOLEANS[text.lower()]


def add_bool(group: argparse._ActionsContainer, *flags: str, default: bool | None, help: str) -> None:
    """Add a flag that means what it says: `--flag`, `--flag True` or `--flag False`."""
    group.add_argument(*flags, type=_parse_bool, nargs="?", const=True, default=default, metavar="BOOL", help=help)


def both_spellings(*flags: str) -> list[str]:
    """The flags as given and with hyphens; the first one, with underscores, gives the value its name."""
    return list(dict.fromkeys([*flags, *(f"--{flag[2:].replace('_', '-')}" for flag in flags)]))


def add_complete(group: argparse._ActionsContainer) -> None:
    """Add the flag --complete; its value is the dictionary that `records.complete` takes."""
    group.add_argument(
        "--complete",
        type=_parse_complete,
        action=_MergeLists,
        nargs="+",
        default={},
        metavar="DATA_SET=STRUCTURE,...",
        help="data sets in which a structure without a mask is not there (others: was not annotated)",
    )


def _parse_complete(text: str) -> dict[str, list[str]]:
    """ "idrid=haemorrhage,hard_exudate" -> {"idrid": ["haemorrhage", "hard_exudate"]}; else ArgumentTypeError."""
    data_set, separator, names = text.partition("=")
    if not (data_set and separator and all(names.split(","))):
        raise argparse.ArgumentTypeError(f"{text!r}: write a data set, =, and its structures with commas between")
    return {data_set: names.split(",")}


class _MergeLists(argparse.Action):
    """Merges a flag's dictionaries of lists, those of one key without repetition, also when the flag is given twice."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        merged = {key: list(names) for key, names in (getattr(namespace, self.dest) or {}).items()}
        for key, names in (item for value in values for item in value.items()):
            merged[key] = list(dict.fromkeys((*merged.get(key, ()), *names)))
        setattr(namespace, self.dest, merged)


def parse_and_note_given(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line, and note which flags were written out.

    Args:
        parser: its defaults are lost.
        argv: the words; None for those of this process.

    Returns:
        The flags' values, and in `given` the set of the names of those that were written out.
    """
    args = parser.parse_args(argv)
    parser.set_defaults(**dict.fromkeys(vars(args)))
    args.given = {name for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    return args


# --- running --------------------------------------------------------------------------------------------------


def run_main(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run a command.

    Args:
        main: the command; its heavy imports belong inside, where Ctrl-C is caught.
        args: what it is given.

    Returns:
        Its exit code; 2 after one message on standard error about what a user can mend, 130 after Ctrl-C, and 141
        where what reads the standard output, such as `head`, has ended.
    """
    REMARKS.forget()
    try:
        code = main(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # nothing more can be written there, not even as Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UsageError, DataError, CheckpointError, OSError) as error:
        print(f"error: {_without_traceback(str(error)).strip()}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not (advice := _advice_on(error)):
            raise
        print(f"error: {advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _without_traceback(message: str) -> str:
    """An error's message without the traceback that a loader process of PyTorch puts before it."""
    return re.split(r"(?m)^[\w.]*Error: ", message)[-1] if message.startswith("Caught ") else message


def _advice_on(error: RuntimeError) -> str:
    """What to do about an error of PyTorch that a user can mend; empty for others."""
    reason = str(error).splitlines()[0] if str(error) else ""
    if type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in reason:
        advice = "lower --batch_size or --image_size, or train with --grad_checkpointing"
        return f"the device's memory is full ({reason}): {advice}"
    if reason.startswith("DataLoader worker"):
        advice = "free memory (in a container, of /dev/shm too) or give --num_workers 0, and go on with --resume"
        return f"a process that reads photographs has ended ({reason}): {advice}"
    return ""


def setup_logging(file: Path | None = None, *, level: int = logging.INFO) -> None:
    """Log to standard output.

    Args:
        file: log to the end of this file, too.
        level: the lowest level that is logged.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if file:
        handlers.append(logging.FileHandler(file))
    logging.basicConfig(level=level, format="%(message)s", handlers=handlers, force=True)
