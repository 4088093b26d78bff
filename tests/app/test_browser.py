"""The annotation page as it is used: in a browser, with a server of a tiny model."""

import json
import shutil
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from tests.helpers.browsers import AnnotationPage, launched, saved_mask, served
from tests.helpers.photographs import photograph
from tests.helpers.predicting import write_picture, write_weights

pytestmark = pytest.mark.slow
SIZE = (160, 200)


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    """The address of a server of two photographs, and its folder."""
    folder = tmp_path_factory.mktemp("annotated")
    weights = write_weights(folder / "tiny.safetensors", detail="light")
    for name in ("a", "b"):
        write_picture(folder / f"in/{name}.png", photograph(*SIZE))
    (folder / "out").mkdir()
    with served(folder / "in", weights, folder / "out") as address:
        yield address, folder / "out"


@pytest.fixture
def out(server):
    """The folder of the masks, in which the first photograph has a saved mask of many blobs."""
    folder = server[1]
    for name in ("masks", ".history"):
        shutil.rmtree(folder / name, ignore_errors=True)
    write_picture(folder / "masks/a_vessel_000.png", blobs().astype(np.uint8) * 255)
    (folder / "image2label_train.json").write_text(json.dumps({"../in/a.png": ["masks/a_vessel_000.png"]}))
    return folder


@pytest.fixture
def address(server, out):
    return server[0]


@contextmanager
def opened(browser, address, width=1280, height=800, **how):
    """The page of the first photograph in a window of this size."""
    context = browser.new_context(viewport={"width": width, "height": height}, **how)
    page = AnnotationPage(context.new_page(), address, SIZE)
    page.open(0)
    yield page
    context.close()
    assert page.faults == []


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as page:
        yield page


def blobs() -> np.ndarray:
    """A mask with 30 parts, bool [H, W]."""
    mask = np.zeros(SIZE, np.uint8)
    for x in range(20, 200, 30):
        for y in range(15, 160, 30):
            cv2.circle(mask, (x, y), 4, 1, -1)
    return mask > 0


def test_open_click_save_and_load_again(page, out):
    page.choose("optic_disc")
    page.click(100, 80)
    assert "predicted IoU" in page.wait_for("optic_disc: predicted")
    page.save()
    first = saved_mask(out, "a_optic_disc_000.png")
    assert first.any()
    page.page.reload()
    page.wait_until_open()
    page.open(0)
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


def test_redo_takes_back_an_undo_until_something_else_is_drawn(page, out):
    page.choose("vessel")
    page.use("brush")
    for y in (30, 60, 90):
        page.drag((100, y), (104, y))
    page.key("z", "Z", "Control+z")  # Caps Lock is harmless
    assert page.page.is_disabled("#undo")
    page.key("y", "Control+Shift+Z")
    page.drag((100, 120), (104, 120))
    assert page.page.is_disabled("#redo")
    page.key("y")
    page.save()
    mask = saved_mask(out, "a_vessel_000.png")
    assert [mask[y, 102] for y in (30, 60, 90, 120)] == [True, True, False, True] and mask[blobs()].all()


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


# --- tools --------------------------------------------------------------------------------------------------------


def test_a_polygon_is_filled_when_it_is_closed_and_saved_only_then(page, out):
    page.choose("optic_disc")
    page.key("p")
    for corner in ((40, 40), (90, 40), (150, 150), (90, 100)):
        page.click(*corner)
    page.key("z")  # the last corner
    page.key("s")
    assert "still open" in page.status and not (out / "masks/a_optic_disc_000.png").exists()
    page.click(40, 100)
    page.click(40, 40)  # on the first corner
    page.save()
    mask = saved_mask(out, "a_optic_disc_000.png")
    expected = cv2.fillPoly(np.zeros(SIZE, np.uint8), [np.int32([(40, 40), (90, 40), (150, 150), (40, 100)])], 1) > 0
    assert 0.97 < (mask & expected).sum() / (mask | expected).sum() <= 1
    for corner in ((60, 60), (80, 60), (70, 75)):
        page.click(*corner, button="right")
    page.key("Enter", "s")
    page.wait("document.getElementById('save').disabled")
    assert not saved_mask(out, "a_optic_disc_000.png")[63, 70]


def test_a_polygon_that_is_dropped_changes_nothing(page):
    page.key("p")
    for corner in ((40, 40), (90, 40), (70, 80)):
        page.click(*corner)
    page.answer = False
    page.key("ArrowRight")
    page.page.wait_for_timeout(200)
    assert "not saved" in page.questions[0]
    page.key("Escape")
    assert page.page.is_disabled("#undo") and page.page.is_disabled("#save")


def test_fill_takes_what_the_mask_encloses_and_erases_a_part(page, out):
    page.choose("vessel")
    page.use("brush")
    page.drag((95, 48), (135, 48), (135, 88), (95, 88), (95, 48))
    page.key("h")
    page.click(120, 62)
    page.click(5, 5)
    assert "does not enclose this place" in page.status
    page.page.check("#erasing")
    page.click(20, 15)  # a blob
    page.save()
    mask, others = saved_mask(out, "a_vessel_000.png"), blobs()
    assert mask[48:89, 95:136].all() and not mask[11:20, 16:25].any()
    others[11:20, 16:25] = False
    assert mask[others].all()


def test_the_brush_has_sizes_from_a_pixel_to_a_disc(page, out):
    page.choose("optic_disc")
    page.key("b", *["["] * 20)
    assert page.page.text_content("#diameter") == "2 px"
    page.click(30.5, 30.5)
    page.key(*["]"] * 60)
    assert page.page.text_content("#diameter") == "40 px"  # a quarter of the photograph's height
    before = page.pixel(140, 80)
    page.page.mouse.move(*page.place(120, 80))
    assert page.pixel(140, 80) != before  # the circle
    page.click(120, 80)
    page.save()
    mask = saved_mask(out, "a_optic_disc_000.png")
    assert 1 <= mask[:50, :50].sum() <= 5
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    disc = np.hypot(x - 120, y - 80) <= 20
    assert (mask & disc).sum() > 0.97 * disc.sum() and mask.sum() < 1.05 * disc.sum()


# --- display -------------------------------------------------------------------------------------------------------


def test_channels_and_local_contrast(page):
    page.key("v")  # without masks
    colour = page.pixel(100, 80)
    assert colour[0] > colour[1] > colour[2]
    seen = {}
    for channel in ("red", "green", "blue"):
        page.page.select_option("#channel", channel)
        page.page.wait_for_timeout(400)
        seen[channel] = page.pixel(100, 80)
        assert len(set(seen[channel])) == 1
    assert np.abs(np.array([seen[name][0] for name in seen]) - colour).max() <= 3
    page.key("r")
    page.page.wait_for_timeout(400)
    assert page.pixel(100, 80) == seen["green"]
    page.key("l")
    page.page.wait_for_timeout(400)
    assert page.page.input_value("#clahe") == "3" and page.pixel(100, 80) != seen["green"]
    page.page.click("#plain")
    page.page.wait_for_timeout(200)
    assert page.pixel(100, 80) == colour and page.page.is_disabled("#plain")


def test_the_display_stays_from_one_photograph_to_the_next(page):
    page.page.fill("#brightness", "0.5")
    page.page.wait_for_timeout(400)
    bright = page.pixel(4, 4)  # black in the photograph
    assert min(bright) > 100
    page.key("ArrowRight")
    page.wait_until_open()
    page.page.wait_for_timeout(400)
    assert page.pixel(4, 4) == bright


def test_opacity_and_outlines(page):
    inside = [(50, 45), (80, 75)]  # of blobs
    page.page.fill("#opacity", "1")
    page.choose("vessel")
    colours = [page.pixel(*place) for place in inside]
    assert colours[0] == colours[1]
    page.key("o")
    plain = [page.pixel(*place) for place in inside]
    edge = [page.pixel(50 + 4.5 + by / 5, 45) for by in range(-5, 6)]
    assert colours[0] in edge and colours[0] not in plain
    page.key("v")
    assert [page.pixel(*place) for place in inside] == plain


def test_one_to_one_and_fit(page, out):
    page.choose("optic_disc")
    page.key("b", *["["] * 20, "0")
    box = page.page.locator("#view").bounding_box()
    x, y = round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)
    page.page.mouse.click(x + 20, y + 10)
    page.key("f")
    page.click(30, 30)
    page.save()
    places = np.argwhere(saved_mask(out, "a_optic_disc_000.png"))
    near = [np.abs(places - place).sum(1).min() for place in ((90, 120), (30, 30))]
    assert max(near) <= 2 and len(places) <= 10


def test_the_sheet_of_keys(page):
    page.key("?")
    assert page.page.is_visible("#keys")
    page.key("b")
    page.key("Escape")
    assert page.page.is_hidden("#keys") and page.page.is_checked("#prompt")


# --- fingers, pens and small windows ------------------------------------------------------------------------------


def touch(page, *steps):
    """Fingers at positions of the photograph, one list of them after the other; at last all are lifted."""
    session, down = page.page.context.new_cdp_session(page.page), 0
    for places in [*steps, ()]:
        points = [dict(zip("xy", page.place(*place), strict=True)) | {"id": i} for i, place in enumerate(places)]
        kind = "touchStart" if len(points) > down else "touchMove" if points else "touchEnd"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        down = len(points)


def test_one_finger_draws_and_two_move_and_zoom(browser, address, out):
    with opened(browser, address, 390, 844, has_touch=True) as page:
        page.choose("optic_disc")
        page.use("brush")
        page.page.locator("#view").scroll_into_view_if_needed()
        touch(page, [(60, 80)], [(60, 80), (140, 80)], [(20, 80), (180, 80)])  # twice as near, around the middle
        assert page.page.is_disabled("#undo")  # the first finger has drawn nothing
        touch(page, [(120, 100)], [(125, 100)])
        assert page.page.is_enabled("#undo")
        page.save()
        rows, columns = np.nonzero(saved_mask(out, "a_optic_disc_000.png"))
        assert abs(rows.mean() - 90) <= 1 and abs(columns.mean() - 111.25) <= 2  # half as far from the middle


def test_a_finger_erases_where_that_is_chosen(browser, address, out):
    with opened(browser, address, 390, 844, has_touch=True) as page:
        page.choose("vessel")
        page.use("brush")
        page.page.tap("label:has(#erasing)")
        touch(page, [(20, 15)], [(21, 15)])
        page.page.tap("#save")
        page.wait_for("saved:")
        assert not saved_mask(out, "a_vessel_000.png")[12:18, 17:24].any()


@pytest.mark.parametrize("size", [(390, 844), (844, 390), (1024, 600), (1440, 900)])
def test_the_page_fits_small_windows(browser, address, size):
    with opened(browser, address, *size) as page:
        page.page.evaluate("window.scrollTo(0, 0)")
        assert page.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        view = page.page.locator("#view").bounding_box()
        assert view["width"] >= 0.5 * size[0] and view["height"] >= 0.4 * size[1]
        for name in ("save", "undo", "redo", "erasing", "zoom_in", "next", "help"):
            box = page.page.locator(f"#{name}").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= size[0], name
            assert box["y"] + box["height"] <= size[1], name
        for name in ("channel", "fill", "remove", "photograph_search"):
            page.page.locator(f"#{name}").scroll_into_view_if_needed()
            box = page.page.locator(f"#{name}").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= size[0] and box["y"] >= 0, name


def photographs(page):
    return page.page.locator("#photographs button > :first-child").all_text_contents()


def test_photographs_are_searched_and_filtered_and_keys_follow_the_list(page):
    assert photographs(page) == ["a", "b"]
    assert page.page.locator("#photographs .marks span").count() == 1
    page.key("/")
    page.page.keyboard.type("B")  # no key of the page while it is typed
    assert photographs(page) == ["b"] and page.page.is_checked("#prompt")
    page.key("Enter")
    page.wait("document.querySelector('#photographs [aria-current=true]')?.textContent.startsWith('b')")
    page.wait_until_open()
    page.key("ArrowLeft")  # a is not listed
    page.page.wait_for_timeout(200)
    assert page.page.text_content("#photographs [aria-current=true]") == "b"
    page.page.fill("#photograph_search", "")
    page.choose("vessel")
    for chosen, expected in (("missing", ["b"]), ("drawn", ["a"]), ("absent", []), ("new", ["b"]), ("all", ["a", "b"])):
        page.page.select_option("#photograph_filter", chosen)
        assert photographs(page) == expected, chosen
    page.key("a")
    page.wait_for("marked as absent")
    page.page.select_option("#photograph_filter", "absent")
    assert photographs(page) == ["b"] and page.page.locator("#photographs .marks span").count() == 1
    page.key("a")
    page.wait_for("not known")
    assert photographs(page) == []


def test_structures_are_searched(page):
    page.page.fill("#structure_search", "disc")
    assert page.page.locator("#structures button > :nth-child(2)").all_text_contents() == ["optic_disc"]
    page.key("Enter")
    page.wait("document.querySelector('#structures [aria-current=true]')?.textContent.startsWith('optic_disc')")
    page.page.fill("#structure_search", "")
    colours = page.page.eval_on_selector_all("#structures .colour", "(all) => all.map((one) => one.style.background)")
    assert len(set(colours)) == 3
