"""Exports of Label Studio as JSON or JSON-MIN: tasks with annotations of people and predictions of models."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sam_med2d.data.file_tree import Tree
from sam_med2d.data.image_io import size_of
from sam_med2d.dataset_conversion.dataset_spec import SPLIT_WORDS, DataSet, FoundSamples
from sam_med2d.dataset_conversion.drawings import Drawing
from sam_med2d.dataset_conversion.formats.drawn_photographs import FLAGS, DrawnPhotographs
from sam_med2d.dataset_conversion.formats.folder_layout import is_picture, split_of
from sam_med2d.dataset_conversion.formats.json_content import read_json
from sam_med2d.dataset_conversion.formats.labelstudio_regions import kind_of, labels_of, regions_of, shape_of
from sam_med2d.dataset_conversion.samples import Choice
from sam_med2d.errors import DataError, raise_problems

Task = dict[str, Any]
LAST, GROUND_TRUTH, UNION, PREDICTIONS = WHICH = ("last", "ground_truth", "union", "predictions")
PARTS = ("annotations", "completions", PREDICTIONS)  # of a task; completions: before version 1.0
MIN_KEYS = {"annotation_id", "annotator"}  # of a task in JSON-MIN
UPLOADED = re.compile("[0-9a-f]{8}-(.+)")  # Label Studio puts eight digits before the name of an uploaded file
WITHOUT, CANCELLED = "task(s) without an annotation are left out", "cancelled annotation(s) are left out"
PREDICTED = f"of these have predictions: --annotation {PREDICTIONS}"


def find(tree: Tree, choice: Choice) -> FoundSamples:
    """Regions of one label are one mask; pixels of a brush count from `Choice.threshold` of its strongest alpha on.

    Raises:
        DataError: there is no export of Label Studio, or tasks or photographs occur twice.
    """
    drawn, tasks = DrawnPhotographs(tree, choice), _tasks(tree)
    numbers = Counter(str(task["id"]) for _, _, task in tasks if "id" in task)
    twice = [f"several tasks have the id {number}: export each once" for number, n in numbers.items() if n > 1]
    raise_problems(twice)
    passed: Counter[str] = Counter()
    places: dict[Path, str] = {}
    for i, (name, path, task) in enumerate(tasks):
        where = f"task {task.get('id', f'number {i + 1}')}"
        with drawn.shape(f"{path}, {where}"):
            chosen = _chosen(task, choice.options, passed)
            if chosen is None:
                continue
            image, title = _photograph(drawn, task.get("data"), key=choice.options.get("image_key"), path=path)
            if (other := places.setdefault(image, where)) != where:
                twice.append(f"{image} is annotated in {other} and {where} of {path}: keep one of them")
            split = SPLIT_WORDS.get(str(task["data"].get("split", "")).lower()) or split_of(name)
            photograph = drawn.add(title, image, split, path)
            for number, region in regions_of(chosen):
                _draw(
                    drawn,
                    photograph.path,
                    region,
                    where=f"{where}, region {number}",
                    path=path,
                    threshold=choice.threshold,
                )
    raise_problems(twice)
    drawn.notes += [f"{count} {what}" for what, count in passed.items() if count]
    return drawn.samples()


def _tasks(tree: Tree) -> list[tuple[str, Path, Task]]:
    """File name, path and task, of each task."""
    found = []
    for name, path in tree.files.items():
        if name.lower().endswith(".json"):
            content = read_json(path)
            tasks = content if isinstance(content, list) else [content]
            if tasks and all(isinstance(task, dict) for task in tasks):
                if all("data" in task and any(part in task for part in PARTS) for task in tasks):
                    found += [(name, path, task) for task in tasks]
                elif all(task.keys() & MIN_KEYS for task in tasks):
                    found += [(name, path, task) for task in _from_min(tasks)]
    if not found:
        raise DataError(
            f"no export of Label Studio (.json with data and annotations, or JSON-MIN). Found:\n  {tree.summary()}"
        )
    return found


def _from_min(entries: list[Task]) -> Iterator[Task]:
    """Tasks of JSON-MIN, which has an entry for each annotation, with the regions beside the data."""
    tasks: dict[str, Task] = {}
    for i, entry in enumerate(entries):
        data = {key: value for key, value in entry.items() if isinstance(value, str)}
        task = tasks.setdefault(str(entry.get("id", f"entry {i + 1}")), {"id": entry.get("id", i), "data": data})
        lists = [value for value in entry.values() if isinstance(value, list)]
        regions = [region for value in lists for region in value if isinstance(region, dict)]
        about = {"id": entry.get("annotation_id"), "completed_by": entry.get("annotator")}
        times = {key: entry.get(key) for key in ("created_at", "updated_at")}
        results = [{**region, "value": region, "id": None} for region in regions]
        task.setdefault("annotations", []).append({**about, **times, "result": results})
    yield from tasks.values()


def _chosen(task: Task, options: Mapping[str, Any], passed: Counter[str]) -> list[Any] | None:
    """The results of the annotation that counts; None where there is none. Raises ValueError where several might."""
    which, who = options.get("annotation"), options.get("annotator")
    part = PREDICTIONS if which == PREDICTIONS else next((p for p in PARTS[:2] if p in task), PARTS[0])
    every = [one for one in task.get(part) or [] if isinstance(one, Mapping)]
    left = [one for one in every if not (one.get("was_cancelled") or one.get("skipped"))]
    passed[CANCELLED] += len(every) - len(left)
    left = [one for one in left if not who or who in _names(one)]
    if which == GROUND_TRUTH:
        left = [one for one in left if one.get("ground_truth")]
    if which == LAST and len(left) > 1:
        left = [max(left, key=lambda one: str(one.get("updated_at") or one["created_at"]))]
    if len(left) > 1 and which != UNION:
        by = "; ".join(f"{one.get('id')} by {' or '.join(_names(one)) or 'nobody'}" for one in left)
        more = "" if which == PREDICTIONS else f" or --annotation {LAST}, {GROUND_TRUTH} or {UNION}"
        raise ValueError(f"it has {len(left)} {part} ({by}): say which with --annotator{more}")
    if not left:
        passed[WITHOUT] += 1
        passed[PREDICTED] += bool(task.get(PREDICTIONS)) and part != PREDICTIONS
        return None
    return [result for one in left for result in _results(one, several=len(left) > 1)]


def _results(annotation: Mapping[str, Any], *, several: bool) -> list[Any]:
    """Those of one annotation; of several with ids of its own: a copy of another has the same."""
    results = annotation.get("result") or []
    if not several:
        return results
    named = [one for one in results if isinstance(one, Mapping) and one.get("id") is not None]
    return [{**one, "id": f"{annotation.get('id')}/{one['id']}"} if one in named else one for one in results]


def _names(annotation: Mapping[str, Any]) -> list[str]:
    """ID and e-mail address of a person, or the version of a model."""
    person = annotation.get("completed_by")
    every = [person.get("id"), person.get("email")] if isinstance(person, Mapping) else [person]
    return [str(name) for name in (*every, annotation.get("model_version")) if name not in (None, "")]


def _photograph(drawn: DrawnPhotographs, data: object, *, key: str | None, path: Path) -> tuple[Path, str]:
    """The photograph that a task's data name, and its name there. Raises ValueError where it is not clear."""
    items = data.items() if isinstance(data, Mapping) else ()
    names = {name: _file_name(value) for name, value in items if isinstance(value, str) and key in (None, name)}
    names = {name: value for name, value in names.items() if is_picture(value)}
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise ValueError(f"its data have one photograph each, in {found} there are {len(names)}: say --image_key NAME")
    [written] = names.values()
    folders, _, last = written.rpartition("/")
    short = UPLOADED.fullmatch(last)
    for name in (written, f"{folders}/{short[1]}" if short else written):
        if found := drawn.files.find_end(name, path):
            return found, name
    raise ValueError(f"the image {written} is not there, or several are (see --image_root)")


def _file_name(address: str) -> str:
    """The path in an address: of a URL, an uploaded file, a file in storage, or a local file ("?d=")."""
    parts = urlsplit(address.replace("\\", "/"))
    local = parts.path.rstrip("/").endswith("local-files") and parts.query.startswith("d=")
    return unquote(parts.query.removeprefix("d=") if local else parts.path)


def _draw(
    drawn: DrawnPhotographs, image: Path, region: Mapping[str, Any], *, where: str, path: Path, threshold: float | None
) -> None:
    """Add one region."""
    kind, labels = kind_of(region), labels_of(region)
    where += f" ({kind} of {', '.join(labels)})"
    with drawn.shape(f"{path}, {where}"):
        shape = shape_of(region, size_of(image), threshold or 0.5, file=path)
        if shape is None:
            drawn.leave_out(kind, ", ".join(labels), f"{path}, {where}")
            return
        if not labels:
            raise ValueError("it has no label")
        for label in labels:
            drawn.draw(drawn.photographs[image], label, path, Drawing(where, **shape))


LABELSTUDIO = DataSet(
    name="labelstudio",
    title="Label Studio's JSON or JSON-MIN (polygons, rectangles, ellipses, brushes)",
    layout="""project-1.json
photos/eye_1.jpg where the tasks' paths or URLs end in eye_1.jpg, anywhere below SOURCE, or below --image_root""",
    find=find,
    has_instances=True,
    threshold=0.5,
    flags={
        **FLAGS,
        "--annotation": {
            "choices": WHICH,
            "help": "of a task with several annotations, or the predictions instead; default: such a task is a problem",
        },
        "--annotator": {"metavar": "ID", "help": "ID or e-mail address of a person, or version of a model"},
        "--image_key": {"metavar": "NAME", "help": "which of a task's data is the photograph; default: the only one"},
    },
)
