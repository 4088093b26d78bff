"""Freed memory stays with the process, in huge pages where the system gives them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SCRIPT = """
import pathlib, torch
from sam_med2d.runtime import memory
def kilobytes(name):
    lines = pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name)))
memory.keep_freed_memory()
before = kilobytes("Rss:")
tensor = torch.ones(64 << 20)  # 256 MiB
used, huge = kilobytes("Rss:"), kilobytes("AnonHugePages:")
del tensor
print(before, used, huge, kilobytes("Rss:"))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the switches are glibc's")
def test_freed_memory_is_kept_in_huge_pages():
    found = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    before, used, huge, after = map(int, found.split())
    assert 250 << 10 < used - before < 300 << 10, "growing the heap took memory that nobody used"
    assert after > used - (1 << 10)
    if HUGE_PAGES.exists() and "[never]" not in HUGE_PAGES.read_text():
        assert huge > 100 << 10
