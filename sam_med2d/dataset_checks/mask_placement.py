"""Whether masks lie where their photograph shows the structure.

`check_placement` compares one photograph with its masks. It reports only what the photograph decides: a mask of few
pixels, or of a structure that hardly shows, passes.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from sam_med2d.dataset_checks.alignment import PLACEABLE, SAME_PLACE, SEARCH_SIDE, Fit, Move
from sam_med2d.dataset_checks.evidence import WORKING_SIDE, Evidence, to_side
from sam_med2d.dataset_checks.findings import Finding
from segment_anything.utils.field_of_view import FieldOfView, find_field_of_view

# An inverted mask fills most of the picture and of what surrounds the structure: the dark surround of the field of
# view, or the picture's border where the field of view leaves hardly any. Sound masks of the train map and of lesion
# tiles fill at most 20 % of the picture and 23 % of its border.
INVERTED_SHARE = 0.5
LEAST_SURROUND = 0.02
# The rim of the field of view is uncertain by this share of the longer side. Up to 1.1 % of a sound mask of the train
# map lies beyond it. The share of the picture finds a stray patch beside a large mask.
RIM_SHARE = 0.01
OUTSIDE_SHARE, OUTSIDE_PICTURE = 0.02, 0.002
# Cups of the train map lie wholly inside their discs; other graders draw both by hand, one after the other.
CUP_OUTSIDE_SHARE = 0.03

# Up to this share of the masks may seem misplaced though they are right (of the train map 2 of 843, of its tiles 4 of
# 514). Doubts about more of them are no chance, and become faults.
CHANCE = 0.02
PLACEMENT_KINDS = ("flipped", "shifted", "not_seen")

# {file name: (structure, share of each pixel that the mask fills, float32 [h, w])}, all with a side of WORKING_SIDE
Shares = dict[str, tuple[str, np.ndarray]]


def check_placement(
    image: np.ndarray, masks: dict[str, tuple[str, np.ndarray]], view: FieldOfView | None = None
) -> list[Finding]:
    """Faults of the masks of one photograph.

    Args:
        image: RGB uint8 [H, W, 3].
        masks: {file name: (structure, uint8 {0, 1} [H, W])}.
        view: its field of view; None where it is not known yet.

    Returns:
        Findings of the kinds "inverted", "outside_field_of_view", "cup_outside_disc", "flipped", "shifted" and
        "not_seen"; the last three may be warnings.
    """
    small = to_side(image, WORKING_SIDE)
    inside = (view or find_field_of_view(image)).resized(small.shape[:2]).mask()
    shares = {
        name: (structure, to_side(mask * np.uint8(255), WORKING_SIDE).astype(np.float32) / 255)
        for name, (structure, mask) in masks.items()
    }
    inverted = [name for name, (_, mask) in shares.items() if _is_inverted(mask, inside)]
    rest = {name: found for name, found in shares.items() if name not in inverted and found[1].any()}
    findings = [
        Finding("inverted", (name,), f"{name} covers the background instead of the structure: swap its 0 and 255")
        for name in inverted
    ]
    findings += [finding for name, (_, mask) in rest.items() if (finding := outside(name, mask, inside))]
    return (
        findings
        + _cups_outside(rest)
        + misplaced(Evidence(small, inside), rest, scale=max(image.shape[:2]) / SEARCH_SIDE)
    )


def _is_inverted(mask: np.ndarray, inside: np.ndarray) -> bool:
    """Whether a mask (shares of pixels, 0..1 [h, w]) covers everything in the field of view but a structure."""
    if mask.mean() <= INVERTED_SHARE:
        return False
    if 1 - inside.mean() > LEAST_SURROUND:
        around = mask[~inside]
    else:
        around = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return bool(around.mean() > INVERTED_SHARE)


def outside(name: str, mask: np.ndarray, inside: np.ndarray) -> Finding | None:
    """A finding where a relevant part of a mask lies outside the field of view; arrays as in `_is_inverted`."""
    small = mask >= 0.5
    far = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5) > RIM_SHARE * WORKING_SIDE
    beyond, whole = int(small[far].sum()), int(small.sum())
    if beyond <= min(OUTSIDE_SHARE * whole, OUTSIDE_PICTURE * small.size):
        return None
    message = f"{beyond / whole:.0%} of {name} lie outside the field of view: check that it belongs to this photograph"
    return Finding("outside_field_of_view", (name,), message)


def _cups_outside(masks: Shares) -> list[Finding]:
    """A finding for each optic cup that is not inside its photograph's optic discs, give or take a pixel."""
    discs = {
        name: (mask >= 0.5).astype(np.uint8) for name, (structure, mask) in masks.items() if structure == "optic_disc"
    }
    if not discs:
        return []
    disc = cv2.dilate(np.maximum.reduce(list(discs.values())), np.ones((3, 3), np.uint8))
    findings = []
    for name, (structure, mask) in masks.items():
        cup = mask >= 0.5
        if structure == "optic_cup" and (share := 1 - cup[disc > 0].sum() / max(cup.sum(), 1)) > CUP_OUTSIDE_SHARE:
            message = f"{share:.0%} of {name} lie outside the optic disc ({', '.join(discs)}): correct either outline"
            findings.append(Finding("cup_outside_disc", (name, *discs), message))
    return findings


def misplaced(evidence: Evidence, masks: Shares, *, scale: float) -> list[Finding]:
    """A finding for each mask that fits clearly better after a shift or a mirror, or does not fit where it is.

    A move that one mask shows beyond doubt is tried on the others too: it decides where a round disc came from, and
    where masks belong that are too small to decide alone.

    Args:
        evidence: of the photograph.
        masks: those that are not inverted.
        scale: pixels of the photograph per search pixel.
    """
    fits = {name: evidence.fit(structure, mask) for name, (structure, mask) in masks.items() if structure in PLACEABLE}
    moves = {name: fit.moves() for name, fit in fits.items()}
    shown = {found[0] for found in moves.values() if len(found) == 1}
    for name, fit in fits.items():
        shared = [move for move in shown if fit.improves(move)]
        if shared and len(moves[name]) != 1:
            moves[name] = [max(shared, key=fit.score)]
    findings = [
        _to_move(name, move, scale, doubtful=fits[name].doubtful(move))
        for name, found in moves.items()
        for move in found
    ]
    return findings + [_not_seen(name, fit) for name, fit in fits.items() if fit.not_visible and not moves[name]]


def _not_seen(name: str, fit: Fit) -> Finding:
    message = f"{name} is where its photograph shows no {fit.structure}: is it mirrored, shifted or of another eye?"
    return Finding("not_seen", (name,), message, warning=True)


def resolve_doubts(findings: Sequence[Finding], checked: int) -> list[Finding]:
    """The findings of a data set, in which doubts about many masks are no chance: these warnings become faults.

    Args:
        findings: of all photographs.
        checked: number of masks whose placement was checked.
    """
    doubts = {finding.files[0] for finding in findings if finding.kind in PLACEMENT_KINDS and finding.warning}
    if len(doubts) <= CHANCE * checked:
        return [*findings]
    return [replace(finding, warning=False) if finding.kind in PLACEMENT_KINDS else finding for finding in findings]


def _to_move(name: str, move: Move, scale: float, *, doubtful: bool) -> Finding:
    """The finding for a mask that has to be moved; a warning where it may be right where it is."""
    if move.mirror:
        turned = "rotated" if move.mirror.startswith("by") else "mirrored"
        message = f"{name} seems to be {turned} {move.mirror} against its photograph"
    else:
        across = f"{round(abs(move.right) * scale)} pixels too far to the {'left' if move.right > 0 else 'right'}"
        along = f"{round(abs(move.down) * scale)} pixels too far {'up' if move.down > 0 else 'down'}"
        parts = [part for part, by in ((across, move.right), (along, move.down)) if abs(by) > SAME_PLACE]
        message = f"{name} seems to lie about {' and '.join(parts)} in its photograph"
    back = "turn it back" if move.mirror else "move it back"
    message += f", but this is a doubt: look at it, {back} if so" if doubtful else f": look at it, then {back}"
    return Finding("flipped" if move.mirror else "shifted", (name,), message, warning=doubtful)
