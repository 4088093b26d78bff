"""The words that flags and settings choose from; without an import, so that a command line is parsed at once."""

BOXES = ("component", "mask")  # what the box prompt covers: the mask's largest component, or all of it
BALANCES = ("none", "structure")  # how training masks are drawn
ENCODER_MODES = ("adapter", "full", "none")  # what trains in the image encoder
LOSSES = ("focal", "bce", "area")  # pixel losses beside the Dice loss
AUGMENTATIONS = ("none", "standard", "strong")  # of training photographs
DETAILS = ("none", "light", "pyramid")  # kinds of detail head
RECIPES = ("sam_med2d", "adapt")  # what flags of train.py are that are not written out
SCHEDULES = ("cosine", "multistep", "none")  # of the learning rate
METRICS = ("iou", "dice", "hd95", "nsd", "sensitivity", "specificity", "auc", "aupr", "cldice")
METRICS += ("hd95_pooled", "nsd_length", "assd", "accuracy", "kappa", "boundary_iou", "vcdr")
REGIONS = ("photograph", "field_of_view")  # the pixels that metrics count
PROMPT_FRAMES = ("model", "photograph")  # the pixels that a prompt file's positions count
DISC, CUP = "optic_disc", "optic_cup"  # the structures that are measured together
ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")  # of masks in DICOM: export_dicom_seg.py --algorithm_type
