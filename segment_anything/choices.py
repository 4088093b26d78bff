"""The words that the model's settings choose from; without an import, so that a command line is parsed at once."""

from types import MappingProxyType

MODES = ("fundus", "sam_med2d")  # of preprocessing
CHANNEL_ORDERS = ("rgb", "bgr")  # of the pixels that the encoder is given
PIXEL_SCALES = ("sam", "unit")  # SAM's mean and deviation; or 0..1 of each picture, as MedSAM was trained
MASK_PROMPTS = ("probability", "logits")  # what a mask prompt holds
MASK_RULES = ("half", "dice")  # where a mask begins: at a probability of 1/2, or of half its expected Dice
TILE_SHARE = 0.5  # side of the windows of tiles, in shares of the field of view's longer side
LARGE = MappingProxyType({"optic_disc": 1.0, "optic_cup": 1.0})  # structures that are seen best in one piece
