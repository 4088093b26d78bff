"""Photographs and masks: maps, files, records, samples, batches."""
