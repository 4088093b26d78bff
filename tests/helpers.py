"""Helpers shared by several test files."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_test_script() -> ModuleType:
    """The project's test.py; plain `import test` may find the standard library's package of that name."""
    if "test_script" not in sys.modules:
        spec = importlib.util.spec_from_file_location("test_script", Path(__file__).parent.parent / "test.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["test_script"] = module
        spec.loader.exec_module(module)
    return sys.modules["test_script"]
