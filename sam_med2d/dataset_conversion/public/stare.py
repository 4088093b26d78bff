"""STARE: the 20 photographs with vessels, by two observers.

There is no official split. The other photographs of the full set (397) have no vessel masks and are passed over.
"""

from sam_med2d.dataset_conversion.dataset_spec import DataSet, Masks, by_patterns

NUMBERS = (1, 2, 3, 4, 5, 44, 77, 81, 82, 139, 162, 163, 235, 236, 239, 240, 255, 291, 319, 324)
NAME = f"im(?P<id>{'|'.join(f'{number:04d}' for number in NUMBERS)})"
SUFFIX = r"\.(ppm|png)(\.gz)?"
OBSERVERS = ("ah", "vk")  # A. Hoover, V. Kouznetsova
SAME_EYE = ("0235", "0236")

STARE = DataSet(
    name="stare",
    title="STARE, vessels",
    citation="A. Hoover et al., Locating blood vessels in retinal images by piecewise threshold probing of a matched "
    "filter response, IEEE TMI 19(3), 2000",
    terms="public, for research; no licence is stated",
    where="https://cecas.clemson.edu/~ahoover/stare/probing/, files stare-images.tar, labels-ah.tar, labels-vk.tar",
    structures=("vessel",),
    layout="""stare-images/im0001.ppm.gz
labels-ah/im0001.ah.ppm.gz
labels-vk/im0001.vk.ppm.gz""",
    counts={"": 20},
    find=by_patterns(
        "stare_im{id}",
        NAME + SUFFIX,
        lambda choice: [Masks("vessel", rf"{NAME}\.{choice.observer}{SUFFIX}")],
        patient=lambda found: SAME_EYE[0] if found.id in SAME_EYE else "",
    ),
    observers=OBSERVERS,
)
