"""What prompts and metrics are called in tables and pictures."""

METRIC_TITLES = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "nsd": "NSD", "cldice": "clDice", "auc": "AUC"}
METRIC_TITLES |= {"aupr": "AUPR", "vcdr": "Error of the vertical cup-to-disc ratio", "boundary_iou": "Boundary IoU"}
METRIC_TITLES |= {"hd95_pooled": "HD95 of both directions pooled", "nsd_length": "NSD by length", "assd": "ASSD"}
IN_PIXELS = ("hd95", "hd95_pooled", "assd")  # metrics without an upper bound; the others end at 1
WITH_TOLERANCE = ("nsd", "nsd_length")  # metrics that --nsd_tolerance decides


def prompt_heading(prompt: str) -> str:
    """A prompt mode's name in tables and pictures: "Bbox", "structure", "1 pt", "3 pts"."""
    return {"box": "Bbox", "structure": "structure", "1": "1 pt"}.get(prompt, f"{prompt} pts")


def metric_title(metric: str) -> str:
    """A metric's name in headings and pictures, without its unit: "HD95" of "hd95"."""
    return METRIC_TITLES.get(metric, metric.capitalize())
