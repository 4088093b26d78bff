"""Prompts of masks, for training and testing.

simulation.py   masks -> boxes and clicks, as labelled points
click_loop.py   an opening prompt, then rounds of corrective clicks
prompt_file.py  opening prompts of a data set, written to a file and read from one
"""
