"""Test photographs -> scores, intervals and reports."""
