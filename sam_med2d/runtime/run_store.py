"""What a run that may be interrupted leaves behind, so that another process, or another run, goes on with it."""

import json
import shutil
from pathlib import Path
from typing import Any

from sam_med2d.errors import UsageError
from sam_med2d.runtime.journal import Journal
from segment_anything.utils.atomic import write_text


class RunStore:
    """The settings of a run and a record of each item that is done, in one folder.

    `settings.json` holds what decides the results. Records of a kind lie in a folder of this name: as numbered lines
    that several processes append to (`journal`), or as a JSON file for each item (`write`), which may be replaced.
    """

    def __init__(self, folder: Path) -> None:
        """A store, which need not exist yet, in a folder that holds nothing else."""
        self.folder = folder
        self._settings = folder / "settings.json"

    def settings(self) -> dict[str, Any] | None:
        """What decides the results of the run; None where none has begun, ValueError for a damaged file."""
        return json.loads(self._settings.read_text(encoding="utf-8")) if self._settings.is_file() else None

    def begin(self, settings: dict[str, Any]) -> None:
        """Write down what decides the results, by names that a user knows, such as "--seed"; records stay."""
        write_text(self._settings, json.dumps(settings, indent=1) + "\n")

    def refuse_other(self, settings: dict[str, Any], *, what: str, cure: str) -> None:
        """Refuse to go on with other settings than those of the run; fine where none has begun.

        Args:
            settings: of the continuation.
            what: how the message begins, as in `refuse_other_settings`.
            cure: what to do.

        Raises:
            UsageError: names each setting that differs, with both values.
        """
        if (old := self.settings()) is not None:
            refuse_other_settings(old, settings, what=what, cure=cure)

    def journal(self, kind: str) -> Journal:
        """The numbered records of a kind; empty where nothing was written."""
        return Journal(self.folder / kind)

    def write(self, kind: str, name: str, record: Any) -> None:
        """Write the record of an item, in place of an earlier one.

        Args:
            kind: name of the folder.
            name: of the item; may have folders of its own.
            record: JSON value.
        """
        write_text(self._place(kind, name), json.dumps(record) + "\n")

    def read(self, kind: str, name: str) -> Any:
        """The record of an item.

        Args:
            kind: name of the folder.
            name: of the item.

        Returns:
            What `write` was given.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """
        return json.loads(self._place(kind, name).read_text(encoding="utf-8"))

    def _place(self, kind: str, name: str) -> Path:
        """The file of an item's record."""
        return self.folder / kind / f"{name}.json"

    def tidy(self, *others: Path) -> None:
        """Remove a killed run's temporary files, from other folders, too. Only while no other process writes."""
        for folder in (self.folder, *others):
            for left in folder.rglob(".*.*"):
                if left.is_file():
                    left.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder, if it is there; at once: one that is half removed would look unfinished."""
        if not self.folder.exists():
            return
        removed = self.folder.with_name(f".{self.folder.name.removeprefix('.')}.removed")
        shutil.rmtree(removed, ignore_errors=True)
        self.folder.rename(removed)
        shutil.rmtree(removed)


def refuse_other_settings(old: dict[str, Any], new: dict[str, Any], *, what: str, cure: str) -> None:
    """Refuse to go on with a run of other settings.

    Args:
        old: settings of the run.
        new: settings of its continuation.
        what: how the message begins, such as "--out workdir/x holds results with".
        cure: what to do, which is the end of the message.

    Raises:
        UsageError: names each setting that differs, with both values.
    """
    if differing := changed_settings(old, new):
        raise UsageError(f"{what} other {', '.join(differing)}: {cure}.")


def changed_settings(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A phrase for each setting that differs between a run and its continuation: its name and both values.

    A switch that the run did not know was off in it.
    """
    new = json.loads(json.dumps(new))
    known = {name: old.get(name, False if isinstance(new[name], bool) else None) for name in new}
    return [f"{name} ({known[name]} there, {new[name]} now)" for name in new if known[name] != new[name]]
