"""Predictions for several pages at once: what waits for what, what is dropped, and of which pixels an answer is."""

from collections.abc import Callable
from queue import Queue
from threading import Event, Thread

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from app import annotator as module
from app.annotations import Annotations
from app.annotator import Annotator
from app.turns import LATE, Dropped, Step
from app.web import build
from sam_med2d.data.photographs import find_photographs
from sam_med2d.inference.photograph_prediction import PromptPrediction
from sam_med2d.inference.prompt_sources import Prompt
from segment_anything.build_sam import build_sam
from segment_anything.modeling import Sam
from segment_anything.refinement.refine import NO_REFINEMENT, Refinement
from tests.helpers.photographs import photograph
from tests.helpers.predicting import SIZE, STRUCTURES, write_folder, write_picture, write_weights

BOX = Prompt("optic_disc", box=(20, 15, 60, 50))
SLOW = Prompt("vessel", structure=True), Refinement(mirror=True)  # the photograph, and three mirror images
WAIT = 60  # seconds, in which a thread that does not come is an error


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "in")


@pytest.fixture
def annotator(tmp_path, folder, tiny_type):
    model = build_sam("vit_t", write_weights(tmp_path / "tiny.safetensors", detail="light")).eval()
    return Annotator(model, find_photographs([str(folder)]), multimask=False, max_pixels=10**6)


class Asked:
    """A prompt that a thread asks for; `outcome` waits for its prediction, or for what was raised."""

    def __init__(self, predict: Callable[[], PromptPrediction]) -> None:
        self._found: Queue = Queue()
        self.thread = Thread(target=self._run, args=(predict,), daemon=True)
        self.thread.start()

    def _run(self, predict: Callable[[], PromptPrediction]) -> None:
        try:
            self._found.put(predict())
        except (Dropped, ValueError) as error:
            self._found.put(error)

    def outcome(self) -> PromptPrediction | Exception:
        return self._found.get(timeout=WAIT)


def ask(annotator: Annotator, page: str, number: int, prompt: Prompt = BOX, refinement=NO_REFINEMENT) -> Asked:
    """Ask, and return when the prompt has its turn, or waits for it."""
    asked = Asked(lambda: annotator.predict(0, prompt, refinement, page=page, number_of_prompt=number))
    while asked.thread.is_alive() and not annotator.turns.find(page, number):
        asked.thread.join(0.001)
    return asked


class Pause:
    """Holds the model at its `at`-th encoding, from `reached` until `go`; `count` is how many there were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.reached, self.go, self.count = Event(), Event(), 0
        encode = Sam.encode_all

        def held(model: Sam, pixels: torch.Tensor):
            self.count += 1
            if self.count == at:
                self.reached.set()
                assert self.go.wait(WAIT)
            return encode(model, pixels)

        monkeypatch.setattr(Sam, "encode_all", held)


def test_pictures_and_checks_never_wait_and_each_page_has_its_newest_prompt(annotator):
    with annotator._predicting:  # as during a long prediction
        first, other, newest = (ask(annotator, *who) for who in (("a", 1), ("b", 1), ("a", 2)))
        assert str(first.outcome()) == "A newer prompt came."
        assert annotator.image(0, "a").shape[:2] == SIZE
        annotator.check(0, "a", content=True)
    for asked in (other, newest):
        assert asked.outcome().mask().any()


def test_prompts_of_programs_that_are_no_pages_drop_none(annotator):
    with annotator._predicting:
        asked = [Asked(lambda: annotator.predict(0, BOX, NO_REFINEMENT)) for _ in range(3)]
    assert all(one.outcome().mask().any() for one in asked)


@pytest.mark.parametrize("prompt", [Prompt("optic_disc"), Prompt("optic_disc", points=((500, 3, 1),))])
def test_a_newer_prompt_that_cannot_be_meant_drops_no_older_one(annotator, prompt):
    with annotator._predicting:
        asked = ask(annotator, "a", 1)
        assert isinstance(ask(annotator, "a", 2, prompt).outcome(), ValueError)
    assert asked.outcome().mask().any()


def test_a_prediction_ends_where_a_newer_prompt_of_its_page_comes(annotator, monkeypatch):
    pause = Pause(monkeypatch, at=2)  # the first mirror image
    slow = ask(annotator, "a", 1, *SLOW)
    assert pause.reached.wait(WAIT)
    assert annotator.turns.find("a", 1).step == Step("mirror images", 0, 3)
    other, newer = ask(annotator, "b", 1), ask(annotator, "a", 2)
    assert annotator.turns.find("a", 1) is None and annotator.turns.find("a", 2).step is None
    pause.go.set()
    assert str(slow.outcome()) == "A newer prompt came." and pause.count == 2
    assert newer.outcome().mask().any() and other.outcome().mask().any()
    assert annotator.turns.find("a", 2) is None


def test_a_page_asks_how_far_an_answer_is_and_cancels_it(annotator, folder, monkeypatch):
    photographs = find_photographs([str(folder)])
    annotations = Annotations(folder.parent / "out", "train", photographs, STRUCTURES)
    client = TestClient(build(annotator, annotations, token=None), base_url="http://localhost")
    page, pause = {"X-Page": "a"}, Pause(monkeypatch, at=3)
    body = {"structure": "vessel", "structure_prompt": True, "mirror": True}
    assert client.get("/api/answers/7", headers=page).json() is None
    asked = Asked(lambda: client.post("/api/photographs/0/answer", json=body, headers=page | {"X-Prompt": "7"}))
    assert pause.reached.wait(WAIT)
    assert client.get("/api/answers/7", headers=page).json() == {"kind": "mirror images", "done": 1, "total": 3}
    for name, headers in (("7", {}), ("7", {"X-Page": "b"}), ("6", page)):  # others'
        assert client.get(f"/api/answers/{name}", headers=headers).json() is None
        assert client.delete(f"/api/answers/{name}", headers=headers).status_code == 204
    assert client.get("/api/answers/7", headers=page).json()["done"] == 1
    assert client.delete("/api/answers/7", headers=page).status_code == 204
    pause.go.set()
    response = asked.outcome()
    assert response.status_code == 409 and response.json()["detail"] == "The prompt was cancelled." and pause.count == 3
    assert client.post("/api/photographs/0/answer", json=body, headers=page).status_code == 200


def test_an_embedding_is_never_taken_for_that_of_a_file_that_came_meanwhile(annotator, folder, monkeypatch):
    """The file changes and is opened by another page while the old pixels are encoded."""
    pause, small = Pause(monkeypatch, at=1), photograph(40, 50)
    annotator.image(0, "a")
    old = ask(annotator, "a", 1)
    assert pause.reached.wait(WAIT)
    write_picture(folder / "left/eye.png", small)
    assert (annotator.image(0, "b") == small).all()
    pause.go.set()
    assert old.outcome().frame.original == SIZE
    prompt = Prompt("optic_disc", box=(5, 5, 30, 30))
    assert ask(annotator, "b", 1, prompt).outcome().frame.original == (40, 50) and pause.count == 2
    assert "has changed on the disk" in str(ask(annotator, "a", 2, prompt).outcome())
    assert (annotator.image(0, "a") == small).all()


def test_a_file_that_changes_between_a_prompt_and_its_encoding_is_noticed(annotator, folder, monkeypatch):
    write = write_picture
    original = module.read_image

    def read_then_change(path, **how) -> np.ndarray:
        pixels = original(path, **how)
        write(folder / "left/eye.png", photograph(40, 50))
        return pixels

    annotator.image(0, "a")
    monkeypatch.setattr(module, "read_image", read_then_change)
    assert "has changed on the disk" in str(ask(annotator, "a", 1).outcome())


def test_prompts_that_arrive_late_are_not_predicted(annotator):
    """Requests of a page may overtake each other, and so may a cancellation."""
    with annotator._predicting:
        newest = ask(annotator, "a", 2)
        assert str(ask(annotator, "a", 1).outcome()) == LATE
        annotator.turns.cancel("b", 1)
        assert str(ask(annotator, "b", 1).outcome()) == LATE
        next_one = ask(annotator, "b", 2)
    assert newest.outcome().mask().any() and next_one.outcome().mask().any()
