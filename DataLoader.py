"""SAM-Med2D's `DataLoader`, for scripts written for it: a mask, or the masks of an image, with their prompts.

Keys, shapes and numbers are SAM-Med2D's: pixels in the order BGR, normalised by the mean of RGB; prompts from `utils`,
drawn from NumPy's global generator. New code takes `sam_med2d.data.dataset`.
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sam_med2d.data.image_io import read_image, read_mask
from sam_med2d.data.records import names_here, read_map, resolve
from sam_med2d.errors import DataError
from sam_med2d.prompts.prompt_file import read_entries
from segment_anything.preprocessing import Preprocessing
from utils import get_boxes_from_mask, init_point_sampling


def _resolved(names: list[str], folder: Path) -> list[str]:
    """Paths of a map: against the current folder if they exist there, else against the map's folder."""
    return [str(resolve(name, folder)) for name in names]


def _read_mask_of(image: np.ndarray, image_path: str, mask_path: str) -> np.ndarray:
    """A mask of an image [H, W, 3], uint8 {0, 1} [H, W]. Raises DataError for another size than the image's."""
    mask = read_mask(Path(mask_path))
    if image.shape[:2] != mask.shape:
        raise DataError(
            f"{mask_path} is {mask.shape[::-1]}, its image {image_path} {image.shape[1::-1]}: give one size."
        )
    return mask


class TestingDataset(Dataset):
    """The masks of `label2image_<mode>.json`, each with its image and its prompts.

    Args:
        data_path: Folder of the map.
        image_size: Side S of the model frame.
        mode: Split, of the map's name.
        requires_name: Give "name", too.
        point_num: Opening clicks, see `utils.init_point_sampling`.
        return_ori_mask: Give "ori_label", too.
        prompt_path: File with the prompts of all masks, by file name; None: box and clicks come from the mask.

    Items are dictionaries, positions in model-frame pixels:
        "image": float32 [3, S, S].
        "label": int64 {0, 1} [1, S, S].
        "boxes": float32 [1, 4], half-open x0, y0, x1, y1 of the mask's largest component.
        "point_coords": float32 [point_num, 2] (x, y).
        "point_labels": int32 [point_num], 1 or 0.
        "original_size": (H, W).
        "label_path": The mask's folder.
        "ori_label": float32 {0, 1} [1, H, W].
        "name": The mask's file name.

    Raises:
        DataError: Where the map, a file or the prompt file is not as it should be; it is named.
    """

    __test__ = False  # no test, whatever pytest takes the name for

    def __init__(
        self,
        data_path: str | Path,
        image_size: int = 256,
        mode: str = "test",
        requires_name: bool = True,
        point_num: int = 1,
        return_ori_mask: bool = True,
        prompt_path: str | Path | None = None,
    ) -> None:
        path = Path(data_path) / f"label2image_{mode}.json"
        image_of = {mask: image for image, masks in read_map(path).items() for mask in masks}
        listed = json.loads(path.read_text(encoding="utf-8"))  # `read_map` has them by image
        here = names_here(path, [*listed, *listed.values()])[0]
        names = [here.get(name, name) for name in listed]
        self.label_paths = _resolved(names, path.parent)
        self.image_paths = _resolved([image_of[name] for name in names], path.parent)
        self.image_size, self.point_num = image_size, point_num
        self.requires_name, self.return_ori_mask, self.prompt_path = requires_name, return_ori_mask, prompt_path
        self.prompt_list = {} if prompt_path is None else read_entries(Path(prompt_path))
        self.preprocessing = Preprocessing(image_size, "sam_med2d", channel_order="bgr")

    def __len__(self) -> int:
        return len(self.label_paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = Path(self.label_paths[index])
        image = read_image(Path(self.image_paths[index]))
        original = _read_mask_of(image, self.image_paths[index], self.label_paths[index])
        frame = self.preprocessing.frame(image)
        mask = self.preprocessing.mask(original, frame)
        boxes, coords, labels = self._prompts(mask, path.name)
        item = {
            "image": torch.from_numpy(self.preprocessing.image(image, frame)),
            "label": torch.from_numpy(mask)[None].long(),
            "point_coords": coords,
            "point_labels": labels,
            "boxes": boxes,
            "original_size": original.shape,
            "label_path": str(path.parent),
        }
        if self.return_ori_mask:
            item["ori_label"] = torch.from_numpy(original)[None].float()
        return item | ({"name": path.name} if self.requires_name else {})

    def _prompts(self, mask: np.ndarray, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Box [1, 4], coords [P, 2] and labels [P] of a mask, from the prompt file if there is one."""
        if self.prompt_path is None:
            return get_boxes_from_mask(mask, max_pixel=0), *init_point_sampling(mask, self.point_num)
        if name not in self.prompt_list:
            raise DataError(f"{self.prompt_path} has no entry for {name}: make it from these masks.")
        entry = self.prompt_list[name]
        boxes, coords = (torch.tensor(entry[key], dtype=torch.float32) for key in ("boxes", "point_coords"))
        return boxes.view(-1, 4), coords.view(-1, 2), torch.tensor(entry["point_labels"], dtype=torch.int32)


class TrainingDataset(Dataset):
    """The images of `image2label_<mode>.json`, each with `mask_num` of its masks, drawn with replacement.

    Args:
        data_dir: Folder of the map.
        image_size: Side S of the model frame.
        mode: Split, of the map's name.
        requires_name: Give "name", too.
        point_num: Opening clicks P, see `utils.init_point_sampling`.
        mask_num: Masks M of an item.

    Items are dictionaries, positions in model-frame pixels:
        "image": float32 [1, 3, S, S].
        "label": int64 {0, 1} [M, 1, S, S].
        "boxes": float32 [M, 1, 4], half-open x0, y0, x1, y1 of each mask's largest component, moved at random.
        "point_coords": float32 [M, P, 2] (x, y).
        "point_labels": int32 [M, P], 1 or 0.
        "name": The image's file name.

    Raises:
        DataError: Where the map or a file is not as it should be; it is named.
    """

    def __init__(
        self,
        data_dir: str | Path,
        image_size: int = 256,
        mode: str = "train",
        requires_name: bool = True,
        point_num: int = 1,
        mask_num: int = 5,
    ) -> None:
        path = Path(data_dir) / f"image2label_{mode}.json"
        masks_of = {image: masks for image, masks in read_map(path).items() if masks}
        self.image_paths = _resolved(list(masks_of), path.parent)
        self.label_paths = [_resolved(masks, path.parent) for masks in masks_of.values()]
        self.image_size, self.point_num, self.mask_num = image_size, point_num, mask_num
        self.requires_name = requires_name
        self.preprocessing = Preprocessing(image_size, "sam_med2d", channel_order="bgr")

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = read_image(Path(self.image_paths[index]))
        frame = self.preprocessing.frame(image)
        targets = []
        for path in random.choices(self.label_paths[index], k=self.mask_num):
            mask = self.preprocessing.mask(_read_mask_of(image, self.image_paths[index], path), frame)
            box = get_boxes_from_mask(mask)  # before the clicks: the order in which SAM-Med2D draws
            targets.append((torch.from_numpy(mask)[None].long(), box, *init_point_sampling(mask, self.point_num)))
        masks, boxes, coords, labels = (torch.stack(parts) for parts in zip(*targets, strict=True))
        item = {
            "image": torch.from_numpy(self.preprocessing.image(image, frame))[None],
            "label": masks,
            "boxes": boxes,
            "point_coords": coords,
            "point_labels": labels,
        }
        return item | ({"name": Path(self.image_paths[index]).name} if self.requires_name else {})


def stack_dict_batched(batched_input: dict[str, Any]) -> dict[str, Any]:
    """Join the first two dimensions, images and their masks, of a collated batch's tensors; lists stay as they are.

    Args:
        batched_input: Tensors [B, M, ...] and lists.

    Returns:
        Tensors [B M, ...] and lists.
    """
    return {
        key: value if isinstance(value, list) else value.reshape(-1, *value.shape[2:])
        for key, value in batched_input.items()
    }
