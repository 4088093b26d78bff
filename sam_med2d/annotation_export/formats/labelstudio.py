"""Tasks of Label Studio: each mask is a brush, exactly, in an annotation or as the prediction of a model."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from sam_med2d.annotation_export.annotation_source import AnnotatedPhotograph
from sam_med2d.annotation_export.export_format import Export, ExportFormat, Written
from sam_med2d.dataset_conversion.brush_rle import encode_mask
from sam_med2d.errors import DataError

LOCAL = "/data/local-files/?d="
ANNOTATIONS, PREDICTIONS = "annotations", "predictions"


def write(export: Export, target: Path) -> Written:
    """What a model found is a prediction, what people drew an annotation, unless --write_as says otherwise."""
    scored = any(mask.score is not None for one in export.source.photographs for mask in one.masks)
    part = export.options.get("write_as") or (PREDICTIONS if scored else ANNOTATIONS)
    version, prefix = export.options.get("model_version") or "SAM-Med2D", export.options.get("image_url") or LOCAL
    folder, tasks, regions = _served(export), [], 0
    for photograph, results in export.each(lambda photograph: (photograph, _results(photograph))):
        made: dict[str, Any] = {"result": results}
        if part == PREDICTIONS:
            scores = [result["score"] for result in results if "score" in result]
            made |= {"model_version": version} | ({"score": float(np.mean(scores))} if scores else {})
        data = {"image": prefix + quote(Path(os.path.relpath(photograph.path.absolute(), folder)).as_posix())}
        data |= {"split": photograph.split} if photograph.split else {}
        tasks.append({"data": data, part: [made]})
        regions += len(results)
    target.write_text(json.dumps(tasks, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    written = Written({"tasks": len(tasks), f"brushes as {part}": regions})
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in export.source.structures)
    written.notes.append(
        'labelling interface: <View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
        f"{labels}</BrushLabels></View>"
    )
    if prefix == LOCAL:
        written.notes.append(
            "Label Studio finds the photographs where LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={folder}, or say --image_url"
        )
    return written


def _served(export: Export) -> Path:
    """The folder that addresses start from: OUT's, or, as none may lead out of it, the one that photographs share.

    Raises DataError where there is none.
    """
    folder = Path(os.path.abspath(export.folder))
    folders = {Path(os.path.abspath(photograph.path)).parent for photograph in export.source.photographs}
    if all(one.is_relative_to(folder) for one in folders):
        return folder
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise DataError(f"the photographs lie on several drives ({error}): export those of each alone") from error


def _results(photograph: AnnotatedPhotograph) -> list[dict[str, Any]]:
    """The regions of a photograph."""
    height, width = photograph.size()
    found = []
    for i, (mask, pixels) in enumerate(photograph.drawn(), start=1):
        about = {"id": f"{mask.structure}-{i}", "type": "brushlabels", "from_name": "brush", "to_name": "image"}
        size = {"original_width": width, "original_height": height, "image_rotation": 0}
        value = {"format": "rle", "rle": encode_mask(pixels), "brushlabels": [mask.structure]}
        score = {} if mask.score is None else {"score": mask.score}
        found.append({**about, **size, "value": value, **score})
    return found


LABELSTUDIO = ExportFormat(
    name="labelstudio",
    title="tasks of Label Studio (brushes, as annotations or predictions), exact",
    write=write,
    suffix=".json",
    flags={
        "--write_as": {
            "choices": (ANNOTATIONS, PREDICTIONS),
            "help": "default: what predict.py found as predictions, what people drew as annotations",
        },
        "--model_version": {"metavar": "NAME", "help": "of predictions; default: SAM-Med2D"},
        "--image_url": {
            "metavar": "PREFIX",
            "help": "before the photographs' paths from OUT's folder on, or from the one that they share elsewhere; "
            f"default: {LOCAL} (local files)",
        },
    },
)
