"""The same masks measured by retinalysis-vascx, where it is installed (docs/reference/measurements.md)."""

import numpy as np
import pytest

from sam_med2d.measurement.retina_measurement import measure_retina
from segment_anything.utils.field_of_view import FieldOfView
from tests.helpers.shapes import ellipse, spokes

SIDE = 1024  # which vascx wants
MIDDLE, FOVEA = (512.3, 511.8), (212.0, 512.0)
ARTERIES, VEINS = [7, 8, 9, 10, 11, 12, 13, 14], [9, 10, 11, 12, 13, 14, 15]


@pytest.mark.slow
def test_calibres_densities_and_equivalents_are_those_of_vascx():
    """Of vessels that do not branch; where they do, vascx counts each segment that touches zone B."""
    pytest.importorskip("vascx", reason="pip install retinalysis-vascx")
    from vascx.fundus.features.caliber import Caliber
    from vascx.fundus.features.cre import CRE, CREMode
    from vascx.fundus.features.cre_knudtson import CREKnudtson
    from vascx.fundus.features.tortuosity import Tortuosity
    from vascx.fundus.features.vascular_densities import VascularDensity
    from vascx.fundus.layer import VesselTreeLayer
    from vascx.fundus.retina import Retina
    from vascx.shared.aggregators import LengthWeightedAggregator

    field = FieldOfView((SIDE, SIDE), (0, 0, SIDE, SIDE), (512, 512), 500)
    inside, disc = field.mask(), ellipse(SIDE, MIDDLE, (60, 60))
    trees = {
        "artery": spokes(SIDE, MIDDLE, ARTERIES, start=40, end=300),
        "vein": spokes(SIDE, MIDDLE, VEINS, start=40, end=300, turn=19),
    }
    ours, _ = measure_retina({"optic_disc": disc, **trees}, field, fovea=FOVEA)
    layers = {"arteries": trees["artery"], "veins": trees["vein"]}
    retina = Retina(
        disc_path_or_mask=disc.astype(np.uint8),
        fundus_path_or_mask=np.zeros((SIDE, SIDE, 3), np.uint8),
        layers={name: VesselTreeLayer(name, mask.astype(np.uint8)) for name, mask in layers.items()},
        fovea_location=FOVEA,
        roi_mask=inside.astype(np.uint8),
    )
    assert ours["disc_diameter_px"] == pytest.approx(2 * retina.disc.circle.r, abs=1)  # its circle runs inside the rim
    assert ours["disc_fovea_px"] == pytest.approx(retina.disc_fovea_distance, abs=0.01)
    for name, layer, column in (("artery", retina.arteries, "crae_px"), ("vein", retina.veins, "crve_px")):
        calibre = Caliber(aggregator=LengthWeightedAggregator()).compute(layer)
        assert ours[f"{name}_width_mean_px"] == pytest.approx(calibre, rel=0.02)
        assert ours[f"{name}_tortuosity"] == pytest.approx(Tortuosity().compute(layer), rel=0.01)
        assert trees[name][inside].mean() == pytest.approx(VascularDensity().compute(layer), rel=1e-3)
        for feature in (CREKnudtson(CREMode=CREMode.Full), CRE(CREMode=CREMode.Full)):
            assert ours[column] == pytest.approx(feature.compute(layer), rel=0.02)
