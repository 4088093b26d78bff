"""Forms in which a lab has its own masks: folders, binary masks, label maps, COCO."""
