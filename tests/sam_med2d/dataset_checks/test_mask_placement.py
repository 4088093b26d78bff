"""Masks that do not lie where their photograph shows the structure are found, sound ones pass."""

from functools import cache

import cv2
import numpy as np
import pytest

from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.records import load_index
from sam_med2d.data.synthetic_fundus import synthetic_fundus
from sam_med2d.dataset_checks.alignment import LEAST_SCORE, REACH, SPOTS, Fit, Move
from sam_med2d.dataset_checks.findings import Finding
from sam_med2d.dataset_checks.mask_placement import PLACEMENT_KINDS, check_placement, resolve_doubts

MIRRORS = {"left-right": np.fliplr, "upside-down": np.flipud, "by 180 degrees": lambda mask: np.rot90(mask, 2)}
PLANTS = 20
JUDGED = ("optic_disc", "optic_cup", "vessel", "hard_exudate", "microaneurysm")


@cache
def eye(seed, height=480, width=512):
    image, masks = synthetic_fundus(height=height, width=width, seed=seed)
    return image, {f"{name}.png": (name, mask.astype(np.uint8)) for name, mask in masks.items()}


def shifted(mask, *, right=0, down=0):
    height, width = mask.shape
    return cv2.warpAffine(mask, np.float32([[1, 0, right], [0, 1, down]]), (width, height), flags=cv2.INTER_NEAREST)


def verdict(image, masks, name, mask):
    """Kinds and messages for one file whose mask was replaced."""
    findings = check_placement(image, masks | {name: (masks[name][0], np.ascontiguousarray(mask))})
    return {finding.kind: finding.message for finding in findings if finding.files[0] == name}


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
def test_sound_masks_pass(seed):
    assert check_placement(*eye(seed)) == []


@pytest.mark.parametrize("structure", JUDGED)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_planted_faults_are_found(structure, seed):
    image, masks = eye(seed)
    name = f"{structure}.png"
    mask = masks[name][1]
    assert "inverted" in verdict(image, masks, name, 1 - mask)
    message = verdict(image, masks, name, np.fliplr(mask))["flipped"]
    assert name in message and "left-right" in message
    message = verdict(image, masks, name, shifted(mask, right=30))["shifted"]
    assert "too far to the right" in message and " and " not in message
    assert abs(int(message.split("about ")[1].split()[0]) - 30) <= 8


def test_a_shift_is_told_in_pixels_of_the_photograph():
    image, masks = eye(2, 960, 1024)
    message = verdict(image, masks, "vessel.png", shifted(masks["vessel.png"][1], down=-80))["shifted"]
    assert "about 80 pixels too far up" in message


def test_a_mask_outside_the_field_of_view():
    image, masks = eye(3)
    mask = masks["vessel.png"][1].copy()
    mask[:40, :40] = 1
    assert set(verdict(image, masks, "vessel.png", mask)) == {"outside_field_of_view"}


def test_a_cup_outside_its_disc_and_one_that_touches_its_edge():
    image, masks = eye(4)
    disc, cup = masks["optic_disc.png"][1], masks["optic_cup.png"][1]
    assert "cup_outside_disc" in verdict(image, masks, "optic_cup.png", shifted(cup, down=40))
    assert verdict(image, masks, "optic_cup.png", disc).keys().isdisjoint({"cup_outside_disc"})
    without = {name: found for name, found in masks.items() if name != "optic_disc.png"}
    assert "cup_outside_disc" not in verdict(image, without, "optic_cup.png", shifted(cup, down=40))


def test_masks_that_moved_together_are_all_named():
    image, masks = eye(5)
    findings = check_placement(image, {name: (kind, shifted(mask, right=40)) for name, (kind, mask) in masks.items()})
    assert {finding.files[0] for finding in findings if finding.kind == "shifted"} == set(masks)


def test_a_moved_neighbour_does_not_accuse_sound_masks():
    image, masks = eye(6)
    moved = masks | {"vessel.png": ("vessel", np.ascontiguousarray(np.flipud(masks["vessel.png"][1])))}
    assert {finding.files[0] for finding in check_placement(image, moved)} == {"vessel.png"}


def test_what_cannot_be_judged_passes():
    image, masks = eye(7)
    assert check_placement(image, {"new.png": ("drusen", masks["vessel.png"][1][::-1].copy())}) == []
    assert check_placement(np.zeros_like(image), masks) == []


def test_a_lesion_that_does_not_show_is_a_doubt():
    image, _ = eye(7)
    dot = cv2.circle(np.zeros(image.shape[:2], np.uint8), (300, 240), 4, 1, -1)
    (finding,) = check_placement(image, {"ma.png": ("microaneurysm", dot)})
    assert (finding.kind, finding.warning) == ("not_seen", True) and "no microaneurysm" in finding.message


def test_what_is_a_doubt_and_what_a_fault():
    """A move by less than the disc's radius, and a mask whose own place shows the structure, are doubts."""
    shifted = np.zeros((2 * REACH + 1, 2 * REACH + 1))
    shifted[REACH, REACH + 40] = 9.0

    def doubtful(right, given, structure="optic_disc"):
        fit = Fit(
            structure=structure, single_lesion=False, radius=25.0, given=given, mirrored={"": 0.0}, shifted=shifted
        )
        return fit.doubtful(Move(right=right))

    assert doubtful(24, 0.0) and not doubtful(26, 0.0) and not doubtful(24, 0.0, "vessel")
    assert not doubtful(40, LEAST_SCORE["optic_disc"] - 0.1) and doubtful(40, LEAST_SCORE["optic_disc"])


def test_more_doubts_than_chance_are_faults():
    doubts = [Finding("shifted", (str(i),), "", warning=True) for i in range(4)]
    other = Finding("small_parts", ("0",), "", warning=True)
    assert resolve_doubts([*doubts, other], 200) == [*doubts, other]
    assert [finding.warning for finding in resolve_doubts([*doubts, other], 199)] == [False] * 4 + [True]


def test_unknown_structures_are_checked_for_inversion_alone():
    image, _ = eye(0)
    fovea = cv2.circle(np.zeros(image.shape[:2], np.uint8), (250, 240), 30, 1, -1)
    field = (image.max(axis=2) > 30).astype(np.uint8)
    assert [f.kind for f in check_placement(image, {"a.png": ("fovea", 1 - fovea), "b.png": ("field", field)})] == [
        "inverted"
    ]


@pytest.fixture
def photographs(fundus):
    """Photographs of the validation map with their masks as `check_placement` takes them."""
    return [
        (read_image(r.image), {mask.key: (mask.structure, read_mask(mask.path)) for mask in r.masks})
        for r in load_index(fundus, "val")
    ]


def flipped(mask, rng, disc):
    """Mirrored; None where the mask is near-symmetric, which is no fault."""
    name = str(rng.choice(list(MIRRORS)))
    moved = MIRRORS[name](mask)
    return moved if (moved & mask).sum() < 0.5 * mask.sum() else None


def displaced(mask, rng, disc):
    """Shifted along an axis by 6 to 20 % of the width; None where the picture would cut it."""
    by = int(rng.choice([-1, 1]) * rng.uniform(0.06, 0.2) * mask.shape[1])
    moved = shifted(mask, right=by) if rng.random() < 0.5 else shifted(mask, down=by)
    return moved if moved.sum() > 0.9 * mask.sum() else None


def escaped(mask, rng, disc):
    """Shifted until a tenth of a cup or more lies outside its disc."""
    angle, by = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.12) * mask.shape[1]
    moved = shifted(mask, right=by * np.cos(angle), down=by * np.sin(angle))
    return moved if (moved & ~disc & 1).sum() > 0.1 * moved.sum() else None


def spilled(mask, rng, disc):
    """A patch drawn into a corner."""
    mask, (top, left) = mask.copy(), rng.choice([0, -30], 2)
    mask[top : top + 30 or None, left : left + 30 or None] = 1
    return mask


ANATOMY = ("optic_disc", "optic_cup", "vessel")
FAULTS = {
    "inverted": ((*ANATOMY, "hard_exudate", "microaneurysm"), lambda mask, rng, disc: 1 - mask),
    "outside_field_of_view": (("optic_disc",), spilled),
    "cup_outside_disc": (("optic_cup",), escaped),
    "flipped": (ANATOMY, flipped),
    "shifted": (ANATOMY, displaced),
}


@pytest.mark.photographs
@pytest.mark.parametrize("kind", FAULTS)
def test_every_planted_fault_is_found(photographs, kind):
    structures, fault = FAULTS[kind]
    rng = np.random.default_rng(0)
    places = [(i, name) for i, (_, masks) in enumerate(photographs) for name in masks if masks[name][0] in structures]
    planted, missed = 0, []
    while planted < PLANTS:
        index, name = places[rng.integers(len(places))]
        image, masks = photographs[index]
        disc = next((mask for structure, mask in masks.values() if structure == "optic_disc"), None)
        mask = fault(masks[name][1], rng, disc)
        if mask is not None:
            planted += 1
            missed += [name] if kind not in verdict(image, masks, name, mask) else []
    assert not missed


@pytest.mark.photographs
@pytest.mark.parametrize("fault", [flipped, pytest.param(displaced, marks=pytest.mark.slow)])
def test_misplaced_lesions_are_named(photographs, fault):
    """Their place, or that they do not show where they are: all but one in twenty."""
    rng = np.random.default_rng(0)
    places = [(i, name) for i, (_, masks) in enumerate(photographs) for name in masks if masks[name][0] in SPOTS]
    planted = missed = 0
    while planted < PLANTS:
        index, name = places[rng.integers(len(places))]
        image, masks = photographs[index]
        mask = fault(masks[name][1], rng, None)
        if mask is not None:
            planted += 1
            missed += verdict(image, masks, name, mask).keys().isdisjoint(PLACEMENT_KINDS)
    assert missed <= 1


@pytest.mark.photographs
def test_sound_photographs_pass(photographs):
    named = {finding.files[0] for image, masks in photographs for finding in check_placement(image, masks)}
    assert len(named) <= 0.01 * sum(len(masks) for _, masks in photographs), named
