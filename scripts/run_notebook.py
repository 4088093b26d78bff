"""Execute a notebook in this process, and store what its cells print and draw, as small pictures.

    python scripts/run_notebook.py examples/predictor_example.ipynb
    python scripts/run_notebook.py examples/predictor_example.ipynb --set WEIGHTS='"workdir/models/demo/best"'

Takes seconds. Cells are plain Python: no magics, and an expression's value is not shown. Nothing but this project's own
requirements is needed. The file is written only if all cells succeed.
"""

import argparse
import ast
import base64
import io
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

# Run as a file, Python looks for modules beside the script and not in the repository.
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sam_med2d.errors import UsageError
from sam_med2d.runtime.cli import run_main
from segment_anything.utils.atomic import write_text

DPI, QUALITY = 70, 75


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path, metavar="NOTEBOOK", help="a file that ends in .ipynb")
    parser.add_argument("--out", type=Path, help="file to write; default: NOTEBOOK itself")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="Python values in place of those that cells assign"
    )
    return parser.parse_args(argv)


def execute(notebook: dict[str, Any], values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run the code cells in order and put their outputs into the notebook; the names that they defined.

    values: {name: Python expression} for names that a cell assigns; the stored source stays as it is. An error has a
    note that says in which cell it was. Raises UsageError for a name that no cell assigns.
    """
    import matplotlib
    import matplotlib.pyplot as plt  # takes half a second to import

    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    left = dict(values or {})
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, start=1):
        tree = _with_values(ast.parse("".join(cell["source"])), left)
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                exec(compile(tree, f"<cell {number}>", "exec"), names)
            drawn = [_picture(plt.figure(figure)) for figure in plt.get_fignums()]
        except Exception as error:
            error.add_note(f"in code cell {number}")
            raise
        finally:
            plt.close("all")
        text = printed.getvalue().splitlines(keepends=True)
        stream = [{"output_type": "stream", "name": "stdout", "text": text}] if text else []
        cell |= {"execution_count": number, "outputs": stream + drawn}
    if left:
        raise UsageError(f"--set {next(iter(left))}: no cell of the notebook assigns this name.")
    return names


def _with_values(tree: ast.Module, values: dict[str, str]) -> ast.Module:
    """A cell whose assignments to single names have other values; these are taken out of `values`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in values:
            node.value = ast.parse(values.pop(node.targets[0].id), mode="eval").body
    return ast.fix_missing_locations(tree)


def _picture(figure: Any) -> dict[str, Any]:
    """A figure as a cell's output, JPEG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=DPI, pil_kwargs={"quality": QUALITY})
    data = {"image/jpeg": base64.b64encode(buffer.getvalue()).decode("ascii"), "text/plain": ["a figure"]}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def read_notebook(path: Path) -> dict[str, Any]:
    """Content of a notebook file. Raises UsageError for another file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["nbformat"] == 4:
            return content
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"NOTEBOOK: {path} is no notebook ({error!r}).") from error
    raise UsageError(f"NOTEBOOK: {path} has format {content['nbformat']}: save it as 4.")


def run(args: argparse.Namespace) -> int:
    pairs = [text.partition("=") for text in args.set]
    for name, _, value in pairs:
        try:
            ast.parse(value, mode="eval")
        except SyntaxError as error:
            raise UsageError(f"--set {name}={value}: the value is no Python expression.") from error
    notebook = read_notebook(args.notebook)
    execute(notebook, {name: value for name, _, value in pairs})
    out = args.out or args.notebook
    write_text(out, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    print(f"{out}: {out.stat().st_size / 1024:.0f} KB")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(run, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
