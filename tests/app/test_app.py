"""The annotation app: answers as in testing, masks that are data, and nothing lost when the server is killed."""

import json
import os
import re
import signal
import socket
import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, Thread

import cv2
import httpx2
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from app import server
from app.annotations import ABSENT_VERSION, Annotations
from app.annotator import KEPT, Annotator
from app.stamps import stamp_of
from app.web import build, serve
from sam_med2d.data.photographs import find_photographs
from sam_med2d.data.record_checks import load_checked
from sam_med2d.errors import DataError, UsageError
from sam_med2d.inference.photograph_prediction import encode, predict_click_sequence
from sam_med2d.inference.prompt_sources import Prompt
from sam_med2d.prompts.click_loop import ClickPolicy, click_rounds
from sam_med2d.prompts.simulation import box_points, pad_points
from sam_med2d.runtime import cli
from segment_anything.build_sam import build_sam
from segment_anything.modeling import Sam
from segment_anything.refinement.refine import Refinement
from segment_anything.utils.rle import mask_to_rle, rle_to_mask
from tests.helpers.photographs import photograph
from tests.helpers.predicting import SIZE, STRUCTURES, predictor_of, write_folder, write_picture, write_weights
from tests.helpers.tiny_scripts import fork

TOKEN = "a-token-of-the-tests"
KNOWN = {"Authorization": f"Bearer {TOKEN}"}
ORIENTATION = 274  # of EXIF


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", detail="light")


@pytest.fixture
def model(weights, tiny_type):
    return build_sam("vit_t", weights).eval()


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "in")


@pytest.fixture
def client(model, folder, tmp_path):
    return client_of(model, folder, tmp_path / "out")


def client_of(model: Sam, folder: Path, out: Path, *structures: str, split: str = "train") -> TestClient:
    photographs = find_photographs([str(folder)])
    annotations = Annotations(out, split, photographs, (*STRUCTURES, *structures))
    annotator = Annotator(model, photographs, multimask=False, max_pixels=10**6)
    return TestClient(build(annotator, annotations, token=TOKEN), base_url="http://localhost", headers=KNOWN)


def some_mask(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random(size) < 0.3


def put(
    client: TestClient, number: int, structure: str, mask: np.ndarray, *, confirmed: bool = True
) -> httpx2.Response:
    return client.put(place(number, structure), json=mask_to_rle(mask, compressed=False) | {"confirmed": confirmed})


def place(number: int, structure: str) -> str:
    return f"/api/photographs/{number}/masks/{structure}"


def ask(client: TestClient, number: int, structure: str = "optic_disc", **question: object) -> httpx2.Response:
    return client.post(f"/api/photographs/{number}/answer", json={"structure": structure, **question})


# --- nothing is lost ---------------------------------------------------------------------------------------------


def test_a_save_that_takes_much_of_a_mask_is_refused_until_it_is_confirmed(client, tmp_path):
    mask = np.zeros(SIZE, bool)
    mask[10:40, 10:40] = True
    assert put(client, 0, "vessel", mask, confirmed=False).status_code == 200
    little, much = mask.copy(), mask.copy()
    little[10:12, 10:40], much[10:20, 10:40] = False, False
    refused = put(client, 0, "vessel", much, confirmed=False)
    assert refused.status_code == 428
    assert "takes 300 of the 900 pixels of the saved mask of vessel" in refused.json()["detail"]
    assert (rle_to_mask(client.get(place(0, "vessel")).json()) == mask).all()
    assert put(client, 0, "vessel", little, confirmed=False).status_code == 200
    assert put(client, 0, "vessel", much).status_code == 200
    kept = sorted((tmp_path / "out/.history").iterdir())
    assert [(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) > 0).sum() for file in kept] == [900, 840]
    assert all("_vessel_000.20" in file.name for file in kept)


def test_entries_that_other_programs_add_to_map_and_table_stay(client, tmp_path):
    assert put(client, 0, "vessel", some_mask()).status_code == 200
    path = tmp_path / "out/image2label_train.json"
    added = json.loads(path.read_text()) | {"other/eye.png": ["masks/other_vessel_000.png"]}
    path.write_text(json.dumps(added))
    response = put(client, 1, "vessel", some_mask(size=(74, 91)))
    assert response.status_code == 200, response.json()
    assert client.put("/api/photographs/0/absent/optic_disc").status_code == 204
    found = json.loads(path.read_text())
    assert found["other/eye.png"] == ["masks/other_vessel_000.png"] and len(found) == 3
    table = tmp_path / "out/index.csv"
    table.write_text(table.read_text() + "other/eye.png,other,haemorrhage\n")
    assert client.put("/api/photographs/1/absent/optic_disc").status_code == 204
    assert "other/eye.png,other,haemorrhage" in table.read_text() and table.read_text().count("optic_disc") == 2


def test_a_photograph_that_changed_since_it_was_opened_takes_no_prompt_and_no_mask(client, folder):
    files = [Path(photograph.path) for photograph in find_photographs([str(folder)])]
    assert client.get("/api/photographs/0/image").status_code == 200
    old = files[0].read_bytes()
    write_picture(files[0], photograph(40, 50))
    for response in (ask(client, 0, box=[5, 5, 30, 30]), put(client, 0, "vessel", some_mask())):
        assert response.status_code == 409
        assert "has changed on the disk since it was opened" in response.json()["detail"]
    assert client.get("/api/photographs/0/image").status_code == 200  # opened again
    assert ask(client, 0, box=[5, 5, 30, 30]).json()["mask"]["size"] == [40, 50]
    assert put(client, 0, "vessel", some_mask(size=(40, 50))).status_code == 200
    files[0].unlink()
    response = put(client, 0, "vessel", some_mask(size=(40, 50)))
    assert response.status_code == 409 and "is gone" in response.json()["detail"]
    files[0].write_bytes(old)


def test_another_file_of_the_same_time_and_size_is_noticed_before_a_mask_is_saved(model, tmp_path):
    path = write_picture(tmp_path / "in/eye.bmp", seed=0)
    client = client_of(model, tmp_path / "in", tmp_path / "out")
    first, before = client.get("/api/photographs/0/image"), path.stat()
    assert ask(client, 0, box=[20, 15, 60, 50]).status_code == put(client, 0, "vessel", some_mask(1)).status_code == 200
    with path.open("r+b") as file:
        file.seek(-3000, os.SEEK_END)
        file.write(bytes(3000))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stamp_of(path) == (before.st_mtime_ns, before.st_ino, before.st_size)
    refused = put(client, 0, "vessel", some_mask(2))
    assert refused.status_code == 409 and "has changed on the disk" in refused.json()["detail"]
    assert (rle_to_mask(client.get(place(0, "vessel")).json()) == some_mask(1)).all()
    assert client.get("/api/photographs/0/image").content != first.content
    assert put(client, 0, "vessel", some_mask(2)).status_code == 200


def test_each_page_draws_on_the_photograph_that_it_was_given(client, folder):
    """A page that has opened a photograph before it changed is told so, also when another page has the new one."""
    old, new = {"X-Page": "old"}, {"X-Page": "new"}
    assert client.get("/api/photographs/0/image", params={"page": "old"}).status_code == 200
    write_picture(folder / "left/eye.png", photograph(*SIZE)[::-1].copy())
    assert client.get("/api/photographs/0/image", params={"page": "new"}).status_code == 200
    rle, prompt = mask_to_rle(some_mask(), compressed=False), {"structure": "vessel", "box": [5, 5, 30, 30]}
    for page, status in ((old, 409), (new, 200)):
        assert client.post("/api/photographs/0/answer", json=prompt, headers=page).status_code == status
        assert client.put(place(0, "vessel"), json=rle, headers=page).status_code == status


# --- answers ------------------------------------------------------------------------------------------------------


def opening_of(kind: str, model: Sam) -> tuple[Prompt, tuple[torch.Tensor, torch.Tensor]]:
    """The same opening as the app's prompt, and as the click loop's points in the model frame."""
    frame = encode(model, photograph(*SIZE)).frame
    if kind == "box":
        corners = torch.tensor(frame.boxes_to_model(np.array([[20.0, 15, 60, 50]])), dtype=torch.float32)
        return Prompt("optic_disc", box=(20, 15, 60, 50)), box_points(corners)
    if kind == "structure":
        return Prompt("optic_disc", structure=True), model.prompt_encoder.structure_points(["optic_disc"])
    coords = torch.tensor(frame.points_to_model(np.array([[30.0, 30]])), dtype=torch.float32)
    return Prompt("optic_disc", points=((30, 30, 1),)), pad_points((coords[None], torch.ones(1, 1).long()))


@torch.no_grad()
@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("kind", ["box", "structure", "click"])
def test_clicks_are_answered_as_in_testing(model, kind, multimask):
    """Given the clicks that the click loop draws, the app shows the loop's mask after each of them."""
    image, truth = photograph(*SIZE), torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    truth[..., 10:50, 12:40] = True
    encoded = encode(model, image)
    prompt, opening = opening_of(kind, model)
    randomness = [torch.Generator().manual_seed(0)]
    rounds = click_rounds(
        model,
        encoded.embedding,
        torch.zeros(1, dtype=torch.int64),
        truth,
        opening,
        ClickPolicy(rounds=4, multimask=multimask),
        randomness,
        features=encoded.detail,
    )
    known = opening[1].shape[1]
    for number, result in enumerate(rounds):
        drawn = zip(result.points[0][0, known:], result.points[1][0, known:], strict=True)
        clicks = [(*encoded.frame.points_to_original(xy.numpy()), int(label)) for xy, label in drawn]
        assert len(clicks) == number
        later = replace(prompt, points=(*prompt.points, *clicks))
        answer = predict_click_sequence(model, encoded, later, Refinement(multimask=multimask))
        expected = encoded.frame.logits_to_original(result.low_res)[0, 0] > 0
        assert expected.any() and not expected.all()
        assert (answer.mask() != expected.numpy()).mean() < 1e-3  # sums in another order
        assert answer.predicted_iou == pytest.approx(float(result.predicted_iou), abs=1e-5)


def test_a_prompt_that_asks_for_nothing(model):
    with pytest.raises(ValueError, match="neither a box nor a click nor a name"):
        predict_click_sequence(model, encode(model, photograph(*SIZE)), Prompt("optic_disc"))


def test_answers_are_the_predictors(client, weights, folder):
    """Structure prompts, refined or not, and a box: masks and predicted IoU of SamPredictor."""
    predictor = predictor_of(weights, folder / "left/eye.png")
    for settings in ({}, {"mirror": True}, {"tiles": True, "mirror": True}, {"zoom": True}):
        answer = ask(client, 0, "vessel", structure_prompt=True, **settings).json()
        mask, iou = predictor.predict_structures(["vessel"], multimask_output=False, **settings)["vessel"]
        assert (rle_to_mask(answer["mask"]) == mask).all() and mask.any()
        assert answer["predicted_iou"] == pytest.approx(iou) and 0 < answer["presence"] < 1 and not answer["absent"]
    answer = ask(client, 0, box=[20, 15, 60, 50], zoom=True).json()
    masks, iou, _ = predictor.predict(box=np.array([20, 15, 60, 50]), multimask_output=False, zoom=True)
    assert (rle_to_mask(answer["mask"]) == masks[0]).all() and answer["presence"] is None
    assert answer["predicted_iou"] == pytest.approx(float(iou[0]))


def test_an_absent_structure_comes_back_empty_until_it_is_clicked_on(client):
    answer = ask(client, 0, "drusen", structure_prompt=True).json()
    assert answer["absent"] and not rle_to_mask(answer["mask"]).any()
    answer = ask(client, 0, "drusen", structure_prompt=True, clicks=[{"x": 30, "y": 30}]).json()
    assert not answer["absent"] and rle_to_mask(answer["mask"]).any()
    assert answer["presence"] is not None


def test_the_last_photographs_stay_encoded(model, folder, monkeypatch):
    for seed in range(KEPT):
        write_picture(folder / f"more{seed}.png", seed=seed)
    client, encoded, original = client_of(model, folder, folder.parent / "out"), [], Sam.encode_all
    monkeypatch.setattr(Sam, "encode_all", lambda self, pixels: encoded.append(1) or original(self, pixels))
    for number, count in ((0, 1), (0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (4, 5), (0, 5), (1, 6)):
        assert ask(client, number, box=[20, 15, 60, 50]).status_code == 200
        assert len(encoded) == count


@pytest.mark.parametrize(
    ("question", "status", "words"),
    [
        ({"clicks": [{"x": 500, "y": 3}]}, 422, "point 500, 3 lies outside the photograph (91 x 73 pixels)"),
        ({"box": [20, 15, 20, 50]}, 422, "box 20, 15, 20, 50: these look like x, y, width, height"),
        ({"box": [0.2, 0.2, 0.8, 0.8]}, 422, "shares of the photograph"),
        ({"clicks": [{"x": 0.4, "y": 0.5}]}, 422, "shares of the photograph"),
        ({}, 422, "neither a box nor a click nor a name"),
        ({"structure": "fovea", "clicks": [{"x": 3, "y": 3}]}, 404, "--structures fovea"),
        ({"structure": "drawn", "structure_prompt": True}, 422, "do not know drawn by name"),
        ({"clicks": [{"x": "NaN", "y": 3}]}, 422, "clicks.0.x = 'NaN': input should be a finite number."),
        ({"clicks": [{"x": "a"}]}, 422, "clicks.0.x = 'a': input should be a valid number"),
        ({"clicks": [{"x": 4}]}, 422, "clicks.0.y is missing: give it."),
        ({"box": [1, 2, 3]}, 422, "box.3 is missing: give it."),
    ],
)
def test_questions_that_cannot_be_answered(model, folder, question, status, words):
    client = client_of(model, folder, folder.parent / "out", "drawn")
    response = client.post("/api/photographs/0/answer", json={"structure": "optic_disc", **question})
    assert response.status_code == status and words in json.dumps(response.json())


def test_photographs_are_shown_upright_and_missing_ones_named(client, folder):
    picture = client.get("/api/photographs/0/image")
    assert cv2.imdecode(np.frombuffer(picture.content, np.uint8), 1).shape == (*SIZE, 3)
    (folder / "third.png").write_bytes(b"no picture")
    for response in (client.get("/api/photographs/2/image"), ask(client, 2, structure_prompt=True)):
        assert response.status_code == 409 and "third.png" in response.json()["detail"]
    assert client.get("/api/photographs/3/image").status_code == 404
    write_picture(folder / "third.png", np.zeros((70_000, 1, 3), np.uint8))
    response = client.get("/api/photographs/2/image")
    assert response.status_code == 409 and "a side above 65500 pixels" in response.json()["detail"]


def test_a_page_of_elsewhere_is_not_answered(client):
    assert client.get("/api/project", headers={"Host": "evil.example"}).status_code == 400
    page = client.get("/")
    assert "main.js" in page.text and page.headers["Content-Security-Policy"].startswith("default-src 'self'")
    imported = re.findall(r'"\./(\w+\.js)"', client.get("/static/main.js").text)
    for name in [*re.findall(r"/static/[\w.]+", page.text), *(f"/static/{name}" for name in imported)]:
        assert client.get(name).status_code == 200, name
    assert client.get("/static/../server.py").status_code == 404
    assert client.get("/static/%2e%2e/server.py").status_code == 404


# --- masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_saved_masks_are_a_data_set(model, folder, tmp_path, split):
    """What is saved is read back, listed, loaded by the training's own reader, and found by a new server."""
    client = client_of(model, folder, tmp_path / "out", split=split)
    masks = {(0, "optic_disc"): some_mask(1), (0, "vessel"): some_mask(2), (1, "vessel"): some_mask(3, (74, 91))}
    for (number, structure), mask in masks.items():
        assert put(client, number, structure, mask).status_code == 200
    again = client_of(model, folder, tmp_path / "out", split=split)
    for one in (client, again):
        assert [item["done"] for item in one.get("/api/project").json()["photographs"]] == [
            ["optic_disc", "vessel"],
            ["vessel"],
            [],
        ]
        for (number, structure), mask in masks.items():
            assert (rle_to_mask(one.get(place(number, structure)).json()) == mask).all()
    records = load_checked(tmp_path / "out", split)
    assert [record.image.resolve() for record in records] == [folder / "left/eye.png", folder / "right/eye.png"]
    assert [[mask.structure for mask in record.masks] for record in records] == [["optic_disc", "vessel"], ["vessel"]]


def test_a_mask_of_a_photograph_that_is_turned_behind_its_pixels(model, tmp_path):
    """A PNG's EXIF may stand at its end: what was saved is read back all the same."""
    folder = tmp_path / "in"
    folder.mkdir()
    told = Image.Exif()
    told[ORIENTATION] = 6
    exif = told.tobytes().removeprefix(b"Exif\0\0")
    data = cv2.imencode(".png", photograph(*SIZE))[1].tobytes()
    end = data.rindex(b"IEND") - 4
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    (folder / "turned.png").write_bytes(data[:end] + chunk + data[end:])
    client, mask = client_of(model, folder, tmp_path / "out"), some_mask(1, SIZE[::-1])
    assert put(client, 0, "vessel", mask).status_code == 200
    assert (rle_to_mask(client.get(place(0, "vessel")).json()) == mask).all()


def test_a_mask_is_replaced_and_removed(client, tmp_path):
    file = tmp_path / "out/masks/left/eye_optic_disc_000.png"
    for seed in (1, 2):
        assert Path(put(client, 0, "optic_disc", some_mask(seed)).json()["file"]) == file
    assert (rle_to_mask(client.get(place(0, "optic_disc")).json()) == some_mask(2)).all()
    put(client, 0, "vessel", some_mask(3))
    assert client.delete(place(0, "optic_disc")).status_code == 204
    assert client.get(place(0, "optic_disc")).status_code == 404 and not file.exists()
    assert file.with_name(f"{file.name}.old").is_file()
    assert client.delete(place(0, "vessel")).status_code == 204
    assert json.loads((tmp_path / "out/image2label_train.json").read_text()) == {}
    assert client.delete(place(0, "vessel")).status_code == 204


def test_masks_that_are_removed_are_all_kept(client, tmp_path):
    file = tmp_path / "out/masks/left/eye_vessel_000.png"
    for seed in range(3):
        put(client, 0, "vessel", some_mask(seed))
        client.delete(place(0, "vessel"))
    for seed, ending in enumerate(("old", "old1", "old2")):
        kept = np.fromfile(file.with_name(f"{file.name}.{ending}"), np.uint8)
        assert (cv2.imdecode(kept, 0) > 0).tolist() == some_mask(seed).tolist()
    put(client, 0, "vessel", some_mask(3))
    file.unlink()
    assert client.delete(place(0, "vessel")).status_code == 204


def test_a_mask_that_a_page_has_not_shown_is_not_replaced(client):
    def put_from_page(seed: int, headers: dict[str, str]) -> httpx2.Response:
        body = mask_to_rle(some_mask(seed), compressed=False) | {"confirmed": True}
        return client.put(place(0, "vessel"), json=body, headers=headers)

    new = {"If-None-Match": "*"}
    first = put_from_page(1, new)
    assert first.status_code == 200 and put_from_page(2, new).status_code == 412  # another page knew of none, too
    seen = {"If-Match": first.headers["ETag"]}
    assert client.get(place(0, "vessel")).headers["ETag"] == first.headers["ETag"]
    second = put_from_page(3, seen)
    assert second.status_code == 200
    assert put_from_page(4, seen).status_code == client.delete(place(0, "vessel"), headers=seen).status_code == 412
    assert (rle_to_mask(client.get(place(0, "vessel")).json()) == some_mask(3)).all()
    assert client.delete(place(0, "vessel"), headers={"If-Match": second.headers["ETag"]}).status_code == 204


def test_a_page_of_other_photographs_is_not_answered(model, folder, client, tmp_path):
    """A page stays open while the server is started anew: its numbers are of the photographs before."""
    key = client.get("/api/project").json()["key"]
    write_picture(folder / "a.png")
    other = client_of(model, folder, tmp_path / "out")
    rle = mask_to_rle(some_mask(1), compressed=False)
    for one, status in ((other, 409), (client, 200)):
        assert one.put(place(0, "vessel"), json=rle, headers={"X-Project": key}).status_code == status
    assert other.get("/api/project").json()["key"] != key


@pytest.mark.parametrize(
    ("rle", "status", "words"),
    [
        ({"size": [91, 73], "counts": [0, 91 * 73]}, 422, "the photograph [73, 91]"),
        ({"size": [73, 91], "counts": [5]}, 422, "runs of 5 pixels"),
        ({"size": [73, 91], "counts": [73 * 91]}, 409, "is empty"),
        (
            {"size": [73, 91], "counts": [-1, 73 * 91 + 1]},
            422,
            "counts.0 = -1: input should be greater than or equal to 0.",
        ),
        ({"size": [73, 91], "counts": "04"}, 422, "counts = '04': input should be a valid list."),
        ([1], 422, "the body = [1]: input should be a valid dictionary"),
    ],
)
def test_what_is_no_mask_changes_nothing(client, tmp_path, rle, status, words):
    put(client, 0, "vessel", some_mask(1))
    response = client.put(place(0, "vessel"), json=rle)
    assert response.status_code == status and words in json.dumps(response.json())
    assert (rle_to_mask(client.get(place(0, "vessel")).json()) == some_mask(1)).all()


def test_a_data_set_is_continued(model, folder, tmp_path):
    """Its masks are shown and written where they lie; other entries, and files that no map lists, stay as they are."""
    out = tmp_path / "out"
    write_picture(out / "discs/d_optic_disc_000.png", some_mask(1).astype(np.uint8) * 255)
    write_picture(out / "masks/left/eye_vessel_000.png", some_mask(4).astype(np.uint8) * 255)
    listing = {"../in/left/eye.png": ["discs/d_optic_disc_000.png"], "elsewhere.png": ["x.png"], "healthy.png": []}
    (out / "image2label_train.json").write_text(json.dumps(listing))
    client = client_of(model, folder, out)
    assert (rle_to_mask(client.get(place(0, "optic_disc")).json()) == some_mask(1)).all()
    put(client, 0, "optic_disc", some_mask(2))
    put(client, 0, "vessel", some_mask(3))
    listing["../in/left/eye.png"].append("masks/left/eye_vessel_001.png")
    assert json.loads((out / "image2label_train.json").read_text()) == listing
    assert (cv2.imread(str(out / "discs/d_optic_disc_000.png"), 0) > 0).tolist() == some_mask(2).tolist()
    assert (cv2.imread(str(out / "masks/left/eye_vessel_000.png"), 0) > 0).tolist() == some_mask(4).tolist()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_photograph_of_the_same_name_keeps_its_mask(model, tmp_path, split):
    """Photographs of two folders have one name where the server is started for each, for one split or for two."""
    for name in ("a", "b"):
        write_picture(tmp_path / name / "1.png")
    folders = (("a", "train", some_mask(1)), ("b", split, some_mask(2)))
    for name, own, mask in folders:
        put(client_of(model, tmp_path / name, tmp_path / "out", split=own), 0, "vessel", mask)
    for name, own, mask in folders:
        client = client_of(model, tmp_path / name, tmp_path / "out", split=own)
        assert (rle_to_mask(client.get(place(0, "vessel")).json()) == mask).all()
        put(client, 0, "vessel", ~mask)
    for name, own, mask in folders:
        client = client_of(model, tmp_path / name, tmp_path / "out", split=own)
        assert (rle_to_mask(client.get(place(0, "vessel")).json()) == ~mask).all()


@pytest.mark.parametrize("kind", ["tif", "size", "values", "broken", "missing"])
def test_a_listed_file_that_is_no_png_mask_of_this_size_is_left(model, folder, tmp_path, kind):
    path = tmp_path / "out" / f"masks/left/eye_vessel_000.{'tif' if kind == 'tif' else 'png'}"
    write_picture(path, some_mask(1, (50, 60) if kind == "size" else SIZE) * np.uint8(90 if kind == "values" else 255))
    if kind == "broken":
        path.write_bytes(b"no picture")
    before = path.read_bytes()
    if kind == "missing":
        path.unlink()
    listing = {"../in/left/eye.png": [path.relative_to(tmp_path / "out").as_posix()]}
    (tmp_path / "out/image2label_train.json").write_text(json.dumps(listing))
    client = client_of(model, folder, tmp_path / "out")
    shown = client.get(place(0, "vessel"))
    assert shown.status_code == (200 if kind == "tif" else 409), shown.text
    for seed in (2, 3):
        assert put(client, 0, "vessel", some_mask(seed)).status_code == 200
        assert (rle_to_mask(client.get(place(0, "vessel")).json()) == some_mask(seed)).all()
    assert kind == "missing" or path.read_bytes() == before
    assert len(load_checked(tmp_path / "out", "train")[0].masks) == 1


def test_masks_outside_the_folder_are_not_touched(model, folder, tmp_path):
    path = write_picture(tmp_path / "theirs/eye_vessel_000.png", some_mask(1).astype(np.uint8) * 255)
    (tmp_path / "out").mkdir()
    listing = {"../in/left/eye.png": ["../theirs/eye_vessel_000.png"]}
    (tmp_path / "out/image2label_train.json").write_text(json.dumps(listing))
    client, before = client_of(model, folder, tmp_path / "out"), path.read_bytes()
    response = put(client, 0, "vessel", some_mask(2))
    assert response.status_code == 409 and "copy the data set first" in response.json()["detail"]
    client.delete(place(0, "vessel"))
    assert path.read_bytes() == before
    assert json.loads((tmp_path / "out/image2label_train.json").read_text()) == {}


def test_several_masks_of_a_structure_are_refused(folder, tmp_path):
    (tmp_path / "out").mkdir()
    listing = {"../in/left/eye.png": ["masks/eye_vessel_000.png", "masks/eye_vessel_001.png"]}
    (tmp_path / "out/image2label_train.json").write_text(json.dumps(listing))
    with pytest.raises(DataError, match="several masks of vessel"):
        Annotations(tmp_path / "out", "train", find_photographs([str(folder)]))


def test_two_names_of_a_photograph_are_refused(folder, tmp_path):
    (tmp_path / "out").mkdir()
    listing = {"../in/left/eye.png": ["eye_vessel_000.png"], str(folder / "left/eye.png"): ["eye_drusen_000.png"]}
    (tmp_path / "out/image2label_train.json").write_text(json.dumps(listing))
    with pytest.raises(DataError, match="names one photograph ../in/left/eye.png and "):
        Annotations(tmp_path / "out", "train", find_photographs([str(folder)]))


def test_a_name_that_is_not_utf8_and_nothing_to_annotate_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match="--structures NAME"):
        Annotations(tmp_path / "out", "train", find_photographs([str(folder)]))
    (folder / "third.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(UsageError, match=r"caf\\udce9\.png: this name is no UTF-8 text"):
        Annotations(tmp_path / "out", "train", find_photographs([str(folder)]), ["vessel"])


def test_names_that_would_be_mixed_up_are_refused(tmp_path):
    for name in ("a.png", "a_optic.png"):
        write_picture(tmp_path / "in" / name)
    photographs = find_photographs([str(tmp_path / "in")])
    with pytest.raises(UsageError, match="rename the photograph"):
        Annotations(tmp_path / "out", "train", photographs, ("optic_disc", "disc"))
    with pytest.raises(UsageError, match="letters, digits"):
        Annotations(tmp_path / "out", "train", photographs, ("../disc",))


def test_another_file_of_that_name_in_the_current_folder(folder, tmp_path, monkeypatch):
    """Maps look in the current folder first: then the whole path is written."""
    write_picture(tmp_path / "work/here/in/third.png")
    (tmp_path / "work/here/deep").mkdir()
    (tmp_path / "work/other").mkdir()
    monkeypatch.chdir(tmp_path / "work/here/deep")  # ../in/third.png is another photograph from here
    annotations = Annotations(tmp_path / "out", "train", find_photographs([str(folder)]), ["vessel"])
    annotations.write(2, "vessel", some_mask(0, (75, 91)))
    assert [record.image for record in load_checked(tmp_path / "out", "train")] == [folder / "third.png"]


def test_another_mask_of_that_name_in_the_current_folder(folder, tmp_path, monkeypatch):
    write_picture(tmp_path / "work/masks/third_vessel_000.png", some_mask(1, (75, 91)).astype(np.uint8) * 255)
    monkeypatch.chdir(tmp_path / "work")
    annotations = Annotations(tmp_path / "out", "train", find_photographs([str(folder)]), ["vessel"])
    for seed in (2, 3):
        annotations.write(2, "vessel", some_mask(seed, (75, 91)))
        assert (annotations.read(2, "vessel") == some_mask(seed, (75, 91))).all()


# --- what is not there ----------------------------------------------------------------------------------------------


def absent_place(number: int, structure: str) -> str:
    return f"/api/photographs/{number}/absent/{structure}"


def absent_of(client: TestClient) -> list[list[str]]:
    return [one["absent"] for one in client.get("/api/project").json()["photographs"]]


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_is_not_there_is_told_to_training(model, folder, tmp_path, split):
    """A photograph with a mask and a healthy one; read by the training's reader, and by a new server."""
    client = client_of(model, folder, tmp_path / "out", split=split)
    put(client, 0, "vessel", some_mask(1))
    for number, structure in ((0, "drusen"), (1, "drusen"), (1, "optic_disc")):
        assert client.put(absent_place(number, structure)).status_code == 204
    for one in (client, client_of(model, folder, tmp_path / "out", split=split)):
        assert absent_of(one) == [["drusen"], ["drusen", "optic_disc"], []]
    records = load_checked(tmp_path / "out", split, without_masks=True)
    assert [(record.image.name, len(record.masks), record.absent) for record in records] == [
        ("eye.png", 1, ("drusen",)),
        ("eye.png", 0, ("drusen", "optic_disc")),
    ]
    for structure in ("drusen", "optic_disc"):
        assert client.delete(absent_place(1, structure)).status_code == 204
    assert len(load_checked(tmp_path / "out", split, without_masks=True)) == 1
    client.delete(place(0, "vessel"))
    assert load_checked(tmp_path / "out", split, without_masks=True)[0].absent == ("drusen",)


def test_a_mask_and_its_absence_exclude_each_other(client):
    client.put(absent_place(0, "vessel"))
    assert absent_of(client)[0] == ["vessel"]
    put(client, 0, "vessel", some_mask(1))
    assert absent_of(client)[0] == []
    refused = client.put(absent_place(0, "vessel"))
    assert refused.status_code == 409 and "remove it first" in refused.json()["detail"]
    assert client.put(absent_place(0, "fovea")).status_code == 404


def test_what_another_page_says_of_a_structure_is_not_replaced_unseen(client):
    """Not by a mask over its absence, nor by its absence anew; who has seen it may change it."""
    new, other = {"If-None-Match": "*"}, {"If-Match": ABSENT_VERSION}
    rle = mask_to_rle(some_mask(1), compressed=False)
    first = client.put(absent_place(0, "vessel"), headers=new)
    assert first.status_code == 204 and first.headers["ETag"] == ABSENT_VERSION
    refused = client.put(place(0, "vessel"), json=rle, headers=new)
    assert refused.status_code == 412 and refused.headers["ETag"] == ABSENT_VERSION
    assert "vessel is marked as absent, which this page has not shown" in refused.json()["detail"]
    assert client.delete(absent_place(0, "vessel"), headers=new).status_code == 412 and absent_of(client)[0] == [
        "vessel"
    ]
    taken_back = client.delete(absent_place(0, "vessel"), headers=other)
    assert taken_back.status_code == 204 and "ETag" not in taken_back.headers
    assert client.put(absent_place(0, "vessel"), headers=other).status_code == 412 and absent_of(client)[0] == []
    client.put(absent_place(0, "vessel"), headers=new)
    saved = client.put(place(0, "vessel"), json=rle, headers=other)
    assert saved.status_code == 200 and absent_of(client)[0] == []
    refused = client.delete(absent_place(0, "vessel"), headers=other)
    assert refused.status_code == 412 and refused.headers["ETag"] == saved.headers["ETag"]


def test_what_two_pages_say_at_once_of_several_structures_is_all_kept(model, folder, tmp_path):
    names = [f"lesion{i}" for i in range(6)]
    client = client_of(model, folder, tmp_path / "out", *names)
    together, stop = Barrier(len(names)), Event()

    def mark(name: str) -> None:
        together.wait()
        for number in range(3):
            assert client.put(absent_place(number, name), headers={"If-None-Match": "*"}).status_code == 204

    def look() -> None:
        while not stop.is_set():
            absent_of(client)

    threads, looking = [Thread(target=mark, args=(name,)) for name in names], Thread(target=look)
    for thread in (looking, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    looking.join()
    assert [sorted(one) for one in absent_of(client_of(model, folder, tmp_path / "out", *names))] == [names] * 3


def test_an_absence_that_another_program_writes_is_seen(client, tmp_path):
    client.put(absent_place(0, "vessel"))
    table = tmp_path / "out/index.csv"
    table.write_text(table.read_text().replace("vessel", "drusen vessel"))
    assert absent_of(client)[0] == ["drusen", "vessel"]
    assert client.put(absent_place(0, "drusen"), headers={"If-None-Match": "*"}).status_code == 412


def test_a_table_that_is_there_keeps_its_rows_and_columns(model, folder, tmp_path):
    (tmp_path / "out").mkdir()
    path = tmp_path / "out/index.csv"
    table = 'image,patient,dataset,absent\n"a, b.png",7,other,vessel\n../in/third.png,8,theirs,optic_disc\n'
    path.write_text("\ufeff" + table, encoding="utf-8")
    client = client_of(model, folder, tmp_path / "out")
    assert absent_of(client) == [[], [], ["optic_disc"]]
    client.put(absent_place(2, "drusen"))
    client.put(absent_place(0, "drusen"))
    changed = table.replace("theirs,optic_disc", "theirs,optic_disc drusen") + "../in/left/eye.png,,out,drusen\n"
    assert path.read_text(encoding="utf-8") == changed


def test_a_table_of_a_spreadsheet_stays_one(model, folder, tmp_path):
    (tmp_path / "out").mkdir()
    path = tmp_path / "out/index.csv"
    path.write_text("Image;Note\n../in/third.png;seen, twice\n")
    client = client_of(model, folder, tmp_path / "out")
    client.put(absent_place(2, "drusen"))
    assert path.read_text() == "image;Note;absent\n../in/third.png;seen, twice;drusen\n"
    assert absent_of(client_of(model, folder, tmp_path / "out")) == [[], [], ["drusen"]]


def test_a_map_of_another_machine_is_gone_on_with(model, folder, tmp_path):
    client = client_of(model, folder, tmp_path / "out")
    put(client, 0, "vessel", some_mask(1))
    path = tmp_path / "out/image2label_train.json"
    ((image, (mask,)),) = json.loads(path.read_text()).items()
    path.write_text(json.dumps({image: [f"C:\\set\\{mask}"]}))
    client = client_of(model, folder, tmp_path / "out")
    put(client, 2, "vessel", some_mask(2, (75, 91)))
    assert len(load_checked(tmp_path / "out", "train")) == 2
    assert json.loads(path.read_text())[image] == [mask]


def test_what_the_photographs_own_data_set_says_is_kept(model, tmp_path):
    """index.csv beside their folder says it too; the new table goes on with that."""
    folder = write_folder(tmp_path / "set/images")
    (tmp_path / "set/index.csv").write_text("image,dataset,absent\nimages/third.png,theirs,vessel\n")
    before = (tmp_path / "set/index.csv").read_bytes()
    client = client_of(model, folder, tmp_path / "out")
    assert absent_of(client)[2] == ["vessel"]
    client.put(absent_place(2, "drusen"))
    record = load_checked(tmp_path / "out", "train", without_masks=True)[0]
    assert (record.data_set, record.absent) == ("theirs", ("vessel", "drusen"))
    assert (tmp_path / "set/index.csv").read_bytes() == before


@pytest.mark.parametrize("content", [b"name;dataset\n", b"image,dataset\na,b,c\n", b"image,dataset\n\xff,b\n", b'"a'])
def test_tables_that_are_anothers_are_refused(folder, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/index.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"index\.csv"):
        Annotations(tmp_path / "out", "train", find_photographs([str(folder)]), STRUCTURES)


def test_a_map_by_masks_cannot_hold_a_healthy_photograph(model, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/label2image_test.json").write_text("{}")
    client = client_of(model, folder, tmp_path / "out", split="test")
    response = client.put(absent_place(0, "vessel"))
    assert response.status_code == 409 and "image2label_test.json" in response.json()["detail"]
    assert absent_of(client) == [[], [], []] and not (tmp_path / "out/index.csv").exists()
    put(client, 0, "optic_disc", some_mask(1))
    assert client.put(absent_place(0, "vessel")).status_code == 204
    assert load_checked(tmp_path / "out", "test")[0].absent == ("vessel",)


# --- the server ---------------------------------------------------------------------------------------------------


def start(folder: Path, weights: Path, out: Path, log: Path):
    words = [str(word) for word in (folder, "--sam_checkpoint", weights, "--out", out, "--port", 0, "--token", TOKEN)]
    process = fork(words, log, script="app")
    for _ in range(600):
        if found := re.search(r"http://localhost:\d+", log.read_text() if log.exists() else ""):
            return process, found.group()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_the_address_that_is_printed_can_be_reached(monkeypatch, caplog):
    """Also while the server still starts."""
    caplog.set_level("INFO")

    def run(self: object, sockets: list[socket.socket]) -> None:
        port = int(re.search(r"http://localhost:(\d+)", caplog.text)[1])
        socket.create_connection(("127.0.0.1", port), timeout=10).close()

    monkeypatch.setattr("uvicorn.Server.run", run)
    assert serve(FastAPI(), 0, None) == 0


def test_unfinished_files_of_a_killed_server_are_removed_at_the_next_start(model, folder, tmp_path):
    """Those of its map, its table and its masks, wherever these lie; not what another program left."""
    out = tmp_path / "out"
    write_picture(out / "discs/d_optic_disc_000.png", some_mask(1).astype(np.uint8) * 255)
    (out / "image2label_train.json").write_text(json.dumps({"../in/left/eye.png": ["discs/d_optic_disc_000.png"]}))
    put(client_of(model, folder, out), 1, "vessel", some_mask(2, (74, 91)))
    own = [".image2label_train.abcdefgh.json", ".index.01234567.csv", "discs/.d_optic_disc_000.a_b_c_d_.png"]
    own += ["masks/left/.eye_drusen_000.abcdefgh.png", "masks/right/.eye_vessel_000.abcdefgh.png"]
    others = [".image2label_test.abcdefgh.json", "discs/.notes.abcdefgh.png", "masks/.eye_vessel_000.abcdefgh.png"]
    for name in (*own, *others):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"half")
    kept = {path for path in out.rglob("*") if path.is_file()} - {out / name for name in own}
    annotations = Annotations(out, "train", find_photographs([str(folder)]), STRUCTURES)
    assert sorted(annotations.remove_leftovers()) == sorted(out / name for name in own)
    assert {path for path in out.rglob("*") if path.is_file()} == kept
    assert annotations.remove_leftovers() == []


@pytest.mark.slow
def test_a_killed_server_loses_nothing_that_it_confirmed(folder, weights, tmp_path):
    """Killed while masks are written: the map can be read, its masks are whole, no confirmed one is missing."""
    out, sizes = tmp_path / "out", [(73, 91), (74, 91), (75, 91)]
    for turn in range(3):
        process, address = start(folder, weights, out, tmp_path / f"log{turn}")
        confirmed: set[tuple[int, str]] = set()

        def write(address=address, confirmed=confirmed) -> None:
            for i in range(10**6):
                number, structure = i % 3, STRUCTURES[i // 3 % 3]
                rle = mask_to_rle(some_mask(i, sizes[number]), compressed=False)
                httpx2.put(
                    f"{address}{place(number, structure)}", json=rle | {"confirmed": True}, headers=KNOWN, timeout=60
                ).raise_for_status()
                confirmed.add((number, structure))

        def until_killed(write=write) -> None:
            with pytest.raises(httpx2.TransportError):
                write()

        writer = Thread(target=until_killed)
        writer.start()
        while not confirmed:
            assert writer.is_alive(), "nothing was confirmed"
            time.sleep(0.01)
        time.sleep(0.05 * (turn + 1))
        process.kill()
        process.join()
        writer.join()
        annotations = Annotations(out, "train", find_photographs([str(folder)]))
        listed = {(number, name) for number in range(3) for name in annotations.masks(number)}
        assert confirmed <= listed
        assert all(annotations.read(number, name).shape == sizes[number] for number, name in listed)


@pytest.mark.slow
def test_two_servers_and_a_taken_port(folder, weights, tmp_path):
    process, address = start(folder, weights, tmp_path / "out", tmp_path / "log")
    words = [str(folder), "--sam_checkpoint", str(weights), "--port", address.rsplit(":", 1)[1]]
    for out, told in (("out", "another server annotates there"), ("other", "Address already in use")):
        second = fork([*words, "--out", str(tmp_path / out)], tmp_path / f"log_{out}", script="app")
        second.join(120)
        assert second.exitcode == 2 and told in (tmp_path / f"log_{out}").read_text()
    process.terminate()
    process.join(60)
    assert process.exitcode == -signal.SIGTERM
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_masks_are_no_photographs(folder, weights, tmp_path):
    """INPUT may be the folder of the data set."""
    for name in ("one", "two"):
        process, address = start(folder, weights, folder, tmp_path / name)
        names = [one["name"] for one in httpx2.get(f"{address}/api/project", headers=KNOWN).json()["photographs"]]
        assert names == ["left/eye", "right/eye", "third"]
        rle = mask_to_rle(some_mask(1), compressed=False)
        assert httpx2.put(f"{address}{place(0, 'vessel')}", json=rle, headers=KNOWN).status_code == 200
        process.kill()
        process.join()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "70000"], "--port 70000"),
        (["--max_pixels", "0"], "--max_pixels 0"),
        (["--structures", "a b"], "structure 'a b'"),
        (["--token", "short"], "--token short: give 16 or more"),
        (["--token", ""], "--token : give 16 or more"),
        (["--sam_checkpoint", "missing.safetensors"], "missing.safetensors"),
    ],
)
def test_bad_flags(folder, weights, tmp_path, tiny_type, capsys, words, told):
    common = [str(folder), "--sam_checkpoint", str(weights), "--out", str(tmp_path / "out"), "--port", "0"]
    assert cli.run_main(server.main, server.parse_args([*common, *words])) == 2
    assert told in capsys.readouterr().err
