"""Boxes and clicks: simulated from masks, in the click loop, in a prompt file."""
