"""What --classes says: the values or colours of each structure in a map of classes, or its labels in a tool's files."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from sam_med2d.data.image_io import read_bytes
from sam_med2d.dataset_conversion.formats.pairing import structure_name
from sam_med2d.dataset_conversion.mask_readers import Classes
from sam_med2d.errors import DataError

VOID = ("void", "ignore", "ignored")  # names of what was not annotated
BACKGROUND = "background"
# Keywords of add_argument, as in DataSet.flags: for maps of classes and for tools' labels.
CLASSES = {
    "metavar": "LIST",
    "help": "labelmap, needed: VALUE=STRUCTURE,..., such as 1+2=optic_disc,2=optic_cup: the cup is part of the disc; "
    "1-200=NAME is a range, '#ff0000=NAME' a colour, 255=void is left out; or CVAT's labelmap.txt. The others: "
    "LABEL=STRUCTURE,..., such as 'Optic Disc=optic_disc,artefact=void'; labels that are not listed keep their names",
}
FORM = "VALUE=STRUCTURE, VALUE+VALUE=STRUCTURE, VALUE-VALUE=STRUCTURE or #RRGGBB=STRUCTURE"
_VALUE, _COLOUR = r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?", r"#([0-9a-fA-F]{6})"


@dataclass(slots=True)
class ClassList:
    """Values, or colours as 0xRRGGBB, by what they mean.

    Attributes:
        structures: those of each structure; one value may belong to several.
        void: those that were not annotated.
        background: those that are nothing; 0 and black are, too.
        coloured: whether they are colours.
    """

    structures: dict[str, Classes] = field(default_factory=dict)
    void: Classes = ()
    background: Classes = (0,)
    coloured: bool = False

    @property
    def known(self) -> Classes:
        """All of them, in order."""
        every = {*self.background, *self.void}.union(*self.structures.values())
        return tuple(sorted(every, key=lambda value: (value.start, 1) if isinstance(value, range) else (value, 0)))


def parse_classes(text: str) -> ClassList:
    """What the flag says.

    Args:
        text: such as "1+2=optic_disc,2=optic_cup", "1-200=hard_exudate,255=void" or "#ff0000=artery", or the path of a
            labelmap.txt as CVAT writes it.

    Raises:
        DataError: for another text, or a file that cannot be read.
    """
    if text.strip().lower().endswith(".txt"):
        flag, items = f"--classes {text}", _of_cvat(Path(text.strip()))
    else:
        flag, items = f"--classes {text}", [item.partition("=")[::2] for item in text.split(",") if item.strip()]
    parsed = [(name, *_values(flag, values)) for values, name in items]
    if len({coloured for _, _, coloured in parsed}) > 1:
        raise DataError(f"{flag}: write values, or colours for all classes")
    classes = ClassList(coloured=any(coloured for _, _, coloured in parsed))
    for name, values, _ in parsed:
        structure = structure_name(name)
        if structure in VOID:
            classes.void += values
        elif structure == BACKGROUND:
            classes.background += values
        elif structure in classes.structures:
            raise DataError(f"{flag}: {structure} occurs twice; write its values as VALUE+VALUE={structure}")
        else:
            classes.structures[structure] = values
    if not classes.structures:
        raise DataError(
            'labelmap needs --classes, such as 1+2=optic_disc,2=optic_cup, "#ff0000=artery,#0000ff=vein", '
            "1-200=hard_exudate,255=void, or CVAT's labelmap.txt"
        )
    return classes


def _values(flag: str, text: str) -> tuple[Classes, bool]:
    """Values or colours of one class, and whether they are colours."""
    words = [word.strip() for word in text.split("+")]
    if all(re.fullmatch(_COLOUR, word) for word in words):
        return tuple(sorted({int(word[1:], 16) for word in words})), True
    hits = [re.fullmatch(_VALUE, word) for word in words]
    if not all(hits):
        raise DataError(f"{flag}: {text!r} is no class; write {FORM}")
    spans = [(int(hit[1]), int(hit[2] or hit[1])) for hit in hits]
    if wrong := [f"{low}-{high}" for low, high in spans if low > high]:
        raise DataError(f"{flag}: {wrong[0]} goes from the lowest to the highest value the other way round")
    single = sorted({low for low, high in spans if low == high})
    return (*single, *(range(low, high + 1) for low, high in spans if low < high)), False


def _of_cvat(path: Path) -> list[tuple[str, str]]:
    """(colour, label) of each line `label:r,g,b:parts:actions` of CVAT's file."""
    items = []
    for line in (
        read_bytes(path, advice="give the path of CVAT's file").decode("utf-8-sig", errors="replace").splitlines()
    ):
        if not line.strip() or line.startswith("#"):
            continue
        label, _, rest = line.partition(":")
        channels = [int(number) for number in re.findall(r"\d{1,9}", rest.partition(":")[0])]
        if len(channels) != 3 or max(channels) > 255:
            raise DataError(f"{path}: {line!r} is no line of CVAT's labelmap.txt: label:red,green,blue:parts:actions")
        items.append(("#" + "".join(f"{channel:02x}" for channel in channels), label))
    return items


class LabelNames:
    """The structures of labels, of which --classes lists some; the others are called as their label."""

    def __init__(self, text: str | None) -> None:
        """
        Args:
            text: such as "Optic Disc=optic_disc,rim=optic_disc,artefact=void"; a label may be listed for several
                structures. None: every label keeps its name.

        Raises:
            DataError: for another text.
        """
        self._flag = f"--classes {text}"
        self._structures: dict[str, list[str]] = {}
        self._used: set[str] = set()
        self._labels: defaultdict[str, set[str]] = defaultdict(set)  # of structures, without those in the flag
        for item in filter(str.strip, (text or "").split(",")):
            label, equals, structure = item.rpartition("=")
            if not (equals and label.strip() and structure.strip()):
                raise DataError(
                    f"{self._flag}: {item.strip()!r} is no class; write LABEL=STRUCTURE, such as Optic Disc=optic_disc"
                )
            self._structures.setdefault(label.strip(), []).append(structure_name(structure))

    def lists(self, label: str) -> bool:
        """Whether the flag has this label."""
        return label in self._structures

    def structures(self, label: str) -> list[str]:
        """What a label shows; nothing for those that are void. Raises DataError for a label without a letter."""
        self._used.add(label.strip())
        if not (names := self._structures.get(label.strip())):
            names = [structure_name(label)]
            self._labels[names[0]].add(label.strip())
        return [name for name in dict.fromkeys(names) if name not in VOID]

    def notes(self) -> list[str]:
        """A sentence for each structure that several labels are, which --classes does not list."""
        several = {name: sorted(labels) for name, labels in self._labels.items() if len(labels) > 1}
        return [f"labels {', '.join(labels)} are all {name}: see --classes" for name, labels in several.items()]

    def check(self) -> None:
        """Raise DataError for a label in --classes that was never seen: it may be misspelt."""
        if unknown := self._structures.keys() - self._used:
            seen = ", ".join(sorted(self._used)[:20]) or "none"
            raise DataError(f"{self._flag}: there is no label {', '.join(sorted(unknown))} (those of SOURCE: {seen})")
