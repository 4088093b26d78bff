"""Names of photographs tell patients where they do, and nobody where they do not."""

import itertools

import pytest

from sam_med2d.data.index_table import IndexTable
from sam_med2d.data.patients import MANY, alike_in_names, patients_in_names

# names of photographs, and the patient that each tells
SETS = {
    "left and right": {"p1_left": "p1", "p1_right": "p1", "p2_left": "p2"},
    "in any case, glued to a number": {"Image_01L": "Image_01", "Image_01R": "Image_01", "Image_02R": "Image_02"},
    "PAPILA": {"RET002OD": "RET002", "RET002OS": "RET002", "RET003OD": "RET003"},
    "EyePACS sorted by grade": {"0/10_left": "10", "2/10_right": "10", "0/13_left": "13"},
    "ODIR": {"0_left": "0", "0_right": "0", "1_left": "1"},
    "RE and LE": {"S12-LE": "S12", "S12-RE": "S12"},
    "German": {"Maier_links": "Maier", "Maier_rechts": "Maier", "Huber_links": "Huber"},
    "Spanish": {"h1_OI": "h1", "h1_OD": "h1"},
    "left eye": {"7_left_eye": "7", "7_right_eye": "7"},
    "od inside": {"7_od_fundus": "7", "7_os_fundus": "7", "8_os_fundus2": "8"},
    "several of an eye": {"12_OD_1": "12", "12_OD_2": "12", "12_OS_1": "12", "13_OD_1": "13"},
    "DeepDRiD": {"1_l1": "1", "1_l2": "1", "1_r1": "1", "2_r2": "2"},
    "an eye before the number": {f"clinic_{eye}_{i}": f"clinic_{i}" for i in (1, 2, 3) for eye in ("OD", "OS")},
    "folders of patients": {"P1/left": "P1", "P1/right": "P1", "P2/left": "P2", "P2/right": "P2"},
    "folders of patients, numbers": {"P1/OD_1": "P1", "P1/OS_2": "P1", "P2/OD_1": "P2", "P2/OS_2": "P2"},
    "folders of eyes": {"left/1": "1", "left/2": "2", "right/1": "1"},
    "numbers that begin again": {"a/1_left": "a_1", "a/1_right": "a_1", "b/1_left": "b_1", "b/1_right": "b_1"},
    "visits": {"12_v1": "12", "12_v02": "12", "13_visit_1": "13"},
    "folders of visits": {"visit1/P1": "P1", "visit2/P1": "P1", "visit2/P2": "P2"},
    "visits and eyes": {"P1_OD_visit1": "P1", "P1_OS_visit2": "P1", "P2_OS_visit1": "P2"},
    "dates": {"P1_2019-03-04": "P1", "P1_20200304": "P1", "P2_04.03.2020": "P2"},
    "dates with times": {"P1_20190304_101500": "P1", "P1_20200304_111213": "P1"},
    "dates and eyes": {"P1_20190304_OD": "P1", "P1_20200304_OS": "P1", "P2_20190304_OD": "P2"},
    "dates first": {"20190304_P1_OD": "P1", "20200305_P1_OS": "P1", "20200305_P2_OD": "P2"},
    "a day's numbers and eyes": {"20190304_0012_L": "20190304_0012", "20190304_0012_R": "20190304_0012"},
    "tiles": {"e1_x0544y0000": "e1", "e1_x0000y0544": "e1", "e2_x0000y0000": "e2"},
    "our tiles": {"e1_y00000_x00512": "e1", "e1_y00000_x00000": "e1"},
    "the word patient": {"Patient013-R": "Patient013", "patient_14": "patient_14"},
    "ARIA": {"aria_a_1_1": "aria_a_1", "aria_a_1_2": "aria_a_1", "aria_c_1_1": "aria_c_1"},
    "UK Biobank": {"1234567_21015_0_0": "1234567", "1234567_21016_1_0": "1234567"},
    "some alone": {"p1_left": "p1", "p1_right": "p1", "scan": "", "9": ""},
}
# names that tell nobody
UNKNOWN = {
    "HRF": ["01_dr", "01_g", "01_h", "02_dr"],
    "IDRiD": ["IDRiD_01", "IDRiD_02", "IDRiD_03"],
    "DRIVE": ["21_training", "22_training", "01_test"],
    "DIARETDB": ["image001", "image002"],
    "STARE": ["im0001", "im0002"],
    "FIVES": ["1_A", "1_D", "1_N", "1_G"],
    "REFUGE": ["V0001", "V0002", "g0001", "n0001"],
    "RIM-ONE r3": ["G-1-L", "G-2-R", "N-1-L"],
    "Messidor": ["20051019_38557_0100_PP", "20051020_38557_0100_PP", "20051020_43808_0100_PP"],
    "DR HAGIS": ["1", "2", "3"],
    "colours": ["eye1_R", "eye1_G", "eye1_B"],
    "a camera's counter": [f"IMG_{i:04d}_{'LR'[i % 2]}" for i in range(9)],
    "a camera's days": ["IMG_20190304_101500", "IMG_20190305_101500"],
    "a camera's days and counter": ["20190304_DSC0012", "20200304_DSC0012", "20200304_0012", "20190305_0012"],
    "a clinic's days": [f"clinic_2019030{i}" for i in range(1, 9)],
    "two clinics' days": [f"{name}_2019-03-{i:02d}" for name in ("north", "south") for i in range(1, MANY + 5)],
    "one eye": ["p1_left", "p2_left"],
    "numbering of folders": ["train/1", "test/1", "test/2"],
    "nothing": [],
}


def test_names_tell_their_patients():
    wrong = {}
    for habit, expected in SETS.items():
        found = patients_in_names([f"set/{name}.jpg" for name in expected])
        if found.of != list(expected.values()) or not found.how:
            wrong[habit] = found
    assert not wrong


def test_other_names_tell_nobody():
    found = {habit: patients_in_names([f"set/{name}.jpg" for name in names]) for habit, names in UNKNOWN.items()}
    assert not {habit: one for habit, one in found.items() if any(one.of) or one.examples}


def test_the_order_of_names_does_not_matter():
    for expected in (SETS["several of an eye"], SETS["dates and eyes"], SETS["some alone"]):
        for names in itertools.islice(itertools.permutations(expected), 24):
            assert patients_in_names([f"{name}.png" for name in names]).of == [expected[name] for name in names]


def test_each_pattern_is_shown_with_an_example():
    found = patients_in_names(["p1_left.jpg", "p1_right.jpg", "p2_v1.jpg", "p2_v2.jpg"])
    assert found.how == "left and right (p1_left and p1_right: p1), visits (p2_v1 and p2_v2: p2)"


def test_names_that_may_be_of_one_person_are_shown(tmp_path):
    names = [tmp_path / f"{eye}_{n}.jpg" for eye in (12, 13, 14) for n in (1, 2)]
    assert alike_in_names(names) == ["12_1.jpg", "12_2.jpg"] and not any(patients_in_names(names).of)
    assert alike_in_names([tmp_path / f"eye_{n}.jpg" for n in range(9)]) == []


@pytest.mark.photographs
def test_public_sets_are_grouped_as_their_index_says(fundus):
    """CHASE names eyes, tiles their place; no other set's names tell a patient."""
    by_set: dict[str, dict[str, str]] = {}
    for row in IndexTable.read(fundus).rows:
        by_set.setdefault(row["dataset"], {})[row["image"]] = row["patient_or_image_id"]
    told = {data_set: patients_in_names([*images]).of for data_set, images in by_set.items()}
    told = {data_set: found for data_set, found in told.items() if any(found)}
    assert told.keys() == {"chase", "idridtile", "heimedtile"}
    for data_set, found in told.items():
        pairs = set(zip(found, by_set[data_set].values(), strict=True))
        assert len(pairs) == len({name for name, _ in pairs}) == len({patient for _, patient in pairs})
