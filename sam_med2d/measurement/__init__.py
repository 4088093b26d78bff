"""Measurements of photographs by their masks: of one photograph, and of all of a folder (command)."""
