"""Code that was written for Segment Anything and for SAM-Med2D runs as it is."""

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader

from DataLoader import TestingDataset, TrainingDataset, stack_dict_batched
from metrics import SegMetrics
from sam_med2d.data.dataset import FundusDataset, collate
from sam_med2d.data.records import load_index
from sam_med2d.evaluation.batch_prediction import parse_mode, predict_batch
from sam_med2d.evaluation.scoring import score_batch
from sam_med2d.prompts.prompt_file import make_prompts, write_prompts
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, build_sam, sam_model_registry
from segment_anything.build_sam import MODEL_SPECS, build_network
from segment_anything.predictor_sammed import SammedPredictor
from segment_anything.preprocessing import Preprocessing
from segment_anything.utils.transforms import ResizeLongestSide
from tests.helpers.paths import GOLDEN
from tests.helpers.photographs import PREPROCESSINGS, photograph
from tests.helpers.seeded_weights import fill, load_layout
from tests.helpers.tiny_models import TINY_SPEC, make_tiny_model
from utils import FocalDiceloss_IoULoss, generate_point, setting_prompt_none

SIZE, LOW = 64, 16


@pytest.fixture
def sam(tmp_path, tiny_type):
    """A model built as SAM-Med2D builds one, from a plain state dict."""
    torch.save({"model": make_tiny_model(encoder_adapter=True).state_dict()}, tmp_path / "weights.pth")
    args = Namespace(image_size=SIZE, sam_checkpoint=str(tmp_path / "weights.pth"), encoder_adapter=True)
    return sam_model_registry["vit_t"](args).to("cpu").eval()


def set_up(cls, preprocessing=None, image=None):
    model = make_tiny_model()
    model.preprocessing = preprocessing or Preprocessing(SIZE)
    predictor = cls(model)
    predictor.set_image(photograph(73, 91) if image is None else image, "RGB")
    return predictor


def test_arguments_may_be_any_object(tiny_type):
    args = SimpleNamespace(image_size=SIZE, sam_checkpoint=None, encoder_adapter=True)
    assert sam_model_registry["vit_t"](args).image_size == SIZE


def test_build_sam_alone_builds_the_default_model(monkeypatch):
    monkeypatch.setitem(MODEL_SPECS, "default", TINY_SPEC)
    assert build_sam(image_size=SIZE).image_encoder.blocks[0].attn.proj.out_features == TINY_SPEC.embed_dim


def test_attributes_that_code_reads(sam):
    assert sam.device == torch.device("cpu") and sam.image_format == "RGB" and sam.mask_threshold == 0.0
    assert sam.image_encoder.img_size == SIZE
    assert tuple(sam.prompt_encoder.image_embedding_size) == (4, 4)
    assert tuple(sam.prompt_encoder.input_image_size) == (SIZE, SIZE)
    predictor = SamPredictor(sam)
    assert predictor.device == sam.device and not predictor.is_image_set and predictor.original_size is None
    predictor.set_image(photograph(73, 91))
    assert predictor.is_image_set and predictor.original_size == (73, 91)


# --- SAM's predictor notebook ---------------------------------------------------------------------------------


def test_points_then_their_mask_then_a_box():
    predictor = set_up(SamPredictor)
    point, label = np.array([[30, 40]]), np.array([1])
    masks, scores, logits = predictor.predict(point_coords=point, point_labels=label, multimask_output=True)
    assert masks.shape == (3, 73, 91) and scores.shape == (3,) and logits.shape == (3, LOW, LOW)
    mask_input = logits[np.argmax(scores), :, :]
    masks, _, _ = predictor.predict(
        point_coords=np.array([[30, 40], [50, 20]]),
        point_labels=np.array([1, 0]),
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    assert masks.shape == (1, 73, 91)
    box = np.array([10, 20, 60, 70])
    alone = predictor.predict(point_coords=None, point_labels=None, box=box[None, :], multimask_output=False)
    assert [array.shape for array in alone] == [(1, 73, 91), (1,), (1, LOW, LOW)]
    with_point = predictor.predict(point_coords=point, point_labels=np.array([0]), box=box, multimask_output=False)
    assert with_point[0].shape == (1, 73, 91)
    assert predictor.get_image_embedding().shape == (1, 256, 4, 4)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
def test_a_batch_of_prompts_by_transform_and_predict_torch(preprocessing):
    """The transform brings positions to where `predict` has them."""
    predictor, image = set_up(SamPredictor, preprocessing), photograph(73, 91)
    boxes = torch.tensor([[10, 20, 60, 70], [5, 5, 30, 40]], device=predictor.device)
    moved = predictor.transform.apply_boxes_torch(boxes, image.shape[:2])
    masks, scores, low_res = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=moved, multimask_output=False
    )
    assert masks.shape == (2, 1, 73, 91) and scores.shape == (2, 1) and low_res.shape == (2, 1, LOW, LOW)
    expected = predictor.predict(box=boxes.numpy(), multimask_output=False)
    assert np.array_equal(masks.numpy(), expected[0])
    point = torch.tensor([[[30.0, 40.0]]])
    masks, _, _ = predictor.predict_torch(
        predictor.transform.apply_coords_torch(point, image.shape[:2]), torch.tensor([[1]])
    )
    assert np.array_equal(masks[0].numpy(), predictor.predict(point[0].numpy(), np.array([1]))[0])
    with pytest.raises(ValueError, match=r"a size of \(91, 73\): the photograph that is set has \(73, 91\)"):
        predictor.transform.apply_boxes(boxes.numpy(), (91, 73))


def prepare_image(image: np.ndarray, transform: ResizeLongestSide, sam) -> torch.Tensor:
    resized = transform.apply_image(image)
    return torch.as_tensor(resized, device=sam.device).permute(2, 0, 1).contiguous()


def test_a_batch_of_images_through_the_model(sam):
    transform = ResizeLongestSide(sam.image_encoder.img_size)
    images = [photograph(97, 131), photograph(80, 60)]
    boxes = torch.tensor([[10, 20, 60, 70], [5, 5, 30, 40]], device=sam.device)
    batch = [
        {
            "image": prepare_image(image, transform, sam),
            "boxes": transform.apply_boxes_torch(boxes, image.shape[:2]),
            "original_size": image.shape[:2],
        }
        for image in images
    ]
    outputs = sam(batch, multimask_output=False)
    for image, output in zip(images, outputs, strict=True):
        assert output["masks"].shape == (2, 1, *image.shape[:2]) and output["masks"].dtype == torch.bool
        assert output["iou_predictions"].shape == (2, 1) and output["low_res_logits"].shape == (2, 1, LOW, LOW)


def test_a_resized_image_set_by_hand_is_that_of_the_model(sam):
    """`set_torch_image` with SAM's resizing answers as `Sam.forward` does."""
    image, transform = photograph(97, 131), ResizeLongestSide(SIZE)
    resized = prepare_image(image, transform, sam)
    predictor = SamPredictor(sam)
    predictor.set_torch_image(resized[None], image.shape[:2])
    boxes = transform.apply_boxes_torch(torch.tensor([[10, 20, 60, 70]]), image.shape[:2])
    masks, iou, low_res = predictor.predict_torch(boxes=boxes, return_logits=True)
    output = sam([{"image": resized, "boxes": boxes, "original_size": image.shape[:2]}], True)[0]
    torch.testing.assert_close(low_res, output["low_res_logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(iou, output["iou_predictions"], atol=1e-5, rtol=0)
    assert torch.equal(masks > 0, output["masks"]) and predictor.input_size == tuple(resized.shape[1:])
    torch.testing.assert_close(
        predictor.transform.apply_boxes_torch(torch.tensor([[10, 20, 60, 70]]), (97, 131)), boxes, atol=0.3, rtol=0
    )
    with pytest.raises(ValueError, match=r"shape \[1, 3, 20, 30\]: give \[1, 3, h, w\] with a longer side of 64"):
        predictor.set_torch_image(torch.zeros(1, 3, 20, 30), (97, 131))
    with pytest.raises(ValueError, match="zoom needs the photograph itself"):
        predictor.predict(box=np.array([10, 20, 60, 70]), zoom=True)


@pytest.mark.parametrize(("size", "expected"), [((97, 131), (47, 64)), ((80, 60), (64, 48)), ((32, 32), (64, 64))])
def test_the_longer_side_is_resized_as_segment_anything_does(size, expected):
    transform, image = ResizeLongestSide(SIZE), photograph(*size)
    height, width = expected
    assert transform.get_preprocess_shape(*size, SIZE) == expected
    pil = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    assert np.array_equal(transform.apply_image(image), np.asarray(pil))
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    smooth = F.interpolate(batch, expected, mode="bilinear", align_corners=False, antialias=True)
    assert torch.equal(transform.apply_image_torch(batch), smooth)
    boxes = np.array([[1, 2, 30, 40], [5, 6, 7, 8]])
    scale = np.array([width / size[1], height / size[0]] * 2)
    np.testing.assert_allclose(transform.apply_boxes(boxes, size), boxes * scale)
    np.testing.assert_allclose(transform.apply_coords(boxes[:, :2], size), boxes[:, :2] * scale[:2])
    assert transform.apply_coords_torch(torch.tensor(boxes[:, :2]), size).dtype == torch.float32


def test_automatic_masks_by_their_usual_call(sam):
    generator = SamAutomaticMaskGenerator(
        model=sam,
        points_per_side=2,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        crop_n_layers=1,
        crop_n_points_downscale_factor=2,
        min_mask_region_area=10,
    )
    masks = generator.generate(photograph(73, 91))
    by_area = sorted(masks, key=lambda record: record["area"], reverse=True)
    assert by_area and by_area[0]["segmentation"].shape == (73, 91)
    assert {"bbox", "predicted_iou", "point_coords", "stability_score", "crop_box"} < by_area[0].keys()


# --- SAM-Med2D ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
def test_sammed_predictor_returns_the_best_candidate(preprocessing):
    predictor, all_three = set_up(SammedPredictor, preprocessing), set_up(SamPredictor, preprocessing)
    prompts = {"point_coords": np.array([[30, 40], [50, 20]]), "point_labels": np.array([1, 0])}
    masks, scores, logits = predictor.predict(**prompts, multimask_output=True)
    assert masks.shape == (1, 73, 91) and scores.shape == (1,) and logits.shape == (1, LOW, LOW)
    assert masks.dtype == np.float32 and set(np.unique(masks)) <= {0.0, 1.0}
    candidates, ious, low_res = all_three.predict(**prompts)
    best = ious.argmax()
    assert np.array_equal(masks[0] > 0, candidates[best]) and scores[0] == ious[best]
    np.testing.assert_array_equal(logits[0], low_res[best])
    again = predictor.predict(**prompts, mask_input=logits, return_logits=True)[0]
    assert again.shape == (1, 73, 91) and len(np.unique(again)) > 2
    assert predictor.predict(box=np.array([10, 20, 60, 70]), multimask_output=False)[0].shape == (1, 73, 91)


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=str)
def test_sammed_predictor_takes_a_mask_as_its_notebook_gives_it(preprocessing):
    """The sigmoid of the logits of an earlier call, an array or a tensor."""
    predictor, general = set_up(SammedPredictor, preprocessing), set_up(SamPredictor, preprocessing)
    point = {"point_coords": np.array([[30, 40]]), "point_labels": np.array([1])}
    logits = predictor.predict(**point)[2]
    probability = torch.sigmoid(torch.as_tensor(logits, dtype=torch.float))
    taken = logits if preprocessing.mask_prompt == "probability" else probability.numpy()
    masks, iou, low_res = general.predict(**point, mask_input=taken, return_logits=True)
    for given in (probability, probability.numpy()):
        found = predictor.predict(**point, mask_input=given, return_logits=True)
        np.testing.assert_allclose(found[0][0], masks[iou.argmax()], atol=1e-5)
    found = predictor.predict_torch(
        *(predictor._prompts(*point.values(), None, None)[name] for name in ("point_coords", "point_labels")),
        mask_input=probability[None],
    )
    np.testing.assert_allclose(found[2][0, 0], low_res[iou.argmax()], atol=1e-5)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_sammed_predictor_takes_pixels_in_the_order_of_its_weights(order):
    """Its notebook gives what OpenCV reads, and does not say so."""
    predictor, image = set_up(SammedPredictor, Preprocessing(SIZE, "sam_med2d", order)), photograph(73, 91)
    predictor.set_image(image)
    found = predictor.get_image_embedding()
    predictor.set_image(image, order.upper())
    assert torch.equal(predictor.get_image_embedding(), found)
    predictor.set_image(image[..., ::-1])
    assert not torch.equal(predictor.get_image_embedding(), found)


def test_sammed_predictor_takes_boxes_as_its_notebook_gives_them():
    predictor, image = set_up(SammedPredictor), photograph(73, 91)
    boxes = torch.tensor([[10, 20, 60, 70], [5, 5, 30, 40]], device=predictor.device)
    moved = predictor.apply_boxes_torch(boxes, image.shape[:2], predictor.new_size)
    masks, scores, _ = predictor.predict_torch(point_coords=None, point_labels=None, boxes=moved, multimask_output=True)
    assert masks.shape == (2, 1, 73, 91) and scores.shape == (2, 1) and masks.dtype == torch.float32
    of_arrays = predictor.apply_boxes(boxes.numpy(), predictor.original_size, predictor.new_size)
    np.testing.assert_allclose(of_arrays, moved, rtol=1e-6)
    point = predictor.apply_coords(np.array([[30, 40]]), predictor.original_size, predictor.new_size)
    np.testing.assert_allclose(point, predictor.frame.points_to_model([[30, 40]]))
    assert predictor.devices == predictor.device
    for box, mask in zip(boxes.numpy(), masks.numpy(), strict=True):
        assert np.array_equal(predictor.predict(box=box)[0], mask)
    predictor.reset_image()
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict(box=boxes[0].numpy())


@torch.no_grad()
def test_the_three_parts_called_one_by_one(sam):
    """As SAM-Med2D's train.py and test.py call them."""
    image = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    embeddings = sam.image_encoder(image)
    boxes = torch.tensor([[[10.0, 20, 40, 50]], [[5.0, 5, 30, 40]]])
    sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
    low_res, iou = sam.mask_decoder(
        image_embeddings=embeddings,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    assert low_res.shape == (2, 3, LOW, LOW) and iou.shape == (2, 3)
    expected = sam.decode(embeddings, boxes=boxes[:, 0])
    torch.testing.assert_close(low_res, expected.logits)
    points = (torch.rand(2, 3, 2) * SIZE, torch.tensor([[1, 0, 1], [1, 1, -1]]))
    sparse, dense = sam.prompt_encoder(points=points, boxes=None, masks=torch.sigmoid(low_res[:, :1]))
    assert sparse.shape == (2, 4, 256) and dense.shape == (2, 256, 4, 4)


@torch.no_grad()
def test_the_decoder_called_by_its_public_names_gives_the_golden_numbers():
    layout = load_layout(GOLDEN / "vit_b_256.layout.json")
    layout = {name: shape for name, shape in layout.items() if "image_encoder" not in name}
    model = build_network(TINY_SPEC, image_size=256, encoder_adapter=False).eval()
    state = {name: torch.from_numpy(array) for name, array in fill(layout, smooth=True).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith("image_encoder") for name in missing)
    arrays = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / "golden_smooth_vit_b_256.npz").items()}
    sparse, dense = model.prompt_encoder(points=None, boxes=arrays["boxes"], masks=None)
    low_res, iou = model.mask_decoder(
        image_embeddings=arrays["embedding"],
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    torch.testing.assert_close(low_res, arrays["box_multi_low_res"], atol=1e-4, rtol=0)
    torch.testing.assert_close(iou, arrays["box_multi_iou"], atol=1e-4, rtol=0)


def test_all_public_names_are_there():
    assert {"default", "vit_h", "vit_l", "vit_b", "vit_t"} <= set(sam_model_registry)
    assert MODEL_SPECS["default"] is MODEL_SPECS["vit_h"]


# --- SAM-Med2D's scripts --------------------------------------------------------------------------------------


def decode(sam, embedding, batch):
    """As the scripts do: low-resolution logits [N, 1, s, s] of the best candidate, and its predicted IoU [N, 1]."""
    points = None if batch["point_coords"] is None else (batch["point_coords"], batch["point_labels"])
    sparse, dense = sam.prompt_encoder(points=points, boxes=batch.get("boxes"), masks=batch.get("mask_inputs"))
    low_res, iou = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    best, index = iou.max(dim=1, keepdim=True)
    return low_res[torch.arange(len(iou)), index[:, 0]][:, None], best


def back_to_picture(low_res, original_size):
    """Logits [1, 1, H, W] at the picture's own size."""
    masks = F.interpolate(low_res, (SIZE, SIZE), mode="bilinear", align_corners=False)
    height, width = (int(side) for side in original_size)
    if height < SIZE and width < SIZE:
        top, left = (SIZE - height) // 2, (SIZE - width) // 2
        return masks[..., top : top + height, left : left + width]
    return F.interpolate(masks, (height, width), mode="bilinear", align_corners=False)


@torch.no_grad()
def public_evaluation(sam, prompt_path, *, box):
    """IoU and Dice of each test mask, by name, as SAM-Med2D's test.py computes them with the names at the root."""
    dataset = TestingDataset(data_path="data_demo", image_size=SIZE, mode="test", prompt_path=prompt_path)
    scores, criterion = {}, FocalDiceloss_IoULoss()
    for batch in DataLoader(dataset, batch_size=1):
        if not batch["label"].any():  # vanished in the model frame: SAM-Med2D's own script would stop
            continue
        batch["boxes" if not box else "point_coords"] = None
        low_res, iou = decode(sam, sam.image_encoder(batch["image"]), batch)
        masks = back_to_picture(low_res, batch["original_size"])
        scores[batch["name"][0]] = SegMetrics(masks, batch["ori_label"], ["iou", "dice"])
        assert criterion(masks, batch["ori_label"], iou).isfinite()
    return scores


@pytest.mark.parametrize("prompt", ["box", "1"])
def test_an_evaluation_gives_what_the_evaluator_gives(sam, tmp_path, prompt):
    preprocessing = Preprocessing(SIZE, "sam_med2d", channel_order="bgr")
    dataset = FundusDataset(load_index("data_demo", "test"), preprocessing, keep_truth=True)
    batch = collate([dataset[i] for i in range(len(dataset))])
    prompts = make_prompts(batch, point_num=1, seed=0)
    write_prompts(tmp_path / "prompts.json", [prompts])
    predictions = predict_batch(sam, batch, prompts, [parse_mode(prompt)], seed=0)
    rows = [row for own in score_batch(batch, predictions, ["iou", "dice"]) for row in own]
    found = public_evaluation(sam, tmp_path / "prompts.json", box=prompt == "box")
    expected = {row.mask: [row.scores["iou"], row.scores["dice"]] for row in rows if not row.vanished}
    assert found.keys() == expected.keys() and max(dice for _, dice in expected.values()) > 0.1
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores, atol=1e-3, err_msg=name)


def test_a_training_step_goes_through(sam):
    """As SAM-Med2D's train.py: a first prompt, then rounds of clicks, and the mask alone in the last one."""
    batch = next(iter(DataLoader(TrainingDataset("data_demo", image_size=SIZE, mask_num=2), batch_size=2)))
    batch = stack_dict_batched(batch) | {"boxes": None}
    criterion, optimizer = FocalDiceloss_IoULoss(), torch.optim.Adam(sam.train().parameters(), lr=1e-3)
    embedding = sam.image_encoder(batch["image"]).repeat_interleave(2, dim=0)
    before, labels = {name: p.detach().clone() for name, p in sam.named_parameters()}, batch["label"].float()
    for number in range(3):
        low_res, iou = decode(sam, embedding, batch)
        masks = F.interpolate(low_res, (SIZE, SIZE), mode="bilinear", align_corners=False)
        loss = criterion(masks, labels, iou)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        batch = generate_point(masks, labels, low_res, batch, point_num=3)
        batch = setting_prompt_none(batch) if number == 1 else batch
        embedding = embedding.detach()
        assert loss.isfinite() and SegMetrics(masks, labels, ["iou", "dice"]).shape == (2,)
    moved = {name for name, p in sam.named_parameters() if not torch.equal(p, before[name])}
    assert any(".Adapter." in name for name in moved) and any("mask_decoder" in name for name in moved)
