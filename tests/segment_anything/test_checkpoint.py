"""Checkpoints of every layout: what is loaded, resized, initialised, dropped, refused and written."""

import io
import re
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from sam_med2d.runtime import convert_checkpoint as conversion
from scripts import convert_checkpoint
from segment_anything import sam_model_registry
from segment_anything.build_sam import MODEL_SPECS, build_network, build_sam
from segment_anything.checkpoint import (
    METADATA_KEY,
    Checkpoint,
    CheckpointError,
    model_metadata,
    read_checkpoint,
    save_pth,
    save_weights,
)
from segment_anything.checkpoint_loading import load_into
from segment_anything.preprocessing import Preprocessing
from tests.helpers.commands import run_command
from tests.helpers.paths import GOLDEN
from tests.helpers.seeded_weights import fill, load_layout
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model

WINDOW_TABLE, GLOBAL_TABLE = (f"image_encoder.blocks.{block}.attn.rel_pos_h" for block in (0, 1))
ADAPTER_NORM = "image_encoder.blocks.0.Adapter.norm.weight"


@pytest.fixture(autouse=True)
def tiny_vit_t(monkeypatch):
    monkeypatch.setitem(MODEL_SPECS, "vit_t", TINY_SPEC)


def random_state(**kwargs) -> dict[str, torch.Tensor]:
    """Weights without a zero among them, relative positions included."""
    generator = torch.Generator().manual_seed(1)
    state = make_tiny_model(**kwargs).state_dict()
    return {key: 0.1 * torch.randn(value.shape, generator=generator) for key, value in state.items()}


def checkpoint_of(state: dict, metadata: dict | None = None) -> Checkpoint:
    return Checkpoint(Path("some.pth"), state, metadata or {})


@pytest.fixture(scope="module")
def plain():
    """Weights of a tiny model without adapters at 64 px."""
    return random_state()


@pytest.fixture(scope="module")
def adapted():
    """Weights of a tiny model with adapters at 64 px."""
    return random_state(encoder_adapter=True)


def meta_model(model_type: str, *, encoder_adapter: bool = False, image_size: int = 256):
    with torch.device("meta"):
        return build_network(MODEL_SPECS[model_type], image_size=image_size, encoder_adapter=encoder_adapter)


def parameters(module: torch.nn.Module, part: str = "") -> int:
    return sum(p.numel() for name, p in module.named_parameters() if part in name)


# --- the network's names and sizes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "adapter"), [("vit_b_256", False), ("vit_b_256_adapter", True)])
def test_names_and_shapes_are_the_published_ones(layout, adapter):
    own = {key: list(value.shape) for key, value in meta_model("vit_b", encoder_adapter=adapter).state_dict().items()}
    assert own == load_layout(GOLDEN / f"{layout}.layout.json")


def test_parameter_counts_are_the_published_ones():
    adapted = meta_model("vit_b", encoder_adapter=True)
    counts = [parameters(adapted), parameters(adapted, ".Adapter."), parameters(adapted.mask_decoder)]
    counts.append(parameters(meta_model("vit_b")))
    assert [round(count / 1e6, 2) for count in counts] == [271.24, 180.50, 4.06, 90.74]


@pytest.mark.parametrize(
    ("model_type", "dim", "depth", "heads", "globals_", "window"),
    [
        ("vit_t", 32, 2, 2, {1}, 2),
        ("vit_b", 768, 12, 12, {2, 5, 8, 11}, 14),
        ("vit_l", 1024, 24, 16, {5, 11, 17, 23}, 14),
        ("vit_h", 1280, 32, 16, {7, 15, 23, 31}, 14),
        ("default", 1280, 32, 16, {7, 15, 23, 31}, 14),
    ],
)
def test_encoder_of_each_model_type(model_type, dim, depth, heads, globals_, window):
    encoder = meta_model(model_type, image_size=1024).image_encoder
    assert list(encoder.pos_embed.shape) == [1, 64, 64, dim]
    assert [block.attn.num_heads for block in encoder.blocks] == [heads] * depth
    assert {i for i, block in enumerate(encoder.blocks) if block.attn.window == 64} == globals_
    assert {block.attn.window for i, block in enumerate(encoder.blocks) if i not in globals_} == {window}


# --- resizing -----------------------------------------------------------------------------------------------------


def expected_positions(table: torch.Tensor, grid: int) -> torch.Tensor:
    planes = F.interpolate(table.movedim(-1, 1), size=(grid, grid), mode="bilinear", align_corners=False)
    return planes.movedim(1, -1)


def expected_relative(table: torch.Tensor, rows: int) -> torch.Tensor:
    """As an image one pixel wide per channel: only the rows change."""
    image = F.interpolate(table[None, None], size=(rows, table.shape[1]), mode="bilinear", align_corners=False)
    return image[0, 0]


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize(("source", "target"), [(1024, 256), (256, 512), (256, 1024), (512, 256)])
def test_position_tables_follow_the_image_size(source, target, adapter):
    state = random_state(image_size=source, encoder_adapter=adapter)
    model = make_tiny_model(image_size=target, encoder_adapter=adapter)
    report = load_into(model, checkpoint_of(state))
    own = model.state_dict()
    pair = [GLOBAL_TABLE, GLOBAL_TABLE.replace("pos_h", "pos_w")]
    assert sorted(report.resized) == sorted(["image_encoder.pos_embed", *pair])
    positions = expected_positions(state["image_encoder.pos_embed"], target // 16)
    torch.testing.assert_close(own["image_encoder.pos_embed"], positions, rtol=0, atol=1e-7)
    for key in pair:
        assert len(own[key]) == 2 * (target // 16) - 1
        torch.testing.assert_close(own[key], expected_relative(state[key], len(own[key])), rtol=0, atol=1e-6)
    for key in set(own) - set(report.resized):
        assert torch.equal(own[key], state[key]), key


def test_published_layout_fits_every_size():
    """SAM's 1024 px layout: 127 rows in global blocks become 31, the 27 rows of windowed blocks stay."""
    layout = {key: value.shape for key, value in meta_model("vit_b", image_size=1024).state_dict().items()}
    encoder = {k: s for k, s in layout.items() if "rel_pos_h" in k}
    assert {k.split(".")[2]: s[0] for k, s in encoder.items()} == {
        str(i): 127 if i in (2, 5, 8, 11) else 27 for i in range(12)
    }
    own = meta_model("vit_b").state_dict()
    resized = [key for key in own if own[key].shape != layout[key]]
    assert {len(own[key]) for key in resized if "rel_pos" in key} == {31} and len(resized) == 1 + 2 * 4
    same = [key for key in own if "rel_pos" in key and key not in resized]
    assert {len(own[key]) for key in same} == {27}


def test_there_and_back_changes_little():
    """A smooth table survives 256 -> 512 -> 256."""
    ramp = torch.linspace(0, 1, 16)
    state = random_state(image_size=256) | {"image_encoder.pos_embed": ramp.view(1, 16, 1, 1).expand(1, 16, 16, 32)}
    large, small = make_tiny_model(image_size=512), make_tiny_model(image_size=256)
    load_into(large, checkpoint_of(state))
    load_into(small, checkpoint_of(large.state_dict()))
    middle = small.image_encoder.pos_embed[:, 2:-2]
    torch.testing.assert_close(middle, state["image_encoder.pos_embed"][:, 2:-2], rtol=0, atol=1e-6)
    assert len(small.state_dict()[WINDOW_TABLE]) == 3


# --- adapters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "unchanged"), [("zero", True), ("kaiming", False)])
@torch.no_grad()
def test_new_adapters_are_named_and_start_at_zero(plain, tmp_path, start, unchanged):
    save_weights(tmp_path / "sam.safetensors", plain, {})
    args = {"checkpoint": tmp_path / "sam.safetensors", "image_size": 64}
    without = build_sam("vit_t", **args, encoder_adapter=False)
    model = build_sam("vit_t", **args, encoder_adapter=True, adapter_start=start)
    assert set(model.load_report.initialised) == {key for key in model.state_dict() if ".Adapter." in key}
    assert len(model.load_report.initialised) == 2 * 6
    assert not without.load_report.initialised and not without.load_report.dropped
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.encode(image), without.encode(image)) == unchanged


def test_zero_start_leaves_loaded_adapters_alone(adapted, tmp_path):
    """A file with adapters in block 0 only: those are loaded, the ones of block 1 start at zero."""
    partial = {key: value for key, value in adapted.items() if "blocks.1.Adapter" not in key}
    save_weights(tmp_path / "partial.safetensors", partial, {})
    model = build_sam("vit_t", checkpoint=tmp_path / "partial.safetensors", image_size=64, encoder_adapter=True)
    assert torch.equal(model.state_dict()[ADAPTER_NORM], adapted[ADAPTER_NORM])
    assert not model.image_encoder.blocks[1].Adapter.norm.weight.any()


def test_adapters_are_dropped_on_request(adapted, plain):
    model = make_tiny_model()
    report = load_into(model, checkpoint_of(adapted))
    assert report.dropped == [key for key in adapted if ".Adapter." in key]
    assert set(report.loaded) == set(plain) == set(model.state_dict())
    assert all(torch.equal(value, adapted[key]) for key, value in model.state_dict().items())


def test_report_says_what_was_done(adapted):
    """Every key of file and model is in exactly one list, and the summary counts them."""
    report = load_into(make_tiny_model(image_size=128), checkpoint_of(adapted))
    assert sorted(report.loaded + report.resized + report.dropped) == sorted(adapted)
    assert report.initialised == []
    summary = report.summary()
    counts = ("3 position tables resized", "12 tensors of the adapters dropped")
    assert all(part in summary for part in (f"{len(report.loaded)} tensors loaded", *counts))


# --- what does not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [False, True])
def test_every_bad_key_is_named(adapter):
    state = random_state(encoder_adapter=adapter)
    del state["mask_decoder.iou_token.weight"]
    state["mask_decoder.extra.weight"] = torch.zeros(1)
    state["mask_decoder.mask_tokens.weight"] = torch.zeros(3, 256)
    model = make_tiny_model(encoder_adapter=adapter)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_into(model, checkpoint_of(state))
    message = str(error.value)
    assert "some.pth" in message and "3 keys" in message
    assert "missing mask_decoder.iou_token.weight" in message
    assert "unexpected mask_decoder.extra.weight" in message
    assert "mask_decoder.mask_tokens.weight has shape [3, 256] in the file and [4, 256] in the model" in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_an_unknown_adapter_key_is_an_error_where_adapters_exist(adapted):
    state = adapted | {"image_encoder.blocks.0.Adapter.gate": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"unexpected image_encoder\.blocks\.0\.Adapter\.gate"):
        load_into(make_tiny_model(encoder_adapter=True), checkpoint_of(state))


def test_another_model_type_is_an_error(plain, tmp_path):
    save_weights(tmp_path / "tiny.safetensors", plain, {})
    weights = read_checkpoint(tmp_path / "tiny.safetensors")
    with pytest.raises(CheckpointError, match="--model_type"), torch.device("meta"):
        build_sam("vit_b", checkpoint=weights)
    with pytest.raises(ValueError, match=r"model_type 'vit_x' is unknown: choose one of .*vit_b"):
        build_sam("vit_x")


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("layout", ["raw", "model", "ours_pth", "safetensors", "folder"])
def test_every_layout_is_read(plain, tmp_path, layout, legacy):
    path = tmp_path / ("model.safetensors" if layout in ("safetensors", "folder") else "weights.pth")
    if layout in ("raw", "model"):
        content = plain if layout == "raw" else {"model": plain, "epoch": 3}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    else:
        (save_pth if layout == "ours_pth" else save_weights)(path, plain, {"a": 1})
    checkpoint = read_checkpoint(tmp_path if layout == "folder" else path)
    assert checkpoint.path == path and checkpoint.image_size == 64 and not checkpoint.has_adapters
    assert checkpoint.metadata == ({} if layout in ("raw", "model") else {"a": 1})
    assert checkpoint.state.keys() == plain.keys()
    assert all(torch.equal(value, plain[key]) for key, value in checkpoint.state.items())


@pytest.mark.parametrize(("save", "suffix"), [(save_weights, ".safetensors"), (save_pth, ".pth")])
def test_metadata_round_trip(tmp_path, save, suffix):
    model = make_tiny_model(encoder_adapter=True)
    model.preprocessing = Preprocessing(64, "sam_med2d", "bgr", "logits")
    path = tmp_path / f"model{suffix}"
    save(path, model.state_dict(), model_metadata(model, "vit_t"))
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata["model_type"] == "vit_t" and checkpoint.metadata["encoder_adapter"] is True
    preprocessing, line = checkpoint.preprocessing(128)
    assert preprocessing == replace(model.preprocessing, image_size=128)
    assert "as stored" in line and str(path) in line
    assert build_sam("vit_t", path).preprocessing == model.preprocessing


@pytest.mark.parametrize(("adapter", "order", "name"), [(True, "bgr", "SAM-Med2D"), (False, "rgb", "SAM")])
def test_preprocessing_is_guessed_without_metadata(adapter, order, name):
    preprocessing, line = checkpoint_of(random_state(encoder_adapter=adapter)).preprocessing(256)
    assert (preprocessing.mode, preprocessing.channel_order) == ("sam_med2d", order)
    assert "no metadata" in line and name in line and "--channel_order" in line


@pytest.mark.parametrize("stored", [{"mode": "sepia"}, {"zoom": 2}])
def test_preprocessing_of_another_version_is_an_error(stored):
    with pytest.raises(CheckpointError, match=r"some\.pth.*preprocessing"):
        checkpoint_of({}, {"preprocessing": stored}).preprocessing(64)


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_refused_and_never_run(plain, tmp_path, capsys, legacy):
    trap, path, out = tmp_path / "trap", tmp_path / "bad.pth", tmp_path / "out.safetensors"
    content = {"model": plain, "optimizer": Malicious(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"can run any code.*--trust"):
        read_checkpoint(path)
    assert run_command(convert_checkpoint, [str(path), str(out)]) == 2
    assert "any code" in capsys.readouterr().err
    assert not trap.exists() and not out.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap must be a real one"


def test_a_pickled_optimizer_is_converted_with_trust(plain, tmp_path, capsys):
    """The published SAM-Med2D file's shape: a whole optimizer object beside the weights."""
    path, out = tmp_path / "sam-med2d.pth", tmp_path / "new" / "safe.safetensors"
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    torch.save({"model": plain, "optimizer": optimizer, "metadata": {"a": 1}}, path)
    with pytest.raises(CheckpointError, match="Adam"):
        read_checkpoint(path)
    assert run_command(convert_checkpoint, [str(path), str(out), "--trust"]) == 0
    output = capsys.readouterr()
    assert "ANY code" in output.err and str(path) in output.err and str(out) in output.out
    safe = read_checkpoint(out)
    assert safe.metadata == {"a": 1}
    assert safe.state.keys() == plain.keys() and all(torch.equal(safe.state[key], plain[key]) for key in plain)


@pytest.mark.slow
def test_conversion_runs_as_a_file_from_anywhere(tmp_path):
    script = Path(convert_checkpoint.__file__).resolve()
    command = [sys.executable, script, "no.pth", "out.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: Checkpoint no.pth does not exist: check IN.\n"


def test_the_warning_comes_before_the_code_runs(tmp_path, capsys, monkeypatch):
    """Whatever happens to the file, the user has read what --trust means."""
    seen = []
    monkeypatch.setattr(conversion, "convert", lambda *_, **__: seen.append(capsys.readouterr().err) or "")
    run_command(convert_checkpoint, ["--trust", "a.pth", "b.safetensors"])
    assert "ANY code" in seen[0] and "a.pth" in seen[0]


@pytest.mark.parametrize("shape", [(4,), (2, 4, 4, 32), (1, 0, 0, 32)])
def test_a_position_table_of_another_shape_is_named(plain, tmp_path, tiny_type, shape):
    save_weights(tmp_path / "odd.safetensors", plain | {"image_encoder.pos_embed": torch.zeros(shape)}, {})
    for size in (None, 64, 96):
        with pytest.raises(CheckpointError, match=r"odd.safetensors.*pos_embed has shape"):
            sam_model_registry["vit_t"](checkpoint=tmp_path / "odd.safetensors", image_size=size)


def test_metadata_of_another_kind_is_named(plain, tmp_path):
    save_weights(tmp_path / "odd.safetensors", plain, {"model_type": ["vit_t"]})
    with pytest.raises(CheckpointError, match="odd.safetensors: its metadata is not understood"):
        read_checkpoint(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list"),
        ({"model": 3}, "'model' entry is a int"),
        ({"a": "text"}, "'a' is no named tensor"),
        ({5: torch.zeros(1)}, "entry 5 is no named tensor"),
        ({"a": torch.zeros(1)}, "no 'image_encoder.pos_embed'"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--trust"]])
def test_what_is_no_state_dict_is_not_converted(tmp_path, capsys, content, reason, flags):
    torch.save(content, tmp_path / "odd.pth")
    assert run_command(convert_checkpoint, [*flags, str(tmp_path / "odd.pth"), str(tmp_path / "out.safetensors")]) == 2
    assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["odd.pth"]


@pytest.mark.parametrize("link", ["same", "hard", "symbolic"])
def test_conversion_never_overwrites_its_input(plain, tmp_path, capsys, link):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_weights(path, plain, {})
    before = path.read_bytes()
    if link == "same":
        out = path
    else:
        out.hardlink_to(path) if link == "hard" else out.symlink_to(path)
    assert run_command(convert_checkpoint, [str(path), str(out)]) == 2
    assert "is the input itself" in capsys.readouterr().err
    assert path.read_bytes() == out.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "reason"), [("b.pth", "must end in .safetensors"), ("a/b.safetensors", "cannot write there")]
)
def test_bad_output_names_are_refused(plain, tmp_path, capsys, out, reason):
    save_weights(tmp_path / "in.safetensors", plain, {})
    (tmp_path / "a").write_text("in the way")
    assert run_command(convert_checkpoint, [str(tmp_path / "in.safetensors"), str(tmp_path / out)]) == 2
    assert reason in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "in.safetensors"]


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_damaged_files(plain, tmp_path, kind, share):
    path = tmp_path / ("cut.safetensors" if kind == "safetensors" else "cut.pth")
    if kind == "safetensors":
        save_weights(path, plain, {})
    else:
        torch.save(plain, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=f"{re.escape(str(path))} is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"not a checkpoint", bytes(1000)])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_something_else_is_never_advised_to_be_trusted(tmp_path, content, suffix):
    path = tmp_path / f"page{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged or not a") as error:
        read_checkpoint(path)
    assert "trust" not in str(error.value) and "weights_only" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_bytes_give_one_kind_of_error(tmp_path):
    """Random damage in the pickled part: refused, or read where only a number changed, never another exception."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, buffer, _use_new_zipfile_serialization=False)
    whole, path = buffer.getvalue(), tmp_path / "a.pth"
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        data = bytearray(whole)
        for position in torch.randint(len(data), (3,), generator=generator).tolist():
            data[position] = int(torch.randint(256, (), generator=generator))
        path.write_bytes(data)
        with pytest.raises(CheckpointError):  # at the least it is no SAM
            read_checkpoint(path)


def test_a_missing_file_names_path_and_flag(tmp_path):
    for path in (tmp_path / "no.pth", tmp_path):  # an empty folder holds no model.safetensors
        with pytest.raises(CheckpointError, match=f"{re.escape(str(path))}.*does not exist.*--sam_checkpoint"):
            read_checkpoint(path)


@pytest.mark.parametrize(("save", "suffix"), [(save_weights, ".safetensors"), (save_pth, ".pth")])
def test_a_file_is_as_large_as_its_tensors(tmp_path, save, suffix):
    """Views of a large tensor (a slice, a transpose) do not drag the whole of it into the file."""
    large = torch.randn(1000, 1000)
    views = {"image_encoder.pos_embed": large[:2], "b": large[2:4], "c": large.T[:3]}
    path = tmp_path / f"small{suffix}"
    save(path, views, {})
    assert sum(v.nbytes for v in views.values()) <= path.stat().st_size < 1.2 * 28_000
    assert all(torch.equal(value, views[key]) for key, value in read_checkpoint(path).state.items())


def test_a_failed_save_keeps_the_old_file(plain, tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, plain, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_weights(path, plain, {METADATA_KEY: object()})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# --- builders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [True, False])
def test_builder_takes_a_namespace(adapted, tmp_path, adapter):
    """SAM-Med2D's way."""
    save_pth(tmp_path / "a.pth", adapted, {})
    args = Namespace(image_size=128, sam_checkpoint=str(tmp_path / "a.pth"), encoder_adapter=adapter, other=1)
    model = sam_model_registry["vit_t"](args)
    assert model.image_size == 128 and not model.training
    assert (ADAPTER_NORM in model.state_dict()) == adapter
    assert model.preprocessing.channel_order == "bgr"


@pytest.mark.parametrize("style", ["positional", "keyword", "path"])
def test_builder_takes_a_checkpoint(adapted, tmp_path, style):
    """SAM's way; size and adapters are the file's own."""
    path = tmp_path / "a.pth"
    torch.save(adapted, path)
    build = sam_model_registry["vit_t"]
    model = build(checkpoint=str(path)) if style == "keyword" else build(path if style == "path" else str(path))
    assert model.image_size == 64 and ADAPTER_NORM in model.state_dict()
    assert all(torch.equal(value, adapted[key]) for key, value in model.state_dict().items())


def test_builder_keywords_override_the_file(adapted, tmp_path):
    torch.save(adapted, tmp_path / "a.pth")
    model = sam_model_registry["vit_t"](checkpoint=tmp_path / "a.pth", image_size=96, encoder_adapter=False)
    assert model.image_size == 96 and ADAPTER_NORM not in model.state_dict()
    assert len(model.load_report.dropped) == 12 and len(model.load_report.resized) == 3


def test_builder_without_a_checkpoint_is_sams():
    model = sam_model_registry["vit_t"]()
    assert model.image_size == 1024 and ADAPTER_NORM not in model.state_dict()
    none = Namespace(image_size=64, sam_checkpoint=None, encoder_adapter=True)
    assert ADAPTER_NORM in sam_model_registry["vit_t"](none).state_dict()


def test_registry_has_the_published_names():
    assert {"default", "vit_h", "vit_l", "vit_b", "vit_t"} == set(sam_model_registry)
    assert MODEL_SPECS["default"] is MODEL_SPECS["vit_h"]


def test_golden_weights_load_without_a_remainder():
    """A published layout fills the model: nothing resized, initialised or dropped."""
    layout = {k: s for k, s in load_layout(GOLDEN / "vit_b_256.layout.json").items() if "image_encoder" not in k}
    decoder = {key: torch.from_numpy(value) for key, value in fill(layout).items()}
    encoder = {k: v for k, v in make_tiny_model(image_size=256).state_dict().items() if "image_encoder" in k}
    model = make_tiny_model(image_size=256)
    report = load_into(model, checkpoint_of(encoder | decoder))
    assert set(report.loaded) == set(model.state_dict())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in decoder.items())
