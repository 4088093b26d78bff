"""Write docs/reference/inputs.md: what each command makes of each form of photograph, by trying all pairs.

    python docs/make_inputs_reference.py

Takes two minutes. Run it after a change of what is read; tests/docs/test_inputs_reference.py fails until then.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "inputs.md"


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from tests.helpers.input_table import WRONG, render

    page = render()
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {page.count(WRONG)} wrong")


if __name__ == "__main__":
    main()
