"""The public checkpoints that are known: where they are, how large, with which hash."""

import re
from dataclasses import dataclass, replace

from sam_med2d.errors import UsageError

META = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class Source:
    """A public file."""

    file: str  # its name
    url: str  # its address
    size: int | None = None  # in bytes; None where it is not known
    sha256: str | None = None  # 64 hexadecimal digits; None where it is not known
    note: str = ""  # what the size and the hash rest on
    hub: str = ""  # its repository on the HuggingFace hub; "" where it is not there


def _sam(file: str, size: int, sha256: str) -> Source:
    """A checkpoint of Segment Anything."""
    note = "as several independent projects record them; Meta publishes the file's name alone"
    return Source(file, META + file, size, sha256, note)


SOURCES = {
    "sam_vit_b": _sam(
        "sam_vit_b_01ec64.pth", 375042383, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"
    ),
    "sam_vit_l": _sam(
        "sam_vit_l_0b3195.pth", 1249524607, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
    ),
    "sam_vit_h": _sam(
        "sam_vit_h_4b8939.pth", 2564550879, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"
    ),
    "sam-med2d_b": Source(
        "sam-med2d_b.pth",
        "https://huggingface.co/OpenGVLab/SAM-Med2D/resolve/main/sam-med2d_b.pth",
        note="no hash is published, and this address is not verified; the authors' own link is on Google Drive",
        hub="OpenGVLab/SAM-Med2D",
    ),
}


def find_source(name: str | None, sha256: str | None = None) -> Source:
    """The file, with its hash, that a name of SOURCES or an address (https://...) means.

    Args:
        name: the name or address.
        sha256: 64 hexadecimal digits that the file must have, where none is known.

    Raises:
        UsageError: for another name or hash.
    """
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"--sha256 {sha256}: give 64 hexadecimal digits.")
    if name in SOURCES:
        source = SOURCES[name]
    elif name and re.match("https?://", name):
        if not re.fullmatch("[!-~]+", name):
            raise UsageError(f"{name}: an address has no space and no letters like ä: write %20, %C3%A4.")
        file = name.partition("?")[0].rstrip("/").rpartition("/")[2]
        source = Source(file, name, note="an address of your own")
    else:
        raise UsageError(f"{name or 'NAME'}: give one of {', '.join(SOURCES)}, or an address (https://...).")
    wanted = sha256.lower() if sha256 else source.sha256
    if source.sha256 not in (None, wanted):
        raise UsageError(f"--sha256 {wanted}: the known one of {source.file} is {source.sha256}.")
    return replace(source, sha256=wanted)


def sources_table() -> str:
    """The known files, a few lines each."""
    lines = []
    for name, source in SOURCES.items():
        lines += [name, f"  {source.url}", f"  {source.size or 'unknown'} bytes, sha256 {source.sha256 or 'unknown'}"]
        lines.append(f"  {source.note}")
    return "\n".join(lines)
