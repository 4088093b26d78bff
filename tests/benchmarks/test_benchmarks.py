"""What the benchmark compares with: the same model, loss and schedule in training, the same work in evaluation."""

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch

from benchmarks import reference_training as oracle
from benchmarks.__main__ import main
from benchmarks.evaluation import COLUMNS, EncodedSam, evaluation_data, our_table, published_table
from benchmarks.predict import make_photographs
from benchmarks.sides import OTHER, part_worker, same_command
from sam_med2d.data.image_io import size_of
from sam_med2d.runtime.model_flags import SHIPPED_WEIGHTS
from sam_med2d.training.step import select_trainable
from segment_anything.modeling import Sam
from segment_anything.modeling.efficientnet import EfficientNetLite0
from tests.helpers.paths import ROOT
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model
from utils import FocalDiceloss_IoULoss

BENCHMARK = [sys.executable, "-m", "benchmarks"]
SIZE = 64


def both_models() -> tuple[torch.nn.Module, oracle.OracleSam]:
    """A tiny model with adapters and its oracle, with the same weights; the adapters and the decoder train."""
    fast = make_tiny_model(encoder_adapter=True, image_size=SIZE)
    plain = oracle.OracleSam(image_size=SIZE, adapter=True, **vars(TINY_SPEC))
    plain.load_state_dict(fast.state_dict())
    for model in (fast, plain):
        select_trainable(model, "adapter")
    return fast, plain


def squares() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two images with two masks each, and their boxes."""
    mask = torch.zeros(4, 1, SIZE, SIZE, dtype=torch.bool)
    box = torch.tensor([[8.0 + 4 * i, 10, 30 + 4 * i, 40] for i in range(4)])
    for i, (left, top, right, bottom) in enumerate(box.long().tolist()):
        mask[i, 0, top:bottom, left:right] = True
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), mask, box


def test_model_and_gradients_equal_the_plain_formulas():
    fast, plain = both_models()
    image, mask, box = squares()
    coords, labels = oracle.opening(mask, box, torch.Generator().manual_seed(1))
    labels[0, -1] = -1  # all kinds of points: a padding one, too
    prompt = torch.rand(4, 1, SIZE // 4, SIZE // 4, generator=torch.Generator().manual_seed(2))
    embeddings = fast.encode(image)[torch.arange(2).repeat_interleave(2)]
    found = fast.decode_points(embeddings, coords, labels, prompt, multimask=True)[:2]
    expected = plain.decode(plain.image_encoder(image).repeat_interleave(2, 0), coords, labels, prompt)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)
    for loss_of, (low_res, iou) in ((FocalDiceloss_IoULoss(), found), (oracle.published_loss, expected)):
        logits = torch.nn.functional.interpolate(low_res[:, :1], (SIZE, SIZE), mode="bilinear")
        loss_of(logits, mask, iou[:, :1]).backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in fast.named_parameters():
        ours, expected = (torch.zeros_like(p) if p.grad is None else p.grad for p in (parameter, theirs[name]))
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_published_step_trains_what_the_paper_trains():
    _, plain = both_models()
    before = {name: p.detach().clone() for name, p in plain.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in plain.parameters() if p.requires_grad], lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    losses = [oracle.published_step(plain, optimizer, *squares(), rounds=3, generator=generator) for _ in range(8)]
    assert all(len(rounds) == 4 for rounds in losses)
    assert sum(losses[-1]) < 0.7 * sum(losses[0])
    moved = {name for name, p in plain.named_parameters() if not torch.equal(p, before[name])}
    frozen = {name for name in before if name.startswith("image_encoder.") and ".Adapter." not in name}
    assert not moved & frozen and len(moved) > 0.9 * len(before.keys() - frozen)


@pytest.mark.slow
def test_train_benchmark_prints_its_numbers_last():
    flags = ["--model-type=vit_t", "--image-size=64", "--images=1", "--masks=2", "--rounds=1", "--repeats=1"]
    flags += ["--threads=1"]
    run = subprocess.run([*BENCHMARK, "train", *flags], capture_output=True, text=True, check=True, cwd=ROOT)
    numbers = json.loads(run.stdout.splitlines()[-1])
    assert numbers.keys() == {"seconds_per_image", "baseline_seconds_per_image", "ratio", "peak_gb"}
    assert all(value > 0 for value in numbers.values())


@pytest.mark.slow
def test_evaluation_equals_the_published_runs():
    """Prompts, clicks and candidates are the same: one other click changes the scores of the rounds behind it.

    In float64, where no pixel is so close to the threshold that rounding moves it to the other side.
    """
    fast, plain = (model.double() for model in both_models())
    plain.prompt_encoder.pe_layer = fast.prompt_encoder.pe_layer  # ours rounds positions to float32
    batch, prompts = evaluation_data(images=2, masks=3, size=SIZE)
    batch = replace(batch, image=batch.image.double())
    ours, theirs = (
        torch.tensor(make_table(model, batch, prompts))
        for make_table, model in ((our_table, fast), (published_table, plain))
    )
    assert ours.shape == (len(COLUMNS), 6, 2)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert len(ours.unique(dim=0)) == len(COLUMNS), "each column has its own scores"


@pytest.mark.parametrize("masks", [1, 3])
def test_evaluations_compute_all_rounds(masks):
    """No round is left out, however good the prediction is; ours shares those of 1, 3 and 5 clicks."""
    data = evaluation_data(images=1, masks=masks, size=SIZE)
    calls = Counter()
    for make_table, model in zip((our_table, published_table), both_models(), strict=True):
        decoder = model.mask_decoder
        for part in (model.image_encoder, decoder if isinstance(model, oracle.OracleSam) else decoder.transformer):
            part.register_forward_hook(lambda part, *_: calls.update([type(part).__name__]))
        make_table(model, *data)
    assert calls["ImageEncoderViT"] == 1 and calls["TwoWayTransformer"] == 1 + 5
    assert calls["OracleEncoder"] == 4 * masks and calls["PlainDecoder"] == (1 + 1 + 3 + 5) * masks


@pytest.mark.slow
def test_evaluate_benchmark_prints_its_numbers_last():
    flags = ["--model-type=vit_t", "--image-size=64", "--masks", "1", "2", "--repeats=1", "--threads=1"]
    run = subprocess.run([*BENCHMARK, "evaluate", *flags], capture_output=True, text=True, check=True, cwd=ROOT)
    numbers = json.loads(run.stdout.splitlines()[-1])
    assert numbers.keys() == {"ratio_m1", "ratio_m2", "decode_over_encode"}
    assert all(value > 0 for value in numbers.values())


@pytest.mark.slow
def test_onnx_benchmark_prints_its_numbers_last():
    flags = ["--model-type=vit_t", "--image-size=64", "--rounds=1", "--threads=1"]
    run = subprocess.run([*BENCHMARK, "onnx", *flags], capture_output=True, text=True, check=True, cwd=ROOT)
    numbers = json.loads(run.stdout.splitlines()[-1])
    assert numbers.keys() == {"ort_fp32_ratio", "ort_int8_ratio", "decoder_ms", "decoder_batch32_ms", "vit_t_ms"}
    assert all(value > 0 for value in numbers.values())


SMALL = ["--model-type=vit_t", "--image-size=64", "--threads=1"]


@pytest.mark.slow
@pytest.mark.parametrize("against", [[], ["--against", str(ROOT)]], ids=["reference", "checkout"])
def test_decoder_benchmark_prints_its_numbers_last(against):
    flags = [*SMALL, "--prompts", "1", "3", "--rounds=1", *against]
    run = subprocess.run([*BENCHMARK, "decoder", *flags], capture_output=True, text=True, check=True, cwd=ROOT)
    *lines, numbers = run.stdout.splitlines()
    assert json.loads(numbers).keys() == {"ratio_1", "ms_1", "ratio_3", "ms_3"}
    assert all(float(line.split()[-1]) < 1e-4 for line in lines), "both sides decode the same"


@pytest.mark.slow
@pytest.mark.parametrize("against", [[], ["--against", str(ROOT)]], ids=["reference", "checkout"])
def test_reading_benchmark_prints_its_numbers_last(against, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.reading.LARGE", (900, 600))
    threads = f"--threads={torch.get_num_threads()}"
    main(["reading", "--small=11", "--large=1", "--rounds=1", "--dicom", threads, *against])
    *lines, numbers = capsys.readouterr().out.splitlines()
    kinds = [f"{size}_{suffix}" for size in ("small", "large") for suffix in ("jpg", "png")]
    kinds.append("small_dcm")
    assert json.loads(numbers).keys() == {f"{name}_{kind}" for kind in kinds for name in ("ratio", "ms")}
    assert lines[-1] == "the pixels are the same"


@pytest.mark.slow
def test_predict_benchmark_prints_its_numbers_last(capsys):
    threads = f"--threads={torch.get_num_threads()}"
    main(["predict", "--sides=96", "--count=2", "--rounds=1", threads, f"--against={ROOT}"])
    *lines, numbers = capsys.readouterr().out.splitlines()
    names = ("ratio", "cpu_ratio", "images_per_second", "peak_gb")
    assert json.loads(numbers).keys() == {f"{name}_96" for name in names}
    assert len(lines) == 2 and all("96 px, 2 photographs" in line for line in lines)


def test_predict_benchmark_asks_for_a_checkout(capsys):
    with pytest.raises(SystemExit):
        main(["predict", f"--threads={torch.get_num_threads()}"])
    assert "give --against CHECKOUT" in capsys.readouterr().err


def test_photographs_of_the_predict_benchmark_have_the_side(tmp_path):
    folder = make_photographs(tmp_path / "drawn", 90, 2)
    again = make_photographs(tmp_path / "resized", 300, 3, folder)
    sizes = {name: [max(size_of(path)) for path in sorted(name.iterdir())] for name in (folder, again)}
    assert sizes == {folder: [90] * 2, again: [300] * 3}


@pytest.mark.slow
def test_another_checkout_runs_its_own_benchmark():
    flags = [*SMALL, "--masks=1", "--repeats=1", f"--against={ROOT}"]
    run = subprocess.run([*BENCHMARK, "evaluate", *flags], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(run.stdout.splitlines()[-1]).keys() == {"ratio_m1", "decode_over_encode"}
    assert "other: encode an image" in run.stdout and "fast: encode an image" in run.stdout


def test_an_older_checkout_is_asked_in_its_own_way(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/benchmark.py").touch()
    args = argparse.Namespace(given=["train", "--rounds", "2", "--against", str(tmp_path)], against=tmp_path, threads=1)
    other, ours = same_command(args).values()
    words = ["train", "--rounds", "2", "--only", "fast"]
    assert other.command[1:] == (str(tmp_path / "scripts/benchmark.py"), *words) and other.checkout == tmp_path
    assert ours.command[1:] == ("-m", "benchmarks", *words) and ours.checkout == ROOT
    decoding = part_worker(args, OTHER, "decoder", "--prompts", 1)
    assert decoding.environment["PYTHONPATH"] == str(tmp_path) and "--reference" not in decoding.command


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["decoder", f"--threads={torch.get_num_threads()}", "--against", str(tmp_path)])
    assert exit_.value.code == 2
    assert f"--against: {tmp_path} is no checkout of this project" in capsys.readouterr().err


def test_an_encoded_model_leaves_the_model_as_it_is():
    model = make_tiny_model(image_size=SIZE)
    before = dict(vars(model))
    embedding = torch.zeros(1, 256, SIZE // 16, SIZE // 16)
    encoded = EncodedSam(model, embedding)
    assert encoded.encode_all(torch.randn(1, 3, SIZE, SIZE))[0] is embedding
    assert encoded.mask_decoder is model.mask_decoder and encoded.preprocessing is model.preprocessing
    assert vars(model) == before and type(model).encode is Sam.encode


@pytest.mark.slow
def test_a_peer_learns_by_structure_and_its_weights_are_taken_up(tmp_path, monkeypatch, capsys):
    """A few steps from random weights: what is learnt is not scored, and the file gives the same scores again."""
    monkeypatch.setattr("benchmarks.peers.read_pyramid_weights", lambda _: EfficientNetLite0().state_dict())
    words = ["peers", "--data_path", str(ROOT / "data_demo"), "--image_size=32", "--steps=2"]
    words += [f"--weights={tmp_path / 'unet.pth'}", f"--threads={torch.get_num_threads()}"]
    scores = []
    for _ in range(2):
        main(words)
        scores.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert {"optic_disc", "optic_cup", "vessel", "all", "seconds"} <= scores[0].keys()
    assert scores[0].pop("seconds") > 0 == scores[1].pop("seconds")
    assert scores[0] == scores[1]
    with pytest.raises(SystemExit) as exit_:
        main([*words[:1], "--data_path", str(tmp_path / "nothing"), words[-1]])
    assert exit_.value.code == 2 and "nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_are_adapted_with_photographs_of_a_data_set(capsys, tmp_path):
    """With the shipped weights at a small size: what is learnt is not scored."""
    words = ["adaptation", "--data_path", str(ROOT / "data_demo"), "--start", str(SHIPPED_WEIGHTS), "--seeds=1"]
    words += ["--photographs", "2", f"--threads={torch.get_num_threads()}", "--data_set"]
    flags = "--image_size 64 --epochs 1 --epoch_photographs 2 --batch_size 2 --iter_point 0 --num_workers 0"
    main([*words, "data_demo", "--train_flags", flags])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() == {"start", "2", "others"} and len(found["2"]) == 1
    assert {"optic_disc", "optic_cup", "vessel", "all"} <= found["start"].keys() == found["2"][0].keys()
    with pytest.raises(SystemExit) as exit_:
        main([*words, "nothing"])
    assert exit_.value.code == 2 and "--data_set nothing" in capsys.readouterr().err
