"""Weights and photographs for tests that run test.py."""

import pytest

from tests.helpers.evaluation_runs import large_logits_weights, make_data


@pytest.fixture
def checkpoint(tmp_path):
    return large_logits_weights(tmp_path)


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data")
