"""The annotation app: masks of photographs from structure prompts, boxes, clicks and a brush, saved as a data set."""
