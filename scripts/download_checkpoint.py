"""Download a public checkpoint; resumed where it was interrupted, under its name only when its hash is right.

    python scripts/download_checkpoint.py --list
    python scripts/download_checkpoint.py sam_vit_b --out pretrain_model
    python scripts/download_checkpoint.py sam-med2d_b --hub
    python scripts/download_checkpoint.py https://example.org/weights.safetensors --sha256 <64 digits>

Takes as long as the network needs for 0.4 GB (vit_b) to 2.6 GB (vit_h). Where no hash is known, the file's own is
printed: write it down, and give it with --sha256 the next time. Exit code 2 where the file cannot be had.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.runtime.download import SOURCES, DownloadError, Source, download, from_hub


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help=f"{', '.join(SOURCES)}, or an address (https://...)")
    parser.add_argument("--out", type=Path, default=Path("pretrain_model"), help="folder (default: pretrain_model)")
    parser.add_argument("--sha256", help="hash that the file must have, where the table has none")
    parser.add_argument("--hub", action="store_true", help="use the package huggingface_hub")
    parser.add_argument("--list", action="store_true", help="print the known files and end")
    return parser.parse_args(argv)


def source_of(args: argparse.Namespace) -> Source:
    """The file that is asked for. Raises DownloadError."""
    if args.sha256 and not re.fullmatch("[0-9a-fA-F]{64}", args.sha256):
        raise DownloadError(f"--sha256 {args.sha256}: give 64 hexadecimal digits.")
    if args.name in SOURCES:
        source = SOURCES[args.name]
    elif args.name and re.match("https?://", args.name):
        if not re.fullmatch("[!-~]+", args.name):
            raise DownloadError(f"{args.name}: an address has no space and no letters like ä: write %20, %C3%A4.")
        file = args.name.partition("?")[0].rstrip("/").rpartition("/")[2]
        source = Source(file, args.name, note="an address of your own")
    else:
        raise DownloadError(f"{args.name or 'NAME'}: give one of {', '.join(SOURCES)}, or an address (https://...).")
    wanted = args.sha256.lower() if args.sha256 else source.sha256
    if source.sha256 not in (None, wanted):
        raise DownloadError(f"--sha256 {wanted}: the known one of {source.file} is {source.sha256}.")
    return replace(source, sha256=wanted)


def table() -> str:
    """The known files, a few lines each."""
    lines = []
    for name, source in SOURCES.items():
        lines += [name, f"  {source.url}", f"  {source.size or 'unknown'} bytes, sha256 {source.sha256 or 'unknown'}"]
        lines.append(f"  {source.note}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 after one message about what went wrong, 130 when interrupted."""
    args = parse_args(argv)
    if args.list:
        print(table())
        return 0
    try:
        source = source_of(args)
        path, found = (from_hub if args.hub else download)(source, args.out)
    except DownloadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what came so far is kept: the same command goes on", file=sys.stderr)
        return 130
    state = "as expected" if source.sha256 else "not known before: write it down and give it with --sha256 next time"
    print(f"{path}: {path.stat().st_size} bytes\nsha256 {found} ({state})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
