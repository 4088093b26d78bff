"""Where the prompts of a mask lie, drawn at full resolution: what the S/16 grid of the prompt tokens blurs.

Every map is a product of a profile down the rows and one along the columns, so that a weighted sum of maps is one
matrix product and no map is ever drawn by itself.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .prompt_encoder import BACKGROUND, BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, FOREGROUND

CLICK_WIDTHS = (1 / 64, 1 / 16)  # standard deviations of a click's bumps, in shares of S
BOX_KINDS = 3  # an ellipse in the box, its inside, and everywhere: 1 where there is a box
KINDS = 2 * len(CLICK_WIDTHS) + BOX_KINDS  # the bumps of foreground clicks, those of background clicks, the box


class PromptMaps(NamedTuple):
    """T maps of each of N masks.

    Attributes:
        rows: profiles down the rows, [N, T, S].
        columns: profiles along the columns, [N, T, S].
        kinds: [N, T, KINDS] with a 1 for the kind of each map.
    """

    rows: Tensor
    columns: Tensor
    kinds: Tensor

    def added(self, logits: Tensor, weights: Tensor) -> Tensor:
        """Add a weighted sum of the maps.

        Args:
            logits: [N, M, S, S].
            weights: of each kind, [N, M, KINDS].

        Returns:
            [N, M, S, S].
        """
        of_maps = weights @ self.kinds.transpose(1, 2)
        rows = (of_maps[..., None] * self.rows[:, None]).transpose(2, 3)
        columns = self.columns[:, None].expand(-1, weights.shape[1], -1, -1)
        return torch.baddbmm(logits.flatten(0, 1), rows.flatten(0, 1), columns.flatten(0, 1)).view_as(logits)

    @property
    def ellipse(self) -> tuple[Tensor, Tensor]:
        """Row and column profile [N, S] of the box's ellipse, 0 without a box."""
        return self.rows[:, -BOX_KINDS], self.columns[:, -BOX_KINDS]


def prompt_maps(coords: Tensor, labels: Tensor, size: int) -> PromptMaps:
    """Maps of the points and the box of N masks.

    A click is a Gaussian bump of each width; a box is a Gaussian that falls to 1/2 on the ellipse that touches its
    sides, the inside of the box, with soft edges, and a constant.

    Args:
        coords: [N, P, 2] x, y in pixels of the S x S frame.
        labels: [N, P], as in `PromptEncoder.embed_points`.
        size: S.
    """
    coords = coords.float()
    clicks, click_kinds = _clicks(coords, labels, size)
    boxes, box_kinds = _box(coords, labels, size)
    along = torch.cat((clicks, boxes), dim=2)
    return PromptMaps(along[:, 1], along[:, 0], torch.cat((click_kinds, box_kinds), dim=1))


def _clicks(coords: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Profiles [N, 2, 2 P, S] in x and in y, and their kinds [N, 2 P, KINDS], 0 for what is no click."""
    away = torch.arange(size, device=coords.device) - coords.transpose(1, 2)[..., None]
    profiles = [torch.exp(-0.5 * (away / (width * size)).square()) for width in CLICK_WIDTHS]
    signs = _signs(labels, coords.dtype)
    of_width = torch.eye(len(CLICK_WIDTHS), device=coords.device)
    kinds = [(signs[..., None] * width).flatten(2) for width in of_width]
    return torch.cat(profiles, dim=2), F.pad(torch.cat(kinds, dim=1), (0, BOX_KINDS))


def _signs(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Which of the points [N, P] are foreground clicks, and which background clicks: 1 or 0, [N, P, 2]."""
    return torch.stack((labels == FOREGROUND, labels == BACKGROUND), dim=2).to(dtype)


def _box(coords: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Profiles [N, 2, 3, S] in x and in y, all 0 without a box, and their kinds [N, 3, KINDS]."""
    corners = (BOX_TOP_LEFT, BOX_BOTTOM_RIGHT)
    start, end = ((coords * (labels == corner)[..., None]).sum(1) for corner in corners)
    half = ((end - start) / 2).clamp(min=0.5)[..., None]
    away = (torch.arange(size, device=coords.device) + 0.5 - ((start + end) / 2)[..., None]).abs()
    profiles = (torch.exp(-math.log(2) * (away / half).square()), torch.sigmoid(half - away), torch.ones_like(away))
    given = (labels == BOX_TOP_LEFT).any(1).to(coords.dtype)
    kinds = F.pad(torch.eye(BOX_KINDS, device=coords.device), (KINDS - BOX_KINDS, 0))
    return torch.stack(profiles, dim=2) * given.view(-1, 1, 1, 1), kinds.expand(coords.shape[0], -1, -1)


def of_images(left: Tensor, right: Tensor, image_index: Tensor | None) -> Tensor:
    """left @ right, [N, R, L]: what belongs to masks with what belongs to their images, which are not copied.

    Args:
        left: [N, R, K].
        right: [N or 1, K, L]; with image_index [B, K, L] of B images.
        image_index: int64 [N], the image of each mask, in order.
    """
    if image_index is None:
        return left @ right
    counts = torch.bincount(image_index, minlength=len(right)).tolist()
    products = [rows.flatten(0, 1) @ one for rows, one in zip(left.split(counts), right.unbind(), strict=True)]
    return torch.cat(products).view(*left.shape[:2], right.shape[2])


def under_clicks(features: Tensor, coords: Tensor, labels: Tensor, image_index: Tensor | None = None) -> Tensor:
    """Mean of features under the foreground clicks, and under the background clicks: [N, 2 C], 0 without such a click.

    Args:
        features: [N or 1, C, S, S]; with image_index [B, C, S, S].
        coords: [N, P, 2] x, y in pixels of the S x S frame.
        labels: [N, P], as in `PromptEncoder.embed_points`.
        image_index: as in `of_images`.
    """
    x, y = coords.round().long().clamp(0, features.shape[-1] - 1).unbind(2)
    numbers = torch.arange(coords.shape[0], device=coords.device) % features.shape[0]
    image = numbers if image_index is None else image_index
    found = features[image[:, None], :, y, x].float()
    signs = _signs(labels, found.dtype).transpose(1, 2)
    return (signs @ found / signs.sum(2, keepdim=True).clamp(min=1)).flatten(1)


def under_box(features: Tensor, maps: PromptMaps, image_index: Tensor | None = None) -> Tensor:
    """Mean of features over the box's ellipse: [N, C], 0 without a box.

    Args:
        features: [N or 1, C, S, S]; with image_index [B, C, S, S].
        maps: of the prompts.
        image_index: as in `of_images`.
    """
    rows, columns = (profile / profile.sum(1, keepdim=True).clamp(min=1e-3) for profile in maps.ellipse)
    # rows first, on features with S next to each other: one picture that serves all prompts is not copied for each
    of_columns = of_images(rows[:, None], features.transpose(1, 2).flatten(2), image_index)
    of_columns = of_columns.unflatten(2, (features.shape[1], -1))
    return (of_columns[:, 0] * columns[:, None]).sum(2)
