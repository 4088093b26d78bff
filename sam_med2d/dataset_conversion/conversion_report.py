"""What a conversion of a data set prints."""

from pathlib import Path

from sam_med2d.data.records import SPLITS
from sam_med2d.dataset_conversion.build import Built
from sam_med2d.dataset_conversion.dataset_spec import DataSet, FoundSamples
from sam_med2d.dataset_conversion.formats import FORMATS
from sam_med2d.dataset_conversion.public import PUBLIC_SETS
from sam_med2d.visualization.tables import markdown_table


def describe_sources() -> str:
    """The table of the data sets, and the details of each."""
    lines = [[d.name, d.title, ", ".join(d.structures), _counts(d.counts)] for d in PUBLIC_SETS.values()]
    parts = [markdown_table(["NAME", "data set", "structures", "photographs"], lines)]
    for d in PUBLIC_SETS.values():
        facts = [f"cite: {d.citation}", f"terms: {d.terms}", f"from: {d.where}"]
        facts += [f"--observer: {', '.join(d.observers)} (default {d.observers[0]})"] if d.observers else []
        facts += [f"--threshold: {d.threshold} by default"] if d.threshold is not None else []
        parts.append("\n".join([f"{d.name}: {d.title}", *(f"  {fact}" for fact in facts), *_indented(d.layout)]))
    own = [[d.name, d.title] for d in FORMATS.values()]
    return "\n\n".join([*parts, markdown_table(["NAME", "your own data"], own), *map(_format, FORMATS.values())])


def _format(data_set: DataSet) -> str:
    return "\n".join([f"{data_set.name}: {data_set.title}", *_indented(data_set.layout)])


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}".strip() for split, count in counts.items())


def summary(data_set: DataSet, built: Built, how: str, offer: FoundSamples, out: Path) -> str:
    """What was made, what is missing, and what to do next."""
    found = {split: built.photographs[split] for split in SPLITS if built.photographs[split]}
    lines = [f"{data_set.title}: {_counts(found)} photographs, split {how}"]
    table = [
        [s, str(built.masks[s]), *(str(c[s] or "-") for c in (built.empty, built.lost, built.merged))]
        for s in sorted({*built.masks, *built.empty, *built.lost})
    ]
    if table:
        lines.append(markdown_table(["structure", "masks", "empty in the source", "vanished", "parts merged"], table))
    expected = sum(data_set.counts.values())
    if expected and sum(found.values()) != expected:
        lines.append(f"note: the whole data set has {_counts(data_set.counts)} photographs")
    lines += [f"note: {note}" for note in offer.notes]
    left_out = [*offer.problems, *built.left_out]
    lines += [f"left out: {problem}" for problem in left_out[:20]]
    see = "" if data_set.names_persons else f", see {out}/prepared.json"
    lines += [f"left out: {len(left_out) - 20} more{see}"] if len(left_out) > 20 else []
    lines += [f"terms: {data_set.terms}"] if data_set.terms else []
    advice = f"python scripts/check_dataset.py {out}"
    if not data_set.has_masks:
        advice = (
            f"masks as {out}/masks/<photograph>_<structure>.png, then python scripts/prepare_dataset.py folder {out}"
        )
    return "\n".join([*lines, f"made {out}; next: {advice}"])
