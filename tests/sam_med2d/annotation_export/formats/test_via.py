"""Projects of VIA written from our maps."""

import json

from tests.helpers.round_trips import lost, masks_in, read_back, small_data, written


def test_round_trip(tmp_path):
    data = small_data(tmp_path / "data")
    out = written(data, tmp_path / "via.json", "via")
    back = read_back("via", out, tmp_path / "back", "--image_root", data, "--missing", "absent", "--split", "1/1/1")
    assert not lost(masks_in(data), masks_in(back))
    content = json.loads(out.read_text())
    size = (data / "images/eye_0.png").stat().st_size
    assert content["_via_image_id_list"][0] == f"data/images/eye_0.png{size}"
    assert list(content["_via_attributes"]["region"]["structure"]["options"]) == [
        *("hard_exudate", "microaneurysm", "optic_disc", "vessel")
    ]
