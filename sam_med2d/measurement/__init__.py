"""Measurements of photographs by their masks: one photograph (photograph_measurement), all of a folder (command)."""
