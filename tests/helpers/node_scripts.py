"""Running the scripts of the annotation page by Node, where it is installed."""

import json
import shutil
import subprocess
from typing import Any

import pytest

with_node = pytest.mark.skipif(not shutil.which("node"), reason="NO NODE: the page's script is not run")


def node(code: str) -> Any:
    """What a script prints, as JSON."""
    words = ["node", "--input-type=module", "--eval", code]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
