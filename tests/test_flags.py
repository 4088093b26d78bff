"""The command lines of train.py and test.py: defaults, boolean flags that mean what they say, prompt modes."""

import itertools
import shlex
from argparse import Namespace
from pathlib import Path

import pytest

import train
from sam_med2d.errors import UsageError
from sam_med2d.evaluation.batch_prediction import Mode
from sam_med2d.evaluation.command import select_modes
from sam_med2d.runtime.distributed import Processes
from sam_med2d.runtime.model_flags import SHIPPED_WEIGHTS
from sam_med2d.runtime.run_folder import resume_command
from sam_med2d.training.recipes import ADAPT, apply_recipe
from tests.helpers.cases import check_all
from tests.helpers.training_runs import load_test_script

test_script = load_test_script()
SCRIPTS = {"train": train, "test": test_script}
BOOLEANS = {
    "train": [
        "multimask",
        "encoder_adapter",
        "use_amp",
        "keep_start",
        "grad_checkpointing",
        "compile",
        "save_pth",
        "tensorboard",
    ],
    "test": ["multimask", "encoder_adapter", "boxes_prompt", "save_pred", "use_amp"],
}
FLAGS = [(script, flag) for script, flags in BOOLEANS.items() for flag in flags]
BOX = Mode("box", "box")


def clicks(count: int) -> Mode:
    return Mode(str(count), "points", clicks=count)


# --- booleans -----------------------------------------------------------------------------------------------------


def test_a_boolean_flag_means_what_it_says():
    words = [(word, True) for word in ("", "True", "true", "TRUE", "1", "yes", "on")]
    words += [(word, False) for word in ("False", "false", "FALSE", "0", "no", "off")]

    def check(script: str, flag: str, word: str, value: bool) -> None:
        assert getattr(SCRIPTS[script].parse_args([f"--{flag}", *word.split()]), flag) is value

    check_all(check, [(*flag, *word) for flag, word in itertools.product(FLAGS, words)])


def test_another_word_is_a_usage_error(capsys):
    def check(script: str, flag: str, word: str) -> None:
        with pytest.raises(SystemExit) as stop:
            SCRIPTS[script].parse_args([f"--{flag}", word])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert f"--{flag}" in error and repr(word) in error and "neither True nor False" in error

    check_all(check, [(*flag, word) for flag, word in itertools.product(FLAGS, ["maybe", "", "2", "none"])])


def test_a_bare_flag_does_not_swallow_the_next_one():
    def check(script: str, flag: str) -> None:
        args = SCRIPTS[script].parse_args([f"--{flag}", "--batch_size", "7"])
        assert getattr(args, flag) is True and args.batch_size == 7

    check_all(check, FLAGS)


# --- defaults -----------------------------------------------------------------------------------------------------


def test_defaults_of_train():
    expected = {
        "work_dir": "workdir",
        "run_name": "sam-med2d",
        "epochs": 15,
        "batch_size": 2,
        "image_size": 256,
        "mask_num": 5,
        "train_share": 1.0,
        "data_path": "data_demo",
        "metrics": ["iou", "dice"],
        "device": None,
        "lr": 1e-4,
        "resume": None,
        "model_type": "vit_b",
        "sam_checkpoint": None,
        "iter_point": 8,
        "point_list": [1, 3, 5, 9],
        "multimask": True,
        "encoder_adapter": True,
        "use_amp": False,
        "lr_scheduler": "cosine",
        "accumulate": 1,
        "balance": "none",
        "grad_checkpointing": False,
        "compile": False,
        "save_pth": False,
        "tensorboard": False,
    }
    args = train.parse_args([])
    assert {flag: getattr(args, flag) for flag in expected} == expected


def test_without_a_checkpoint_the_shipped_weights_are_adapted():
    args = train.parse_args(["--epochs", "15"])
    apply_recipe(args)
    assert (args.recipe, args.sam_checkpoint, args.epochs) == ("adapt", str(SHIPPED_WEIGHTS), 15)
    assert args.batch_size == ADAPT["batch_size"] and args.keep_start and args.model_type is None


@pytest.mark.parametrize(("words", "checkpoint"), [("none", None), ("w.pth", "w.pth")])
def test_with_a_checkpoint_the_defaults_are_those_of_sam_med2d(words, checkpoint):
    args = train.parse_args(["--sam_checkpoint", words])
    before = dict(vars(args))
    apply_recipe(args)
    assert vars(args) == before | {"sam_checkpoint": checkpoint, "recipe": "sam_med2d"}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--model_type vit_b", ["--model_type vit_b", "vit_t", "--sam_checkpoint none"]),
        ("--recipe adapt --sam_checkpoint none", ["--recipe adapt", "--sam_checkpoint"]),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(words, parts):
    with pytest.raises(UsageError) as error:
        apply_recipe(train.parse_args(words.split()))
    assert all(part in str(error.value) for part in parts)


def test_defaults_of_test():
    expected = {
        "work_dir": "workdir",
        "run_name": "sammed",
        "batch_size": 1,
        "device": None,
        "data_path": "data_demo",
        "metrics": ["iou", "dice"],
        "image_size": 256,
        "model_type": "vit_b",
        "sam_checkpoint": str(SHIPPED_WEIGHTS),
        "boxes_prompt": True,
        "point_num": 1,
        "iter_point": 1,
        "encoder_adapter": True,
        "multimask": True,
        "prompt_path": None,
        "save_pred": False,
        "use_amp": False,
    }
    args = test_script.parse_args([])
    assert {flag: getattr(args, flag) for flag in expected} == expected


def test_lists_and_numbers_are_parsed():
    lists, numbers = ["--point_list", "2", "4", "--metrics", "dice"], ["--lr", "3e-5"]
    args = train.parse_args([*lists, *numbers, "--resume", "run/last", "--lr_scheduler", "none"])
    assert (args.point_list, args.metrics, args.lr) == ([2, 4], ["dice"], 3e-5)
    assert (args.resume, args.lr_scheduler) == (Path("run/last"), "none")


def test_unusable_words_name_their_flag(capsys):
    def check(script: str, argv: list[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            SCRIPTS[script].parse_args(argv)
        assert stop.value.code == 2 and argv[0] in capsys.readouterr().err

    cases = [
        ("train", ["--model_type", "vit_x"]),
        ("train", ["--epochs", "many"]),
        ("train", ["--point_list"]),
        ("train", ["--no_such_flag"]),
        ("train", ["--update", "round"]),
        ("train", ["--teach", "best"]),
        ("train", ["--balance", "size"]),
        ("test", ["--model_type", "vit_x"]),
        ("test", ["--preprocess", "sepia"]),
        ("test", ["--channel_order", "grb"]),
    ]
    check_all(check, cases)


def checked(argv: str) -> Namespace:
    args = train.parse_args(["--train_encoder", "full", *argv.split()])
    train.check_args(args)
    return args


def test_train_refuses_values_that_cannot_work():
    def check(argv: str) -> None:
        flag, *values = argv.split()
        with pytest.raises(UsageError, match=f"{flag}.*{values[-1]}"):
            checked(argv)

    cases = [
        "--mask_num 0",
        "--train_share 0",
        "--train_share 1.01",
        "--train_share nan",
        "--iter_point -1",
        "--epochs 0",
        "--batch_size 0",
        "--val_every 0",
        "--warmup_steps -1",
        "--patience -1",
        "--save_every -1",
        "--keep -1",
        "--ema 1",
        "--ema nan",
        "--point_list 1 0",
        "--lr 0",
        "--lr nan",
        "--metrics iou",
        "--metrics dice hausdorff",
        "--accumulate 0",
    ]
    check_all(check, [(argv,) for argv in cases])


def test_train_accepts_the_lowest_values():
    check_all(
        checked, [(argv,) for argv in ("", "--iter_point 0", "--warmup_steps 0", "--metrics dice", "--mask_num 1")]
    )


# --- prompt modes of test.py --------------------------------------------------------------------------------------


def test_modes_are_those_of_the_flags():
    expected = [
        ("", [BOX, clicks(1), clicks(3), clicks(5)]),
        ("--prompts box", [BOX]),
        ("--prompts 2 box 7", [clicks(2), BOX, clicks(7)]),
        ("--prompts 1 1 box 1", [clicks(1), BOX]),
        ("--boxes_prompt", [BOX]),
        ("--boxes_prompt True", [BOX]),
        ("--boxes_prompt True --iter_point 8", [BOX]),
        ("--boxes_prompt False", [clicks(1)]),
        ("--boxes_prompt False --iter_point 8", [clicks(8)]),
        ("--boxes_prompt False --point_num 3", [Mode("3", "points", clicks=1)]),
        ("--iter_point 8", [BOX]),
    ]
    found = [(argv, select_modes(test_script.parse_args(argv.split()))) for argv, _ in expected]
    assert found == expected


def test_contradictions_and_unknown_prompts_are_named():
    def check(argv: str, message: str) -> None:
        args = test_script.parse_args(argv.split())
        with pytest.raises(UsageError, match=message):
            test_script.check_args(args)
            select_modes(args)

    cases = [
        ("--prompts box --boxes_prompt True", "--prompts cannot be combined with --boxes_prompt"),
        ("--prompts 1 --iter_point 3", "cannot be combined"),
        ("--prompts 1 --point_num 3", "cannot be combined"),
        ("--prompts circle", "--prompts: prompt 'circle' is unknown"),
        ("--prompts box 0", "'0' is unknown"),
        ("--prompts 1.5", "'1.5' is unknown"),
        ("--prompts 101", "'101' is unknown: use box, structure, or a number of points from 1 to 100"),
        ("--boxes_prompt False --iter_point 0", "--iter_point 0: give 1 or more"),
        ("--boxes_prompt False --point_num 0", "--point_num 0: give 1 or more"),
        ("--boxes_prompt False --point_num -2", "--point_num -2: give 1 or more"),
    ]
    check_all(check, cases)


def test_the_default_flags_of_sam_med2d_are_announced(caplog):
    """--iter_point alone tests the box, as it always did: the user is told."""
    with caplog.at_level("INFO", logger="test"):
        select_modes(test_script.parse_args(["--iter_point", "8"]))
    assert "--boxes_prompt False" in caplog.text


@pytest.mark.parametrize(
    "argv",
    [
        "--structures --complete idrid=haemorrhage,hard_exudate other=vessel --point_list 1 3 --use_amp",
        "--structures vessel optic_disc --data_path a 'b c' --ema 0.995 --detail none",
        "--sam_checkpoint none --epochs 10 --augment strong",
        "--sam_checkpoint w.safetensors --epochs 15",
        "--sam_checkpoint w.safetensors --recipe adapt --model_type vit_b",
    ],
)
def test_the_command_that_goes_on_means_the_same_training(argv):
    args = train.parse_args(shlex.split(argv))
    apply_recipe(args)
    command = resume_command("train.py", args, train.parse_args([]), Processes(), "run/last")
    again = train.parse_args(shlex.split(command)[2:])
    apply_recipe(again)
    assert vars(again) == vars(args) | {"resume": Path("run/last"), "given": again.given}


@pytest.mark.parametrize("words", ["--complete a=x b=y a=z", "--complete a=x --complete b=y a=z,x"])
def test_complete_joins_what_is_said_of_a_data_set(words):
    assert train.parse_args(words.split()).complete == {"a": ["x", "z"], "b": ["y"]}
    assert train.parse_args([]).complete == {}


@pytest.mark.parametrize("argv", ["--boxes_prompt True --image_size 256", "--prompts structure 3 --complete a=b,c"])
def test_the_command_that_goes_on_means_the_same_test(argv):
    """Flags that were given with their default values count, too: they choose a single mode, or override a file."""
    script = load_test_script()
    args = script.parse_args(argv.split())
    command = resume_command("test.py", args, script.parse_args([]), Processes(), "True")
    again = script.parse_args(shlex.split(command)[2:])
    assert vars(again) == vars(args) | {"resume": True, "given": args.given | {"resume"}}
