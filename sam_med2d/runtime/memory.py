"""Freed memory that stays with the process."""

import ctypes
import mmap
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next step, in huge pages, instead of giving it back to the system.

    Mapping large tensors' pages anew takes a tenth of a training step on a CPU. Only glibc has the switch; elsewhere
    nothing is done.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)  # no block has pages of its own
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # the heap never shrinks
        page = os.sysconf("SC_PAGE_SIZE")
        _grow_heap_in_huge_pages(libc, os.sysconf("SC_PHYS_PAGES") // 2 * page, page)


def _grow_heap_in_huge_pages(libc: ctypes.CDLL, size: int, page: int) -> None:
    """Grow the heap by `size` bytes of addresses, which take memory only as they are used; does nothing if refused."""
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = libc.malloc(size)
    if block:
        libc.madvise(block // page * page + page, size - page, mmap.MADV_HUGEPAGE)
        libc.free(block)
