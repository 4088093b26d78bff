"""State dicts as other programs save them: taken out of their wrappers, or recognised as those of another model.

The names of tensors are those of the public code: MobileSAM, SAM-HQ, SAM 2, SAM 3, EfficientSAM, EfficientViT-SAM,
SAM-Med3D, and for LoRA peft, Sam_LoRA and micro-sam.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .errors import CheckpointError, listing

MARKS = ("image_encoder.pos_embed", "vision_encoder.pos_embed")  # SAM's, and HuggingFace's
WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state")
OTHER = "this model cannot hold them; take weights of SAM, SAM-Med2D or ours: scripts/download_checkpoint.py --list"
MERGE = (
    "merge them into their base with the program that trained them (peft: merge_and_unload()), and give the state dict "
    "of the merged model"
)
# what a tensor's name contains, whose it is, what to do
MODELS = (
    (r"(^|\.)(detector\.backbone|detector_model|tracker|tracker_model)\.", "SAM 3", OTHER),
    (
        r"(^|\.)(image_encoder\.trunk|vision_encoder\.backbone|sam_mask_decoder|memory_attention)\.",
        "SAM 2, or of a model trained from it, such as MedSAM2",
        OTHER,
    ),
    (
        r"image_encoder\.patch_embed\.seq\.",
        "MobileSAM, or of another model with a TinyViT, which vit_t here is not (LiteMedSAM, SAM-HQ light)",
        OTHER,
    ),
    (
        r"mask_decoder\.(hf_token|hf_mlp|hq_token|hq_mlp|compress_vit|embedding_maskfeature)",
        "SAM-HQ",
        "this model cannot hold them; SAM-HQ left SAM's own weights as they were: take those of the same size, "
        "sam_vit_b, sam_vit_l or sam_vit_h (scripts/download_checkpoint.py)",
    ),
    (r"image_encoder\.blocks\.\d+\.mlp\.fc\d\.", "EfficientSAM", OTHER),
    (r"image_encoder\.backbone\.stages\.", "EfficientViT-SAM", OTHER),
    (
        r"(^|[._])(lora_[AB]|linear_[ab]_[qkv]|w_[ab]_linear(_[qkv])?|w_[ab]_\d{3})(\.|$)",
        "LoRA, small matrices beside a base",
        MERGE,
    ),
)


@dataclass(frozen=True)
class Weights:
    """The weights that lie in a file."""

    state: Mapping[str, Any]  # {name: tensor}, under the names of their own model
    entry: str = ""  # the file's entry that held them; "" for the file itself
    prefix: str = ""  # what was taken off the names
    left_out: tuple[str, ...] = ()  # names of what lay beside them in the entry

    @property
    def label(self) -> str:
        """What --entry calls them."""
        return "/".join(filter(None, (self.entry, self.prefix))) or "."

    @property
    def note(self) -> str:
        """What was taken off, in words; "" for the layouts of SAM, SAM-Med2D and ours."""
        if not self.prefix and self.entry in ("", "model"):
            return ""
        parts = [f"its entry {self.entry!r}"] * bool(self.entry)
        parts += [f"names without {self.prefix!r}"] * bool(self.prefix)
        parts += [f"left out what lies beside: {listing(self.left_out, 3)}"] * bool(self.left_out)
        return ", ".join(parts)


def take_out(path: Path, content: Any, entry: str | None = None) -> Weights:
    """Find the weights in what a file holds: under a wrapper's name, with a prefix to all names, or in a whole model.

    Args:
        path: the file, for messages.
        content: what it holds.
        entry: which weights are meant, where there are several, as `Weights.label` has it.

    Returns:
        The weights; those of another family of models are returned as they are.

    Raises:
        CheckpointError: for what is no state dict, and for several without `entry`.
    """
    content = content.state_dict() if isinstance(content, nn.Module) else content
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict.")
    if "param_groups" in content and "state" in content:
        raise CheckpointError(f"{path} is the state of an optimizer, without weights: give the file of the model.")
    found = {weights.label: weights for weights in _all_weights(content)}
    if entry is not None and entry not in found:
        raise CheckpointError(f"--entry {entry}: {path} has the weights of a model in {listing(found) or 'no entry'}.")
    if len(found) > 1 and entry is None:
        raise CheckpointError(
            f"{path} has the weights of several models: {listing(found)}. Say which: "
            f"python scripts/convert_checkpoint.py {path} OUT.safetensors --entry {next(iter(found))}"
        )
    if found:
        return found[entry] if entry else next(iter(found.values()))
    name = next((name for name in WRAPPERS if name in content), "")
    state = content[name] if name else content
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: its {name!r} entry is a {type(state).__name__}, not a state dict.")
    return Weights(state, name)


def _all_weights(content: Mapping[str, Any]) -> Iterator[Weights]:
    """The weights of each model of this family in a file."""
    for entry, state in _entries(content):
        names = [key for key in state if isinstance(key, str)]
        ends = {key.removesuffix(mark) for key in names for mark in MARKS if key.endswith(mark)}
        prefixes = [prefix for prefix in ends if not prefix or prefix.endswith(".")]
        for prefix in prefixes:
            others = tuple(other for other in prefixes if other.startswith(prefix) and other != prefix)
            inside = [key for key in state if str(key).startswith(prefix) and not str(key).startswith(others)]
            own = {key.removeprefix(prefix) if prefix else key: state[key] for key in inside}
            left_out = () if not prefix else tuple(sorted(set(names) - set(inside)))
            yield Weights(own, entry, prefix, left_out)


def _entries(content: Mapping[str, Any], name: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What a file holds, and the mappings and whole models in it, with their names."""
    yield name, content
    for key, value in content.items() if depth < 2 else ():
        value = value.state_dict() if isinstance(value, nn.Module) else value
        if isinstance(value, Mapping):
            yield from _entries(value, f"{name}.{key}" if name else str(key), depth + 1)


def refuse_other_models(path: Path, state: Mapping[str, Any]) -> None:
    """Refuse the weights of models that are known and cannot be loaded here.

    Raises:
        CheckpointError: names the model, a tensor that tells, and what to do.
    """
    for pattern, name, advice in MODELS:
        key = next((key for key in state if isinstance(key, str) and re.search(pattern, key)), None)
        if key is not None:
            raise CheckpointError(f"{path} holds weights of {name} (it has {key}): {advice}.")
    table = state.get(MARKS[0])
    if isinstance(table, Tensor) and table.ndim == 5:
        raise CheckpointError(f"{path} holds weights of a model of volumes, such as SAM-Med3D: {OTHER}.")
