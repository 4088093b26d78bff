"""Pre-training on photographs without masks: what the encoder sees, what it passes on, and a run that stops."""

import shlex
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pretraining
import utils
from maps import read_image
from pretraining import Photographs
from scripts import pretrain_mae
from segment_anything.build_sam import ModelSpec, build_network, build_sam
from segment_anything.checkpoint import read_checkpoint
from segment_anything.training.masked import LEAST_VARIANCE, MaskedAutoencoder
from segment_anything.training.sampling import Draw
from segment_anything.utils.transforms import Preprocessing

from .conftest import TINY_SPEC

DEMO = "data_demo/images"
SPEC = replace(TINY_SPEC, window_size=4)  # of half of it an attention can still be learnt


def tiny_autoencoder(size: int = 64, *, spec: ModelSpec = SPEC) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(image_size=size, patch_size=16, decoder_dim=24, **vars(spec)).eval()


def some(count: int = 2, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and which patches are shown: the first and the last of each cell in turn."""
    generator = torch.Generator().manual_seed(1)
    cells = size // 32
    shown = torch.arange(count * cells * cells).view(count, cells, cells) % 2 * 3
    return torch.randn(count, 3, size, size, generator=generator), shown


def hidden_pixels(shown: torch.Tensor) -> torch.Tensor:
    """Bool [B, S, S] by a plain loop over cells."""
    hidden = torch.ones(len(shown), 32 * shown.shape[1], 32 * shown.shape[2], dtype=torch.bool)
    for b in range(len(shown)):
        for i in range(shown.shape[1]):
            for j in range(shown.shape[2]):
                y, x = 32 * i + 16 * (int(shown[b, i, j]) // 2), 32 * j + 16 * (int(shown[b, i, j]) % 2)
                hidden[b, y : y + 16, x : x + 16] = False
    return hidden


# --- the model ----------------------------------------------------------------------------------------------------


def test_hidden_patches_reach_the_loss_and_not_the_encoder():
    model, (image, shown) = tiny_autoencoder(), some()
    hidden = hidden_pixels(shown)[:, None]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        loss, restored = model(image, shown)
        other_loss, same = model(torch.where(hidden, noise, image), shown)
        _, changed = model(torch.where(hidden, image, noise), shown)
    assert torch.equal(restored, same) and loss != other_loss
    assert not torch.allclose(restored, changed)


def test_the_loss_is_that_of_hidden_patches_in_their_own_scale():
    model, (image, shown) = tiny_autoencoder(), some()
    with torch.no_grad():
        loss, restored = model(image, shown)
    hidden, errors = hidden_pixels(shown), []
    for b in range(len(image)):
        for i in range(4):
            for j in range(4):
                if hidden[b, 16 * i, 16 * j]:
                    patch = image[b, :, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
                    patch = patch - patch.mean((1, 2), keepdim=True)
                    target = patch / (patch.square().mean() + LEAST_VARIANCE).sqrt()
                    errors.append((restored[b, i, j] - target.flatten()).square().mean())
    assert len(errors) == 2 * 12
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_a_photograph_of_one_colour_has_nothing_to_restore():
    model, (image, shown) = tiny_autoencoder(), some()
    one = torch.tensor([1.5, -0.5, -2.0]).view(1, 3, 1, 1).expand_as(image)
    with torch.no_grad():
        loss, restored = model(one, shown)
        hidden = hidden_pixels(shown)[:, ::16, ::16]
        assert loss == pytest.approx(restored[hidden].square().mean().item(), rel=1e-4)  # the target is 0
        torch.testing.assert_close(model.pictures(one, shown)[1], one, atol=0.05, rtol=0)  # half a grey level each


def test_pictures_hide_what_is_hidden_and_keep_what_is_shown():
    model, (image, shown) = tiny_autoencoder(), some()
    seen, restored = model.pictures(image, shown)
    hidden = hidden_pixels(shown)[:, None].expand_as(image)
    assert torch.equal(seen, torch.where(hidden, 0, image))
    assert torch.equal(restored[~hidden], image[~hidden]) and not torch.allclose(restored[hidden], image[hidden])


def test_every_weight_but_the_neck_learns():
    model, (image, shown) = tiny_autoencoder().train(), some()
    for p in model.parameters():  # relative positions start at zero, and their products with queries too
        p.data += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    model(image, shown)[0].backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {name for name, _ in model.named_parameters() if name.startswith("encoder.neck.")}


@pytest.mark.parametrize("spec", [TINY_SPEC, SPEC])
def test_the_whole_encoder_takes_what_was_learnt_and_distances_keep_their_meaning(spec):
    model = tiny_autoencoder(spec=spec)
    for name, p in model.encoder.named_parameters():
        p.data.normal_(generator=torch.Generator().manual_seed(len(name)))
    whole = build_network(spec, image_size=64, encoder_adapter=False).image_encoder
    learnt = model.encoder_state(whole)
    missing, unexpected = whole.load_state_dict(learnt, strict=False)
    assert not unexpected and missing and all(name.startswith("neck.") for name in missing)
    assert torch.equal(whole.pos_embed, model.encoder.pos_embed)
    for block, half in zip(whole.blocks, model.encoder.blocks, strict=True):
        table, small = block.attn.rel_pos_h, half.attn.rel_pos_h
        middle, centre = len(table) // 2, len(small) // 2
        for step in range(-centre, centre + 1):  # a step between cells is two between patches
            torch.testing.assert_close(table[middle + 2 * step], small[centre + step])


def test_a_photograph_can_be_learnt():
    model = tiny_autoencoder().train()
    image = Photographs([Path(f"{DEMO}/retina.jpg")], Preprocessing(64), seed=0)[Draw(0, 0, 0)][None]
    shown = some(1)[1]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        loss, _ = model(image, shown)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.9 and losses[-1] < 0.35


def test_an_image_size_that_cells_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="48 is not a multiple of 32"):
        tiny_autoencoder(48)


# --- photographs --------------------------------------------------------------------------------------------------


def test_a_draw_decides_all_that_happens_to_a_photograph():
    path = Path(f"{DEMO}/retina.jpg")
    one, two = (Photographs([path], Preprocessing(64), seed=seed) for seed in (0, 1))
    first = one[Draw(0, 3, 0)]
    assert first.shape == (3, 64, 64) and first.dtype == torch.float32
    assert torch.equal(first, one[Draw(0, 3, 0)])
    for other in (one[Draw(1, 3, 0)], one[Draw(0, 4, 0)], two[Draw(0, 3, 0)]):
        assert not torch.equal(first, other)


def test_windows_lie_in_the_field_of_view():
    """Of a bright square on black, windows show the square: black is a line at its border at most."""
    photograph = np.zeros((200, 240, 3), np.uint8)
    photograph[20:180, 40:200] = 90
    dataset = Photographs([None], Preprocessing(64), seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "read_image", lambda _: photograph)
        black = [(dataset[Draw(0, place, 0)] < -1).float().mean().item() for place in range(20)]
    assert max(black) < 0.05


# --- a run --------------------------------------------------------------------------------------------------------


def run(folder, *more: object) -> int:
    words = [DEMO, "--model_type", "vit_t", "--image_size", "64", "--epochs", "2", "--batch_size", "4"]
    words += ["--num_workers", "0", "--work_dir", folder, "--run_name", "mae", *more]
    return utils.run_main(pretrain_mae.main, pretrain_mae.parse_args([str(word) for word in words]))


def test_a_run_leaves_an_encoder_to_start_from_and_a_picture(tmp_path, tiny_type):
    assert run(tmp_path) == 0
    folder = tmp_path / "models/mae"
    model = build_sam("vit_t", checkpoint=folder / "last", image_size=64)
    assert not model.load_report.initialised
    fresh = read_checkpoint(folder / "last").state
    state = torch.load(folder / "last/state.pt", weights_only=True)["model"]
    for name in ("pos_embed", "blocks.1.mlp.lin1.weight"):
        assert torch.equal(fresh[f"image_encoder.{name}"], state[f"encoder.{name}"])
    lines = (folder / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,step,seconds,loss" and len(lines) == 3
    assert read_image(folder / "restored.png").shape[1] >= 3 * 64 and (folder / "curves.png").is_file()


def test_a_stopped_run_goes_on_to_the_bit(tmp_path, tiny_type, monkeypatch, capfd):
    assert run(tmp_path / "whole") == 0
    step = pretraining.Pretraining._step

    def step_and_signal(self, images):
        if self.step == 4:
            signal.raise_signal(signal.SIGTERM)
        return step(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(pretraining.Pretraining, "_step", step_and_signal)
        assert run(tmp_path / "parts") == 130
    command = shlex.split(capfd.readouterr().out.split("Go on with: ")[1])
    again = pretrain_mae.parse_args(command[2:])
    assert again.input == [DEMO] and again.resume == tmp_path / "parts/models/mae/last"
    assert utils.run_main(pretrain_mae.main, again) == 0
    whole, parts = (tmp_path / name / "models/mae/last/model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "0"], "--epochs 0"),
        (["--share", "1.5"], "--share 1.5"),
        (["--lr", "0"], "--lr 0.0"),
        (["--image_size", "80"], "--image_size: image_size 80 is not a multiple of 32"),
        (["--resume", "nowhere"], "--resume nowhere"),
        (["--num_workers", "-1"], "--num_workers -1"),
    ],
)
def test_bad_flags_end_with_their_name(tmp_path, tiny_type, capfd, words, message):
    assert run(tmp_path, *words) == 2
    assert message in capfd.readouterr().err


def test_a_run_is_not_overwritten_and_goes_on_with_its_own_flags_only(tmp_path, tiny_type, capfd):
    assert run(tmp_path, "--epochs", "1") == 0
    assert run(tmp_path) == 2
    assert "holds a run" in capfd.readouterr().err
    assert run(tmp_path, "--resume", tmp_path / "models/mae/last", "--lr", "0.002") == 2
    assert "--lr 0.002 (was 0.001)" in capfd.readouterr().err
    assert run(tmp_path, "--epochs", "1", "--run_name", "other") == 0
    before = (tmp_path / "models/other/last/model.safetensors").read_bytes()
    words = ("--epochs", "1", "--run_name", "other", "--resume", tmp_path / "models/mae/last")
    assert run(tmp_path, *words) == 2 and "is not in" in capfd.readouterr().err
    assert (tmp_path / "models/other/last/model.safetensors").read_bytes() == before


def test_a_folder_without_photographs_and_a_broken_photograph_are_named(tmp_path, tiny_type, capfd):
    (tmp_path / "empty").mkdir()
    words = [tmp_path / "empty", "--work_dir", tmp_path, "--model_type", "vit_t", "--num_workers", 0]
    args = pretrain_mae.parse_args([str(word) for word in words])
    assert utils.run_main(pretrain_mae.main, args) == 2
    assert "empty: no photograph there" in capfd.readouterr().err
    (tmp_path / "empty/broken.jpg").write_bytes(b"no picture")
    assert utils.run_main(pretrain_mae.main, args) == 2
    assert "broken.jpg" in capfd.readouterr().err
    (tmp_path / "empty/other.jpg").write_bytes(b"no picture")
    assert utils.run_main(pretrain_mae.main, args) == 2
    message = capfd.readouterr().err  # both, before the first step
    assert "broken.jpg" in message and "other.jpg" in message and "epoch" not in message
