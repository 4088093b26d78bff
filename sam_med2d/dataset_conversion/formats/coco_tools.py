"""Which tool wrote a COCO file, and what its files of this kind do not hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, and what a person should know of its COCO files; "" for nothing."""

    name: str
    advice: str = ""


def tool_of(content: Content) -> Tool | None:
    """The tool that wrote a file, by what it says of itself, or by what it leaves empty; None for an unknown one."""
    return next((tool for tool, is_of in _TOOLS if is_of(content)), None)


def _info(content: Content) -> Mapping[str, Any]:
    info = content.get("info")
    return info if isinstance(info, Mapping) else {}


def _says(word: str) -> Callable[[Content], bool]:
    """Whether the description, the contributor or the address of a file's info has this word."""

    def is_of(content: Content) -> bool:
        texts = (_info(content).get(key) for key in ("description", "contributor", "url"))
        return any(word in text.lower() for text in texts if isinstance(text, str))

    return is_of


def _is_datumaro(content: Content) -> bool:
    """CVAT exports with Datumaro, whose info has all keys and no text."""
    keys = {"contributor", "date_created", "description", "url", "version", "year"}
    return _info(content).keys() == keys and not any(map(str, _info(content).values()))


def _is_labelme_script(content: Content) -> bool:
    """labelme's labelme2coco.py."""
    return content.get("type") == "instances" and _info(content).get("contributor", "") is None


def _is_sahi(content: Content) -> bool:
    """labelme2coco, which writes with SAHI: three parts and no more, and keys in this order."""
    keys = ["iscrowd", "image_id", "bbox", "segmentation", "category_id", "id", "area"]
    parts = {"images", "annotations", "categories"}
    return content.keys() == parts and bool(content["annotations"]) and list(content["annotations"][0]) == keys


def _is_supervision(content: Content) -> bool:
    licenses = content.get("licenses")
    return content.get("info") == {} and isinstance(licenses, list) and "CC BY 4.0" in str(licenses)


_TOOLS: tuple[tuple[Tool, Callable[[Content], bool]], ...] = (
    (
        Tool("Label Studio's BRUSH_TO_COCO", "it loses small lesions: export JSON, and read it with labelstudio"),
        _says("label studio converter"),
    ),
    (
        Tool("Label Studio", "brushes and ellipses are not in them: export JSON, and read it with labelstudio"),
        _says("label studio"),
    ),
    (Tool("Roboflow"), _says("roboflow")),
    (Tool("VGG Image Annotator"), _says("vgg image annotator")),
    (Tool("FiftyOne"), _says("voxel51")),
    (Tool("V7 Darwin"), _says("darwin")),
    (Tool("CVAT, or another program with Datumaro"), _is_datumaro),
    (Tool("labelme's labelme2coco.py"), _is_labelme_script),
    (Tool("labelme2coco, or another program with SAHI"), _is_sahi),
    (Tool("supervision"), _is_supervision),
)
