"""Photograph -> S x S model frame, and the exact way back.

`Preprocessing` says how (it is stored in each checkpoint); `Frame` is the geometry of one photograph. Pixel
(0, 0) is the top-left one. Points are pixel indices in x, y order; boxes are half-open edges x0, y0, x1, y1.
"""
