"""The files of an unfinished evaluation: a line for each photograph that is done, whichever process did it."""

import json
import shutil
from pathlib import Path
from typing import Any

from sam_med2d.runtime.journal import Journal
from segment_anything.utils.atomic import write_text


class Unfinished:
    """Folder `unfinished` of a run: what it computes (`settings`), the checked photographs and the finished ones."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "unfinished"
        self.checked, self.cases = Journal(self.folder / "checked"), Journal(self.folder / "cases")
        self._settings = self.folder / "settings.json"

    @property
    def has_cases(self) -> bool:
        """Whether there is anything to go on with."""
        return any(True for _ in self.cases.values())

    @property
    def exists(self) -> bool:
        """Whether a run has begun and not ended."""
        return self._settings.is_file()

    def begin(self, settings: dict[str, Any]) -> None:
        """Start anew with these settings."""
        shutil.rmtree(self.folder, ignore_errors=True)
        write_text(self._settings, json.dumps(settings, indent=1) + "\n")

    def settings(self) -> dict[str, Any]:
        return json.loads(self._settings.read_text(encoding="utf-8"))

    def end(self) -> None:
        """Remove the folder: its results are elsewhere."""
        finished = self.folder.with_name(".finished")  # at once: a folder that is half removed would look unfinished
        shutil.rmtree(finished, ignore_errors=True)
        self.folder.rename(finished)
        shutil.rmtree(finished)
