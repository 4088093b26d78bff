"""What a check found, as text for the terminal and as JSON."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sam_med2d.dataset_checks.check import CheckResult
from sam_med2d.dataset_checks.class_balance import ClassBalance
from sam_med2d.dataset_checks.file_checks import FEW_PIXELS, SIZE_EDGES
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.visualization.tables import markdown_table

SHOWN = 5  # messages of a kind on the terminal
# What each kind means; all but "repeated" are as their module describes them.
MEANINGS = {
    "unreadable_map": "a map that is no JSON object",
    "wrong_entry": "an entry of a map with a wrong value, or given twice",
    "empty_map": "a map without masks",
    "listed_twice": "a mask listed twice",
    "no_mask": "a photograph without masks",
    "maps_differ": "two maps of a split that differ",
    "missing_file": "a file that is missing",
    "unreadable": "a picture that cannot be read or is cut off",
    "unclear": "a picture of which it is not clear what is meant, such as the one of several pages",
    "as_read": "a file that was read by a guess, which is named",
    "surround": "a photograph with a white or grey surround or margin",
    "mask_as_photograph": "a mask listed as a photograph",
    "wrong_size": "a mask of another size than its photograph",
    "not_binary": "a mask with other values than 0 and 1, or 0 and 255",
    "equal_masks": "one mask for two structures",
    "empty_mask": "a mask without foreground",
    "vanishes": "a mask that is lost on the way to the model",
    "too_small": "a mask of less than a pixel at this size",
    "inverted": "a mask with background and foreground swapped",
    "outside_field_of_view": "a mask outside the field of view",
    "cup_outside_disc": "an optic cup outside its disc",
    "flipped": "a mirrored or rotated mask",
    "shifted": "a mask that is not where the structure is",
    "pixel_shift": "masks of vessels that lie a pixel or few beside them",
    "not_seen": "a mask where its photograph shows nothing of the kind",
    "index_row": "a row of index.csv without its photograph",
    "index_column": "a heading of index.csv that seems to be a slip",
    "absent_name": "an absent structure whose name is no mask's, but nearly",
    "passed_over": "DICOM files that no map lists",
    "same_bytes": "a file in two splits",
    "same_picture": "a photograph, saved differently, in two splits",
    "same_patient": "a patient in two splits",
    "same_name": "seemingly one patient in two splits, by the names",
    "same_eye": "seemingly one eye in two splits",
    "repeated": "a photograph twice in one split",
    "small_parts": "a structure that is hardly seen at this size",
    "not_trained": "a structure that is not trained",
    "check_failed": "a file that broke the check",
}


def as_text(result: CheckResult, image_size: int) -> str:
    """The table of problems with the first files of each kind, the balance of the classes, and the verdict."""
    counts = _counts(result)
    parts = []
    if counts:
        lines = [[kind, _severity(warning), str(n), MEANINGS.get(kind, "")] for (kind, warning), n in counts.items()]
        parts.append(markdown_table(["Problem", "", "Number", "Meaning"], lines))
        parts += [_examples(result, kind, warning) for kind, warning in counts]
    if result.balance.shares:
        parts.append(_balance_table(result.balance, image_size))
    return "\n\n".join([*parts, _verdict(result, counts)])


def as_dict(result: CheckResult) -> dict[str, Any]:
    """Everything that was found, as JSON values."""
    return {
        "sound": result.sound,
        "photographs": dict(Counter(photograph.split for photograph in result.photographs)),
        "faults": {kind: n for (kind, warning), n in _counts(result).items() if not warning},
        "warnings": {kind: n for (kind, warning), n in _counts(result).items() if warning},
        "findings": [_finding(finding) for finding in result.findings],
        "structures": result.balance.as_dict(),
        "checked": CHECKED,
        "unlisted": {str(folder): names for folder, names in result.unlisted.items()},
        "size_edges": SIZE_EDGES.tolist(),
    }


def _counts(result: CheckResult) -> Counter[tuple[str, bool]]:
    """Number of findings of each kind and severity, faults first."""
    return Counter((finding.kind, finding.warning) for finding in result.findings)


def _finding(finding: Finding) -> dict[str, Any]:
    severity = {"severity": _severity(finding.warning)}
    return {"kind": finding.kind} | severity | {"files": list(finding.files), "message": finding.message}


def _severity(warning: bool) -> str:
    return "warning" if warning else "fault"


def _examples(result: CheckResult, kind: str, warning: bool) -> str:
    """The first messages of a kind."""
    messages = [f.message for f in result.findings if (f.kind, f.warning) == (kind, warning)]
    rest = len(messages) - SHOWN
    return "\n".join([f"{kind}:", *(f"  {m}" for m in messages[:SHOWN]), *([f"  ... and {rest} more"] * (rest > 0))])


def _balance_table(balance: ClassBalance, image_size: int) -> str:
    """Masks, photographs and covered share of each structure by split; how many parts are small."""
    splits = list(balance.images)
    headings = ["Structure", *(f"{split}: masks / images / share" for split in splits)]
    headings += ["Parts", f"below {FEW_PIXELS} px at {image_size}"]
    lines = []
    for structure in sorted(balance.shares):
        sizes = balance.sizes[structure]
        cells = [_share_text(balance, structure, split) for split in splits]
        lines.append([structure, *cells, str(sizes.parts), str(sizes.small_parts)])
    lines.append(["all photographs", *(str(balance.images[split]) for split in splits), "", ""])
    return markdown_table(headings, lines)


def _share_text(balance: ClassBalance, structure: str, split: str) -> str:
    share = balance.shares[structure].get(split)
    return f"{share.masks} / {share.images} / {share.covered / share.images:.2%}" if share else "-"


CHECKED = (
    "maps and index.csv (entries, paths, headings, rows, patients)",
    "photographs (readable, depth, pages, transparency, surround, masks among them)",
    "masks (readable, values, size, empty, equal, inverted, outside the field of view, cups outside discs)",
    "where vessels, discs, cups and lesions lie (shifted, by a pixel too, mirrored, turned, not seen)",
    "splits (copies, the same eye, patients by index.csv and by name)",
    "sizes at --image_size, and structures that are not trained",
)


def _verdict(result: CheckResult, counts: Counter[tuple[str, bool]]) -> str:
    """Sound or not, what was looked at, and what was not."""
    faults = sum(n for (_, warning), n in counts.items() if not warning)
    warnings = counts.total() - faults
    size = f"{len(result.photographs)} photographs"
    verdict = f"SOUND: no fault and {warnings} warning(s) in {size}."
    if faults:
        verdict = f"NOT SOUND: {faults} fault(s) and {warnings} warning(s) in {size}. Mend the files named above."
    left = [f"not looked at, in no map: {_some(names)} in {folder}" for folder, names in result.unlisted.items()]
    return "\n".join([verdict, "checked: " + "; ".join(CHECKED), *left])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)
