"""The annotation page in a browser of the system: a server of its own, and what a user does on the page."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.tiny_scripts import fork

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MARGIN = 0.97  # share of the canvas that a whole photograph takes, as in view.js


@contextmanager
def launched() -> Iterator[Any]:
    """A browser without a window; the test is skipped, with the reason, where there is none."""
    if not BROWSER:
        pytest.skip("NO BROWSER: install chromium (apt install chromium) to test the annotation page")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("NO PLAYWRIGHT: pip install -r requirements-dev.txt to test the annotation page")
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def served(folder: Path, weights: Path, out: Path, *words: str) -> Iterator[str]:
    """The address of a server of the photographs in `folder`, which is ended afterwards."""
    log = out.parent / f"{out.name}.log"
    flags = (folder, "--sam_checkpoint", weights, "--out", out, "--port", 0, *words)
    process = fork([str(word) for word in flags], log, script="app")
    try:
        yield _address(log)
    finally:
        process.kill()
        process.join()


def _address(log: Path) -> str:
    for _ in range(1200):
        if found := re.search(r"open (http://\S+)", log.read_text() if log.exists() else ""):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


class AnnotationPage:
    """The page at `address`, for photographs of `size` (height, width); faults of its scripts end up in `faults`.

    Questions of the page are answered with `answer`, and kept in `questions`.
    """

    def __init__(self, page: Any, address: str, size: tuple[int, int]) -> None:
        self.page, self.size = page, size
        self.faults: list[str] = []
        self.questions: list[str] = []
        self.answer = True
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda line: self.faults.append(line.text) if "Security Policy" in line.text else None)
        page.on("dialog", self._answer)
        page.goto(address)
        self.wait_until_open()

    def _answer(self, dialog: Any) -> None:
        self.questions.append(dialog.message)
        if dialog.type == "beforeunload" or self.answer:
            dialog.accept()
        else:
            dialog.dismiss()

    def wait_until_open(self) -> None:
        """Until the photograph is there and its saved mask may be changed."""
        off = "((id) => document.getElementById(id).disabled)"
        self.wait(f"({off}('remove') ? !{off}('absent') : !{off}('empty'))")

    def open(self, number: int) -> None:
        """Open a photograph that is listed, by its place in the list."""
        self._take("photographs", number)

    def choose(self, structure: str) -> None:
        """Draw another structure."""
        names = self.page.locator("#structures button > :nth-child(2)").all_text_contents()
        self._take("structures", names.index(structure))

    def _take(self, listed: str, number: int) -> None:
        self.page.click(f"#{listed} button >> nth={number}")
        self.wait(f"document.querySelectorAll('#{listed} button')[{number}].ariaCurrent === 'true'")
        self.wait_until_open()

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        self.page.wait_for_function(f"() => {condition}", timeout=60_000)

    def wait_for(self, words: str) -> str:
        """Until the line of the page holds these words; the line."""
        self.wait(f"document.getElementById('status').textContent.includes({json.dumps(words)})")
        return self.status

    @property
    def status(self) -> str:
        return self.page.text_content("#status")

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a position of the photograph is on the screen while all of it is shown."""
        box, (height, width) = self.page.locator("#view").bounding_box(), self.size
        scale = MARGIN * min(box["width"] / width, box["height"] / height)
        left, top = box["x"] + (box["width"] - width * scale) / 2, box["y"] + (box["height"] - height * scale) / 2
        return left + x * scale, top + y * scale

    def click(self, x: float, y: float, **how: str) -> None:
        """Click on a position of the photograph."""
        self.page.mouse.click(*self.place(x, y), **how)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press at the first position of the photograph, move over the others, and let go."""
        mouse = self.page.mouse
        mouse.move(*self.place(*places[0]))
        mouse.down()
        for place in places[1:]:
            mouse.move(*self.place(*place), steps=3)
        mouse.up()

    def key(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def use(self, tool: str) -> None:
        """Choose a tool."""
        self.page.check(f"#{tool}")

    def save(self) -> None:
        """Save the mask, and wait until it is on the disk."""
        self.page.click("#save")
        self.wait_for("saved:")

    def pixel(self, x: float, y: float) -> list[int]:
        """RGB of the canvas at a position of the photograph, after it was drawn."""
        box = self.page.locator("#view").bounding_box()
        left, top = (a - b for a, b in zip(self.place(x, y), (box["x"], box["y"]), strict=True))
        return self.page.evaluate(
            """([x, y]) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
              const ratio = window.devicePixelRatio, canvas = document.getElementById("view");
              done([...canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data].slice(0, 3));
            })))""",
            [left, top],
        )


def saved_mask(out: Path, name: str) -> np.ndarray:
    """A mask on the disk, bool [H, W]."""
    mask = cv2.imread(str(out / "masks" / name), cv2.IMREAD_UNCHANGED)
    assert mask is not None, sorted(path.name for path in out.rglob("*.png"))
    return mask > 0
