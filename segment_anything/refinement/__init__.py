"""Answers from several views of a photograph: mirror images, windows, tiles."""
