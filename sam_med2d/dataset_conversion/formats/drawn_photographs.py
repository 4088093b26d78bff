"""Photographs in which shapes were drawn, as the files of an annotation tool tell them one by one -> samples."""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import size_of
from sam_med2d.data.record_checks import size_advice
from sam_med2d.dataset_conversion.dataset_spec import FoundSamples, natural
from sam_med2d.dataset_conversion.drawings import Drawing, united
from sam_med2d.dataset_conversion.formats.class_list import CLASSES, LabelNames
from sam_med2d.dataset_conversion.formats.folder_layout import is_picture, split_of, stem_of
from sam_med2d.dataset_conversion.formats.pairing import MISSING, PATIENT, apply_missing, file_name, patient_of
from sam_med2d.dataset_conversion.formats.photograph_files import IMAGE_ROOT, PhotographFiles
from sam_med2d.dataset_conversion.samples import Choice, MaskSource, Sample
from sam_med2d.errors import DataError

ELSEWHERE = re.compile(r"^/|(^|/)([.][.]|[A-Za-z][\w+.-]*:)(/|$)")  # paths whose folders say nothing of the data
FLAGS = {"--classes": CLASSES, "--image_root": IMAGE_ROOT, "--patient": PATIENT, "--missing": MISSING}


@dataclass(frozen=True, slots=True)
class Shape:
    """What is drawn of one structure.

    Attributes:
        structure: what it shows.
        file: that says so.
        drawing: the mask.
        group: shapes of one structure and group are one instance; None: this one alone.
    """

    structure: str
    file: Path
    drawing: Drawing
    group: Hashable = None


@dataclass(slots=True)
class DrawnPhotograph:
    """What the files say of one photograph: its name in them, its file, its split and shapes."""

    name: str
    path: Path
    split: str
    shapes: list[Shape] = field(default_factory=list)


class DrawnPhotographs:
    """All that was read of a source so far.

    Attributes:
        files: where the photographs lie.
        photographs: those that were found, by their files.
        problems: a sentence for each file or shape that cannot be used.
        notes: what else a person should know.
    """

    def __init__(self, tree: Tree, choice: Choice) -> None:
        """
        Args:
            tree: the source.
            choice: holds the values of FLAGS.

        Raises:
            DataError: for flags that cannot work.
        """
        self.files = PhotographFiles(tree, choice.options.get("image_root"))
        self.photographs: dict[Path, DrawnPhotograph] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._choice = choice
        self._labels = LabelNames(choice.options.get("classes"))
        self._no_area: Counter[tuple[str, str]] = Counter()
        self._first = ""

    def declare(self, labels: Iterable[str]) -> None:
        """Tell the labels that a file lists, drawn or not. Raises DataError for one that names no structure."""
        for label in labels:
            self._labels.structures(label)

    def lists(self, label: str) -> bool:
        """Whether --classes has a label."""
        return self._labels.lists(label)

    def add(self, name: str, path: Path, split: str, file: Path) -> DrawnPhotograph:
        """The photograph of a file, known or new.

        Args:
            name: in the annotation file.
            path: of the photograph.
            split: "train", "val", "test", or "": that of the folders in its name or that it lies in.
            file: the annotation file.

        Raises:
            DataError: another annotation file says that it is of another split.
        """
        name = name.replace("\\", "/")
        split = split or split_of("" if ELSEWHERE.search(name) else name) or split_of(self.files.place(path))
        known = self.photographs.setdefault(path, DrawnPhotograph(name, path, split))
        if known.split != split:
            raise DataError(f"{path} is in two splits, {known.split or 'none'} and in {file} {split or 'none'}")
        return known

    def draw(
        self, photograph: DrawnPhotograph, label: str, file: Path, drawing: Drawing, *, group: Hashable = None
    ) -> None:
        """Add a shape, as what --classes says of its label.

        Args:
            photograph: in which it is drawn.
            label: its name in the annotation file.
            file: the annotation file.
            drawing: the mask.
            group: see Shape.
        """
        for structure in self._labels.structures(label):
            photograph.shapes.append(Shape(structure, file, drawing, group))

    def has_size(self, path: Path, size: tuple[int, int], where: str) -> bool:
        """Whether a photograph has the (height, width) that a file says; where it has another, that is a problem.

        Args:
            path: the photograph.
            size: as the file says.
            where: the file, and the place in it.
        """
        try:
            height, width = size_of(path)
        except DataError as error:
            self.problems.append(str(error))
            return False
        if (height, width) != size:
            self.problems.append(
                f"{where}: drawn on {size[1]} x {size[0]} pixels, the photograph {path} has {width} x {height}: "
                f"{size_advice(size, (height, width))}"
            )
        return (height, width) == size

    @contextmanager
    def shape(self, where: str) -> Iterator[None]:
        """A shape that cannot be read inside becomes a problem; where: its file and number, for the message."""
        try:
            yield
        except KeyError as error:
            self.problems.append(f"{where}: it has no {error.args[0]}")
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            self.problems.append(f"{where}: {error}")

    def leave_out(self, kind: str, label: str, where: str) -> None:
        """Count a shape that encloses no area, such as a line; where: the first one is named."""
        self._no_area[kind, label] += 1
        self._first = self._first or where

    def samples(self) -> FoundSamples:
        """Shapes of one structure are one mask, or with the option `instances` each is a mask of its own.

        Raises:
            DataError: a label in --classes occurs nowhere, or --patient cannot work.
        """
        self._labels.check()
        self.notes += [*self._labels.notes(), *self._drawn_twice()]
        others = [path for path in self.files.tree.files.values() if path not in self.photographs]
        if not self.files.root and (others := [path for path in others if is_picture(path.name)]):
            self.notes.append(
                f"{len(others)} picture(s) of SOURCE have no annotations and are left out (first: {others[0]})"
            )
        made = FoundSamples([], self.problems, self.notes)
        if self._no_area:
            counts = (
                f"{count} {kind}{f' of {label}' if label else ''}" for (kind, label), count in self._no_area.items()
            )
            made.notes.append(f"shapes without an area are left out: {', '.join(counts)} (first: {self._first})")
        stems = Counter(stem_of(PurePosixPath(one.name).name).lower() for one in self.photographs.values())
        patient, each = patient_of(self._choice), bool(self._choice.options.get("instances"))
        for photograph in sorted(self.photographs.values(), key=lambda photograph: natural([photograph.name])):
            place = PurePosixPath(photograph.name)
            stem = stem_of(place.name)
            folders = [part for part in place.parts[:-1] if part not in ("/", "..")]
            words = [photograph.split, *folders] if stems[stem.lower()] > 1 else []
            title = file_name("_".join([*filter(None, words), stem]))
            about = {"split": photograph.split, "patient": patient(photograph.name, made.problems)}
            made.samples.append(Sample(title, photograph.path, _masks(photograph.shapes, each=each), **about))
        return apply_missing(made, self._choice)

    def _drawn_twice(self) -> list[str]:
        """A note on structures of a photograph that several annotation files draw, such as two persons."""
        files: defaultdict[tuple[Path, str], dict[Path, None]] = defaultdict(dict)
        for photograph in self.photographs.values():
            for shape in photograph.shapes:
                files[photograph.path, shape.structure][shape.file] = None
        twice = [(key, found) for key, found in files.items() if len(found) > 1]
        return [
            f"{len(twice)} mask(s) unite what several files draw: if persons drew the same, give one of the files "
            f"(first: {structure} of {path} in {' and '.join(map(str, found))})"
            for (path, structure), found in twice[:1]
        ]


def _masks(shapes: Sequence[Shape], *, each: bool) -> tuple[MaskSource, ...]:
    """One mask for each instance, or for each structure."""
    groups: defaultdict[tuple[str, Hashable], list[Shape]] = defaultdict(list)
    for i, shape in enumerate(shapes):
        instance = (i if shape.group is None else ("group", shape.group)) if each else None
        groups[shape.structure, instance].append(shape)
    return tuple(
        MaskSource(structure, parts[0].file, united([part.drawing for part in parts]))
        for (structure, _), parts in groups.items()
    )
