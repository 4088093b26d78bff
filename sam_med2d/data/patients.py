"""Who is seen, as far as names of photographs say it: two eyes, visits, dates or tiles of one person.

A name is read as marks (`_left`, `OD`, `visit2`, `2019-03-04`) and the rest, which is the patient if it identifies
someone: P012_2019-03-04_OD.jpg shows P012. The other names must bear it out: `_L` is an eye where there is an `_R`,
and a kind of mark is believed where it joins at least two photographs.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_BEGIN, _END = r"(?:^|(?<=[\W_\d]))", r"(?=$|[\W_])"
_NUMBER = rf"\d{{1,2}}{_END}"
_DAY = r"(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])|[0-3]?\d([-_.])[01]?\d\2(?:19|20)\d\d"
_TIME = r"[T\W_](?:[0-2]\d[0-5]\d[0-5]\d|[0-2]\d[\W_][0-5]\d(?:[\W_][0-5]\d)?)"
_EYE = rf"{_BEGIN}(?P<eye>LEFT|RIGHT)(?:[\W_]?eye)?(?:{_END}|(?={_NUMBER}))"
_EYES = ("left", "right"), ("links", "rechts"), ("OS", "OD"), ("OI", "OD"), ("OG", "OD"), ("LE", "RE"), ("L", "R")
DATES = "dates"
_MARKS = {
    "visits": rf"{_BEGIN}(?:v{_NUMBER}|(?:visit|follow[\W_]?up|fu)[\W_]?{_NUMBER}|baseline{_END})",
    "tiles": rf"{_BEGIN}(?:x\d+_?y\d+|y\d+_?x\d+){_END}",
    **{f"{left} and {right}": _EYE.replace("LEFT", left).replace("RIGHT", right) for left, right in _EYES},
    DATES: rf"(?<!\d)(?:{_DAY})(?:{_TIME})?(?!\d)",
}
# Names that say it by themselves: the word patient and a number; those of sets with several photographs of a person.
_HABITS = {
    "the word patient": r"(?:^|[\W_])((?:patients?|subject|subj|pat|pid)[\W_]?(?:id|no|nr)?[\W_]?[a-z]{0,3}\d+)",
    "ARIA's names": rf"(?:^|[\W_])(aria_[acd]_\d+)_\d+{_END}",
    "UK Biobank's names": rf"(?:^|[\W_])(\d{{7}})_2101[56]_\d_\d{_END}",
}
MARKS, HABITS = (
    {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in patterns.items()} for patterns in (_MARKS, _HABITS)
)
_NOBODY = re.compile(
    r"images?|imgs?|photos?|photographs?|pictures?|pics?|fundus|retinas?|retinal|eyes?|scans?|dsc[nf]?\d*|colou?r|cfp|"
    r"original|export|test|testing|train|training|val|valid|validation|cent(?:er|re)|macula|disc|pp"
)
# a word of more than MANY names that are a SHARE of all, or of all that are more than FEW, is nobody's name
FEW, MANY, SHARE = 4, 12, 0.25


@dataclass(frozen=True, slots=True)
class NamedPatients:
    """Patients of photographs."""

    of: list[str]  # the patient of each photograph, in their order; "" where its name does not say it
    examples: dict[str, tuple[list[str], str]]  # {what says it: (two names, or one, and their patient)}

    @property
    def how(self) -> str:
        """What says it, with an example of each."""
        shown = (f"{kind} ({' and '.join(names)}: {who})" for kind, (names, who) in self.examples.items())
        return ", ".join(shown)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a name says: the patient, if anyone, and {kind of mark: its text}."""

    patient: str
    marks: Mapping[str, str]

    @property
    def key(self) -> str:
        return self.patient.lower()


def patients_in_names(photographs: Sequence[str | Path]) -> NamedPatients:
    """A patient for each of one data set's photographs, as far as the names of their files say it.

    Folders count where file names do not tell photographs apart, or say nothing.
    """
    reader = _Reader(_relative(photographs))
    readings = [reader.read(name) for name in reader.names]
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for i, reading in enumerate(readings):
        groups[reading.key].append(i)
    groups.pop("", None)
    examples: dict[str, tuple[list[str], str]] = {}
    patients: dict[str, str] = {}
    for key, members in groups.items():
        for kind in dict.fromkeys(kind for i in members for kind in readings[i].marks):
            seen = {readings[i].marks.get(kind, ""): i for i in reversed(members)}
            if len(seen) > 1 or kind in HABITS:
                patients[key] = readings[members[0]].patient
                shown = [reader.shown(reader.names[i]) for i in sorted(seen.values())[:2]]
                if kind not in examples or len(shown) > len(examples[kind][0]):
                    examples[kind] = shown, patients[key]
    if len(groups) == 1 and len(photographs) > FEW:  # what all have in common is nobody's name
        return NamedPatients([""] * len(photographs), {})
    patients |= {
        r.key: r.patient for r in readings if r.key not in patients and not r.marks.keys().isdisjoint(examples)
    }
    return NamedPatients([patients.get(reading.key, "") for reading in readings], examples)


def alike_in_names(photographs: Sequence[Path]) -> list[str]:
    """Two names that differ in a number after another one alone (12_1.jpg, 12_2.jpg), if most have such a partner.

    They may be of one person, but numbers tell as well groups, or days.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for path in photographs:
        if hit := re.fullmatch(r"(.*\d.*[\W_])\d{1,2}", path.stem):
            groups[hit[1]].append(path.name)
    pairs = [sorted(names)[:2] for names in groups.values() if 1 < len(names) <= MANY]
    return pairs[0] if len(pairs) > 1 and sum(map(len, groups.values())) > len(photographs) / 2 else []


def _relative(photographs: Sequence[str | Path]) -> list[str]:
    """Paths without suffix, below the folder that holds all, with forward slashes."""
    paths = [os.path.splitext(os.path.abspath(path))[0] for path in photographs]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]


class _Reader:
    """Reads the names of one data set.

    Attributes:
        names: of all photographs, below their common folder.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._with_folders = len({os.path.basename(name) for name in names}) < len(names)
        counts = Counter(word for name in names for word in set(_words(name.lower())))
        many = max(MANY + 1, SHARE * len(names))
        self._common = {word for word, n in counts.items() if n >= many or n == len(names) > FEW}
        self._marks = {kind: mark for kind, mark in MARKS.items() if " and " not in kind or self._has_both(mark)}

    def read(self, name: str) -> _Reading:
        """What one of the names says."""
        for kind, habit in HABITS.items():
            if hit := habit.search(name):
                return _Reading(hit.group(1), {kind: name})
        rest, marks = self._split(self.shown(name))
        if not self._identifies(rest):
            rest, marks = self._split(name)
        return _Reading("_".join(_words(rest)) if self._identifies(rest) else "", marks)

    def shown(self, name: str) -> str:
        """What tells a photograph from the others: its file's name, with folders where two have one."""
        return name if self._with_folders else os.path.basename(name)

    def _split(self, text: str) -> tuple[str, dict[str, str]]:
        """A name without its marks, and the marks."""
        marks: dict[str, str] = {}
        for kind, mark in self._marks.items():
            for hit in [*mark.finditer(text)][-1:]:
                before, after = text[: hit.start()], text[hit.end() :]
                if self._identifies(before) and not self._identifies(re.sub(r"\d", "", after)):
                    after = ""  # numbers after the mark count photographs
                elif kind == DATES and not self._identifies(
                    re.sub(r"\b\d+\b", "", f"{before} {after}".replace("_", " "))
                ):
                    continue  # a number beside it may count the photographs of the day
                text, marks[kind] = f"{before}_{after}", hit.group().lower()
        return text, marks

    def _has_both(self, mark: re.Pattern[str]) -> bool:
        """Whether both eyes have such marks."""
        return len({hit["eye"].lower() for name in self.names for hit in mark.finditer(name)}) > 1

    def _identifies(self, text: str) -> bool:
        """Whether a word is left that names someone: not one that most names have, nor one such as image."""
        words = (word for word in _words(text.lower()) if len(word) > 1 or word.isdigit())
        return any(word not in self._common and not _NOBODY.fullmatch(word) for word in words)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)
