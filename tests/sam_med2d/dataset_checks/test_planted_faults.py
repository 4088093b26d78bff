"""Faults planted among real photographs are all found, sound files are not named (skipped without --fundus=PATH)."""

import json
import random
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam_med2d.data.image_io import read_image
from sam_med2d.data.records import load_index
from sam_med2d.dataset_checks.check import check
from segment_anything.preprocessing import Preprocessing

EACH = 20
FILES = ("missing_file", "unreadable", "wrong_size", "not_binary", "empty_mask", "vanishes", "wrong_entry")
COPIES = ("same_bytes", "resized", "recompressed", "converted")
SOUND = 80
# told from what the photograph shows: planted in tests/test_anatomy.py
OTHERS = {"inverted", "outside_field_of_view", "cup_outside_disc", "flipped", "shifted", "not_seen"}


def write(path: Path, picture: np.ndarray, quality: int = 92) -> None:
    assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


class Trial:
    """Photographs in a training map and, some of them again, in a test map; expected: {kind: files}."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder, self.random = folder, random.Random(0)
        self.train: dict[str, list[str] | str] = {}
        self.test: dict[str, str] = {}  # by mask
        self.patients: dict[str, str] = {}
        self.expected: dict[str, set[str]] = {}
        for part in ("images", "masks"):
            (folder / part).mkdir()
        records = [record for record in load_index(source, "train") if "tile" not in record.data_set]
        self.random.shuffle(records)
        margin = [record for record in records if Preprocessing(256).frame(read_image(record.image)).crop[1] > 4][:EACH]
        rest = [record for record in records if record not in margin]
        count = (len(FILES) - 1 + len(COPIES) + 2) * EACH + SOUND
        self.images = [self._add(record) for record in [*margin, *rest][:count]]

    def _add(self, record) -> str:
        image, mask = f"images/{record.image.name}", f"masks/{record.masks[0].path.name}"
        shutil.copy(record.image, self.folder / image)
        shutil.copy(record.masks[0].path, self.folder / mask)
        self.train[image] = [mask]
        self.patients[image] = f"patient {len(self.patients)}"
        return image

    def plant_all(self) -> None:
        """EACH faults of each kind; masks that vanish first, in photographs with a dark margin."""
        images = iter(self.images)
        for kind in sorted(FILES, key=lambda kind: kind != "vanishes"):
            for _ in range(EACH):
                self.plant(kind, next(images))
        for kind in COPIES:
            for _ in range(EACH):
                self.copy(kind, next(images))
        for _ in range(EACH):
            first, second = next(images), next(images)
            self.patients[second] = self.patients[first]
            self.test[self.train.pop(second)[0]] = second
            self.expected.setdefault("same_patient", set()).add(first)
        (self.folder / "image2label_train.json").write_text(json.dumps(self.train))
        (self.folder / "label2image_test.json").write_text(json.dumps(self.test))
        rows = [f"{image},mixed,{patient}" for image, patient in self.patients.items()]
        (self.folder / "index.csv").write_text("\n".join(["image,dataset,patient_or_image_id", *rows]))

    def plant(self, kind: str, image: str) -> None:
        mask = self.train[image][0]
        path = self.folder / (image if kind == "unreadable" else mask)
        drawn = cv2.imread(str(self.folder / mask), 0)
        if kind == "missing_file":
            path.unlink()
        elif kind == "unreadable":
            path.write_bytes(path.read_bytes()[: int(path.stat().st_size * self.random.uniform(0.1, 0.99))])
        elif kind == "wrong_entry":
            self.train[image] = mask
        else:
            faulty = {"wrong_size": drawn[:, :-1], "not_binary": drawn // 2, "empty_mask": 0 * drawn}
            corner = np.zeros_like(drawn)
            corner[:2, :2] = 255
            write(path, faulty.get(kind, corner))
        file = image if kind in ("unreadable", "wrong_entry") else mask
        self.expected.setdefault(kind, set()).add(file)

    def copy(self, kind: str, image: str) -> None:
        """The photograph in the test split as well, saved in another way."""
        mask = self.train[image][0]
        name = f"images/copy_{Path(image).stem}{'.png' if kind == 'converted' else '.jpg'}"
        target = f"masks/copy_{Path(mask).name}"
        picture, drawn = cv2.imread(str(self.folder / image)), cv2.imread(str(self.folder / mask), 0)
        if kind == "resized":
            scale = self.random.uniform(0.6, 0.8)
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            drawn = cv2.resize(drawn, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        if kind == "converted":
            picture = cv2.convertScaleAbs(picture, alpha=self.random.uniform(1.02, 1.1))
        write(self.folder / name, picture, self.random.randint(40, 60) if kind == "recompressed" else 92)
        if kind == "same_bytes":
            shutil.copy(self.folder / image, self.folder / name)
        drawn[tuple(side // 2 for side in drawn.shape)] = 255  # small lesions may be lost when halved
        write(self.folder / target, drawn)
        self.test[target] = name
        self.expected.setdefault("same_bytes" if kind == "same_bytes" else "same_picture", set()).add(image)


@pytest.mark.slow
@pytest.mark.photographs
def test_planted_faults_are_found_and_nothing_else(fundus, tmp_path):
    trial = Trial(fundus, tmp_path)
    trial.plant_all()
    found: dict[str, set[str]] = {}
    result = check([tmp_path], image_size=256, workers=1)
    for finding in result.findings:
        if not finding.warning and finding.kind not in OTHERS:
            found.setdefault(finding.kind, set()).add(finding.files[0].removeprefix(f"{tmp_path}/"))
    assert {kind: len(files) for kind, files in trial.expected.items()} == {
        **dict.fromkeys((*FILES, "same_bytes", "same_patient"), EACH),
        "same_picture": 3 * EACH,
    }
    missed = {kind: files - found.get(kind, set()) for kind, files in trial.expected.items()}
    false = {kind: files - trial.expected.get(kind, set()) for kind, files in found.items()}
    assert not any(missed.values()), missed
    assert sum(map(len, false.values())) <= 0.01 * len(result.photographs), false
