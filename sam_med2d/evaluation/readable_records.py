"""The photographs of an evaluation, less the files that could not be read."""

from collections.abc import Sequence

from sam_med2d.data.records import Record
from sam_med2d.prompts.prompt_file import without_unreadable


class ReadableRecords:
    """Records by their numbers, less what could not be read of them.

    Attributes:
        unreadable: {number: {file: what is wrong with it}}; empty at first.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.unreadable: dict[int, dict[str, str]] = {}

    def __getitem__(self, number: int) -> Record | None:
        """What can be evaluated of a photograph; None where nothing can."""
        return without_unreadable(self.records[number], self.unreadable.get(number, {}))

    def numbers(self) -> list[int]:
        """Numbers of the photographs of which something can be evaluated."""
        return [number for number in range(len(self.records)) if self[number]]

    def reasons(self) -> list[str]:
        """What is wrong with each unreadable file."""
        return [reason for files in self.unreadable.values() for reason in files.values()]

    def failures(self) -> list[str]:
        """A line for each unreadable file, with the masks that are not evaluated for it."""
        lines = []
        for number, files in self.unreadable.items():
            record = self.records[number]
            for file, reason in files.items():
                masks = [mask.name for mask in record.masks if file in (str(record.image), str(mask.path))]
                lines.append(f"{reason}; not evaluated: {', '.join(masks)}")
        return lines
