"""Every command: its command line is parsed without PyTorch, and Ctrl-C while it imports ends it with one line."""

import ast
import subprocess
import sys

import segment_anything
from sam_med2d.choices import LOSSES, METRICS, PROMPT_FRAMES
from sam_med2d.evaluation.cup_to_disc import VCDR
from sam_med2d.evaluation.metrics import SCORES
from sam_med2d.inference.prompt_sources import MODEL, PHOTOGRAPH
from sam_med2d.runtime import cli
from sam_med2d.training.losses import PIXEL_WEIGHTS
from tests.helpers.paths import ROOT

SCRIPTS = sorted(f"scripts/{path.name}" for path in (ROOT / "scripts").glob("*.py"))
COMMANDS = ["train.py", "test.py", "app/server.py", *SCRIPTS]
# prints the heavy modules that each command's --help imports
HELP = """
import contextlib, io, runpy, sys
heavy = {"torch", "torchvision", "albumentations", "scipy", "skimage", "matplotlib", "onnx", "onnxruntime"}
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name="__main__")
    assert "usage:" in text.getvalue(), path
    print(path, *sorted(heavy & sys.modules.keys()))
"""


def test_no_command_needs_pytorch_for_its_help():
    done = subprocess.run([sys.executable, "-c", HELP, *COMMANDS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == COMMANDS


def test_commands_only_parse_and_call():
    for path in COMMANDS:
        nodes = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
        names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        other = {name for name in names - {"parse_args", "check_args", "main"} if not name.startswith("_add_")}
        assert {"parse_args", "main"} <= names and not other, path


def test_the_model_package_is_imported_without_pytorch():
    code = "import sys, segment_anything.build_sam; from segment_anything import build_sam, sam_model_registry; "
    code += "assert callable(segment_anything.build_sam) and callable(build_sam) and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for name in segment_anything.__all__:
        assert getattr(segment_anything, name)
    assert not hasattr(segment_anything, "SamSomething")


def test_the_words_of_flags_are_those_of_the_code():
    assert (*SCORES, VCDR) == METRICS
    assert tuple(PIXEL_WEIGHTS) == LOSSES
    assert PROMPT_FRAMES == (MODEL, PHOTOGRAPH)


def test_ctrl_c_while_a_command_imports_ends_it_with_one_line(tmp_path):
    """A module in PyTorch's place is interrupted as soon as it is imported."""
    lines = "import signal", "signal.signal(signal.SIGINT, signal.default_int_handler)", "signal.raise_signal(2)"
    (tmp_path / "torch.py").write_text("\n".join(lines))
    for words in ("train.py --train_encoder full", "test.py", "scripts/predict.py a.jpg --point 1 2"):
        code = f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = {words.split()!r}; "
        code += "runpy.run_path(sys.argv[0], run_name='__main__')"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (130, "interrupted\n"), words


def test_help_says_a_default_once():
    parser = cli.make_parser("What it does.\n\n    as it is written")
    parser.add_argument("--number", type=int, default=0, help="a number")
    parser.add_argument("--words", nargs="+", default=["a", "b"], help="some words")
    parser.add_argument("--told", default="x", help="default: x, or the other")
    parser.add_argument("--none", help="nothing")
    cli.add_bool(parser, "--switch", default=False, help="a switch")
    text = parser.format_help()
    assert "\n    as it is written" in text and text.count("default") == 3
    assert "a number (default: 0)" in text and "some words (default: a b)" in text


def test_a_command_whose_output_nobody_reads_ends_without_a_word():
    """As `... --list | head -1` may; what was read stays, no traceback follows."""
    for command in ("scripts/download_checkpoint.py", "scripts/prepare_dataset.py"):
        reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
        reader.wait()
        done = subprocess.run(
            [sys.executable, command, "--list"], cwd=ROOT, stdout=reader.stdin, stderr=subprocess.PIPE, text=True
        )
        assert (done.returncode, done.stderr) == (141, ""), command
