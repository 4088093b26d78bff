"""What a few annotated photographs of a new camera give: adaptations of weights that never saw its data set."""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.sides import ROOT
from benchmarks.structure_scores import structure_scores
from sam_med2d.data.records import Record, load_folders
from sam_med2d.errors import UsageError
from sam_med2d.runtime.devices import drop_slow_amp
from segment_anything.build_sam import build_sam
from segment_anything.checkpoint import read_checkpoint
from segment_anything.modeling import Sam

Scores = dict[str, float]


def add_adaptation_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of "adaptation"."""
    parser.add_argument("--data_path", nargs="+", required=True, help="folders with maps of train, val and test")
    parser.add_argument("--data_set", required=True, help="the one that --start has not seen, as in index.csv")
    parser.add_argument("--start", type=Path, required=True, help="weights that were trained without it")
    parser.add_argument("--goal", type=Path, help="weights that were trained with it: the gap that is to be closed")
    parser.add_argument("--photographs", type=int, nargs="+", default=[3, 10, 30], help="photographs to adapt with")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the photographs, each a training")
    parser.add_argument("--train_flags", default="", help="further flags of train.py, in one word")
    parser.add_argument("--use_amp", action="store_true", help=argparse.SUPPRESS)


def adaptation(args: argparse.Namespace) -> dict[str, object]:
    """Adapt weights to a data set that they have not seen, with few of its photographs, and score its test photographs.

    Returns:
        {"start": {structure: Dice}, "goal": the same, "3": [the same of each seed], ...}; "others": the same of the
        start and of the last adaptation on the test photographs of the other data sets, where there are such.
    """
    drop_slow_amp(args, torch.device("cpu"))
    train, test = (load_folders(args.data_path, split) for split in ("train", "test"))
    own = [record for record in train if record.data_set == args.data_set and record.masks]
    tested = [record for record in test if record.data_set == args.data_set]
    others = [record for record in test if record.data_set != args.data_set]
    if not own or not tested:
        raise UsageError(f"--data_set {args.data_set}: it has {len(own)} training and {len(tested)} test photographs.")
    found: dict[str, object] = {"start": _scores(args.start, tested, args.threads)}
    if args.goal:
        found["goal"] = _scores(args.goal, tested, args.threads)
    _show("start", found["start"])
    kept = [_scores(args.start, others, args.threads)] if others else []
    with tempfile.TemporaryDirectory() as folder:
        for count in args.photographs:
            runs = [_adapted(args, own, count, seed, Path(folder)) for seed in range(args.seeds)]
            found[str(count)] = [_scores(run, tested, args.threads) for run in runs]
            for scores in found[str(count)]:
                _show(f"{count} photographs", scores)
        kept += [_scores(runs[-1], others, args.threads)] if others else []
    return found | {"others": kept}


def _adapted(args: argparse.Namespace, records: Sequence[Record], count: int, seed: int, folder: Path) -> Path:
    """Adapt with `count` photographs, drawn by the seed: the folder of the weights."""
    chosen = np.random.default_rng(seed).permutation(len(records))[:count]
    name = f"{count}-{seed}"
    data = folder / "data" / name
    data.mkdir(parents=True)
    pairs = {str(records[i].image.resolve()): [str(mask.path.resolve()) for mask in records[i].masks] for i in chosen}
    (data / "image2label_train.json").write_text(json.dumps(pairs))
    words = ["--recipe", "adapt", "--sam_checkpoint", str(args.start), "--data_path", str(data), "--seed", str(seed)]
    words += ["--work_dir", str(folder), "--run_name", name, *shlex.split(args.train_flags)]
    done = subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"train.py {shlex.join(words)} ended with {done.returncode}: {done.stderr.splitlines()[-1:]}")
    return folder / "models" / name / "best"


def _scores(weights: Path, records: Sequence[Record], workers: int) -> Scores:
    """{structure: Dice} of weights by structure prompts."""
    source = read_checkpoint(weights)
    model: Sam = build_sam(source.metadata["model_type"], checkpoint=source)
    return structure_scores(model.eval(), records, workers)


def _show(title: str, scores: Scores) -> None:
    print(title, "  ".join(f"{name} {100 * value:.1f}" for name, value in scores.items()), flush=True)
