"""The annotation page as it is used: in a browser, with a server of a tiny model."""

import json

import cv2
import numpy as np
import pytest

from tests.helpers.browsers import AnnotationPage, launched, saved_mask, served
from tests.helpers.photographs import photograph
from tests.helpers.predicting import write_picture, write_weights

pytestmark = pytest.mark.slow
SIZE = (160, 200)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors", detail="light")


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def page(browser, weights, tmp_path, out):
    """The page of two photographs, whose first one has a saved mask of many blobs."""
    for name in ("a", "b"):
        write_picture(tmp_path / f"in/{name}.png", photograph(*SIZE))
    write_picture(out / "masks/a_vessel_000.png", blobs().astype(np.uint8) * 255)
    (out / "image2label_train.json").write_text(json.dumps({"../in/a.png": ["masks/a_vessel_000.png"]}))
    with served(tmp_path / "in", weights, out) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = AnnotationPage(context.new_page(), address, SIZE)
        page.page.click("#photographs button >> nth=0")
        page.wait_until_open()
        yield page
        context.close()
    assert page.faults == []


def blobs() -> np.ndarray:
    """A mask with 30 parts, bool [H, W]."""
    mask = np.zeros(SIZE, np.uint8)
    for x in range(20, 200, 30):
        for y in range(15, 160, 30):
            cv2.circle(mask, (x, y), 4, 1, -1)
    return mask > 0


# --- masks --------------------------------------------------------------------------------------------------------


def test_open_click_save_and_load_again(page, out):
    page.choose("optic_disc")
    page.click(100, 80)
    assert "predicted IoU" in page.wait_for("optic_disc: predicted")
    page.save()
    first = saved_mask(out, "a_optic_disc_000.png")
    assert first.any()
    page.page.reload()
    page.wait_until_open()
    page.page.click("#photographs button >> nth=0")
    page.choose("optic_disc")
    page.use("brush")
    page.drag((5, 5), (9, 5))
    page.save()
    second = saved_mask(out, "a_optic_disc_000.png")
    assert (second & ~first).any() and (second[first]).all()


def test_a_prompt_on_a_saved_mask_keeps_the_rest_of_it(page, out):
    page.choose("vessel")
    page.click(100, 75)  # between the blobs
    page.wait_for("vessel: predicted")
    page.save()
    mask = saved_mask(out, "a_vessel_000.png")
    assert cv2.connectedComponents(blobs().astype(np.uint8))[0] - 1 == 30
    assert mask[blobs()].all() and (mask & ~blobs()).any()
    assert page.questions == []


def test_undo_goes_back_to_the_saved_mask(page, out):
    page.choose("vessel")
    page.use("brush")
    page.drag((100, 90), (120, 90))
    page.drag((100, 60), (120, 60))
    page.key("z", "z")
    assert page.page.is_disabled("#undo")
    page.drag((40, 60), (50, 60))
    page.save()
    mask = saved_mask(out, "a_vessel_000.png")
    assert mask[60, 45] and not mask[90, 110] and not mask[60, 110] and mask[blobs()].all()


def test_the_next_photograph_is_refused_while_an_answer_is_awaited(page, out):
    """Nothing is saved and nothing is lost unasked: with `no` the page stays, with `yes` the answer goes."""
    waiting = []
    page.page.route("**/answer", lambda route: waiting.append(route))
    page.choose("optic_disc")
    page.click(100, 80)
    page.wait("document.getElementById('status').textContent === '…'")
    page.answer = False
    page.key("ArrowRight")
    page.page.wait_for_timeout(300)
    assert "not saved" in page.questions[0]
    assert "a" in page.page.text_content("#photographs [aria-current=true]")
    page.answer = True
    page.key("ArrowRight")
    page.wait("document.querySelector('#photographs [aria-current=true]').textContent.startsWith('b')")
    waiting[0].continue_()
    page.page.unroute("**/answer")
    page.wait_until_open()
    assert len(page.questions) == 2
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["a_vessel_000.png"]
