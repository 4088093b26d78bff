"""Pictures and tables: overlays, training curves, plots of an evaluation."""
