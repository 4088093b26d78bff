"""Which DICOM file a photograph of a data set, or of predictions, is, or was made from."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from sam_med2d.data.dicom import other_kind
from sam_med2d.data.file_tree import Tree
from sam_med2d.data.picture_signs import DICOM_SUFFIXES, is_dicom_file
from sam_med2d.dataset_conversion.formats.dicom import read_salt, samples_of
from sam_med2d.dicom_seg.segmentation import DicomSource, is_dicom_photograph, read_source
from sam_med2d.errors import DataError, UsageError, raise_problems

SHOWN = 3  # photographs in a message


class DicomSources:
    """Finds the DICOM files of photographs.

    A photograph is a DICOM file itself; or it has the name that `prepare_dataset.py dicom` gives one with this salt; or
    the name of one.

    Args:
        folder: where they lie; None where the photographs are DICOM files.
        salt_file: of `prepare_dataset.py dicom`.
        page: number of the frame of photographs that are DICOM files themselves; None for the only one.

    Raises:
        UsageError: the folder is none, or is missing.
        DataError: the salt cannot be used.
    """

    def __init__(self, folder: Path | None, salt_file: str | None, page: int | None) -> None:
        if salt_file and not folder:
            raise UsageError(f"--salt_file {salt_file}: give --dicom, the folder whose files were prepared with it.")
        if folder and not folder.is_dir():
            raise UsageError(f"--dicom {folder} is no folder.")
        self._folder, self._page = folder, page
        self._salt = read_salt(salt_file) if salt_file else None

    def find(self, photographs: Sequence[Path]) -> dict[Path, DicomSource]:
        """The source of each photograph.

        Raises:
            UsageError: photographs are no DICOM files, and no folder was given.
            DataError: lists photographs that have no source, or several.
        """
        others = [path for path in photographs if not is_dicom_photograph(path)]
        if others and not self._folder:
            raise UsageError(
                f"--dicom: {len(others)} of {len(photographs)} photographs are no DICOM files, such as "
                f"{', '.join(map(str, others[:SHOWN]))}: a segmentation refers to one; give the folder of the DICOM "
                "files that they were made from."
            )
        found, problems, others = {}, [], {*others}
        for path in photographs:
            try:
                file, page = self._made_from(path) if path in others else (path, self._page)
                found[path] = read_source(file, page, pixels=True)
            except DataError as error:
                problems.append(str(error))
        raise_problems(problems)
        return found

    def _made_from(self, photograph: Path) -> tuple[Path, int | None]:
        """The file that a picture was made from, and the frame of one with several. Raises DataError."""
        if found := self._prepared.get(photograph.stem):
            return found
        places = self._names.get(photograph.stem, [])
        if len(places) > 1:  # a segmentation may have its photograph's name
            places = [path for path in places if not other_kind(path)] or places
        if len(places) == 1:
            return places[0], None
        if places:
            raise DataError(
                f"{photograph} may be made from {' or '.join(map(str, places))}: give --dicom the right folder"
            )
        advice = "give it its file's name, or say with --salt_file what prepare_dataset.py dicom made its name with"
        advice = "was it prepared from other files, or with another salt?" if self._salt else advice
        raise DataError(f"{photograph} is no DICOM file, and --dicom {self._folder} has none of its name: {advice}")

    @cached_property
    def _files(self) -> list[Path]:
        files = Tree(self._folder).files.values() if self._folder else ()
        return [path for path in files if is_dicom_file(path)]

    @cached_property
    def _names(self) -> dict[str, list[Path]]:
        """Files by their names, without a suffix that says what they are."""
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for path in self._files:
            found[path.stem if path.suffix.lower() in DICOM_SUFFIXES else path.name].append(path)
        return found

    @cached_property
    def _prepared(self) -> dict[str, tuple[Path, int | None]]:
        """Files and frames by the names that `prepare_dataset.py dicom` gives them; {} without a salt."""
        found: dict[str, tuple[Path, int | None]] = {}
        for path in self._files if self._salt else ():
            if other_kind(path):
                continue
            try:
                file = read_source(path, 1).file
                samples = samples_of(path, file, self._salt, keep_ids=False)
            except DataError:  # which prepare_dataset.py left out
                continue
            for sample in samples:
                found.setdefault(sample.name, (path, sample.page))
        return found
