"""Points, boxes, masks and names of structures -> the sparse and dense prompt embeddings of Segment Anything.

Kirillov et al. 2023, appendix A ("Prompt encoder"); random Fourier positions after Tancik et al. 2020. Structures are
ours: a learned token each, given as a point label from STRUCTURE upwards.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .common import LayerNorm2d

PADDING, BACKGROUND, FOREGROUND, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3
STRUCTURE = 4  # label of the first structure


class RandomFourierPosition(nn.Module):
    """Positions in the unit square -> sine and cosine of random projections."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))
        self._last_grid: tuple[Tensor, int, int, Tensor] | None = None  # matrix, its version, size, encoding

    def forward(self, unit_xy: Tensor) -> Tensor:
        """Encode positions [..., 2], x, y in [0, 1]: [..., 2 * features].

        Always computed in float32: the phase reaches tens of radians, where bfloat16 would blur a click by a pixel.
        """
        matrix = self.positional_encoding_gaussian_matrix
        # a sum, since autocast would compute a matrix product in bfloat16
        phase = 2 * math.pi * ((2 * unit_xy.float() - 1).unsqueeze(-1) * matrix.float()).sum(-2)
        return torch.cat((phase.sin(), phase.cos()), dim=-1).to(matrix.dtype)

    def grid(self, size: int) -> Tensor:
        """Cell centres of a grid, [1, 2 * features, size, size]; kept for the next call, not to be written to."""
        matrix = self.positional_encoding_gaussian_matrix
        last, version = self._last_grid, 0 if matrix.is_inference() else matrix._version
        if last is None or last[0] is not matrix or last[1:3] != (version, size):
            with torch.inference_mode(False), torch.no_grad():  # a later call may need gradients
                steps = (torch.arange(size, device=matrix.device) + 0.5) / size
                y, x = torch.meshgrid(steps, steps, indexing="ij")
                grid = self(torch.stack((x, y), dim=-1)).permute(2, 0, 1)[None]
            last = self._last_grid = matrix, version, size, grid
        return last[3]


class PromptEncoder(nn.Module):
    """Encodes prompts given in model-frame pixels (x, y; the frame is S x S).

    Attributes:
        structures: names of the structures that have a structure prompt, label STRUCTURE + i each.
        presence_thresholds: probability of presence below which a structure is predicted absent.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        image_size: int,
        patch_size: int = 16,
        mask_in_chans: int = 16,
        structures: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.structures = tuple(structures)
        self.embed_dim = embed_dim
        self.image_size = image_size
        self.grid_size = image_size // patch_size
        self.mask_size = 4 * self.grid_size
        self.pe_layer = RandomFourierPosition(embed_dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        hidden = mask_in_chans // 4
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, hidden, kernel_size=2, stride=2),
            LayerNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            nn.GELU(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        self.structure_embeddings = nn.Embedding(len(self.structures), embed_dim) if self.structures else None
        self.presence_thresholds = dict.fromkeys(self.structures, 0.5)  # probabilities; chosen on validation data

    @property
    def input_image_size(self) -> tuple[int, int]:
        """(height, width) of the model frame; SAM's name."""
        return self.image_size, self.image_size

    @property
    def image_embedding_size(self) -> tuple[int, int]:
        """(height, width) of an image embedding; SAM's name."""
        return self.grid_size, self.grid_size

    def label_of(self, structure: str) -> int:
        """The point label, STRUCTURE or more, of a structure prompt; ValueError for an unknown name."""
        if structure not in self.structures:
            known = ", ".join(self.structures) or "none: train with --structures"
            raise ValueError(f"structure {structure!r} is unknown to these weights (they know {known}).")
        return STRUCTURE + self.structures.index(structure)

    def structure_points(self, structures: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Structures as labelled points: coords float32 [N, 2, 2], all 0, labels int64 [N, 2]; ValueError: unknown."""
        device = self.no_mask_embed.weight.device
        labels = [[self.label_of(structure), PADDING] for structure in structures]
        return torch.zeros(len(labels), 2, 2, device=device), torch.tensor(labels, device=device)

    def get_dense_pe(self) -> Tensor:
        """Positions of the image embedding's cells: [1, C, S/16, S/16]."""
        return self.pe_layer.grid(self.grid_size)

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Embed labelled positions: [N, P, C]. Without any position no gradient reaches the embeddings.

        Args:
            coords: [N, P, 2] model-frame pixels x, y.
            labels: [N, P]: 1 foreground, 0 background, 2 and 3 the top-left and bottom-right corner of a box, -1 "not a
                point", from 4 on a structure; the positions of the last two are ignored.
        """
        if not coords.shape[1]:
            return self.no_mask_embed.weight.new_zeros(len(coords), 0, self.embed_dim)
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        kinds += [self.structure_embeddings] if self.structures else []
        table = torch.cat([kind.weight for kind in kinds])
        position = self.pe_layer((coords + 0.5) / self.image_size)
        is_point = ((labels != PADDING) & (labels < STRUCTURE)).unsqueeze(-1)
        return position * is_point + table[labels.long() + 1]

    def embed_masks(self, masks: Tensor) -> Tensor:
        """Embed mask prompts, [N, 1, S/4, S/4] or larger, which are averaged down: [N, C, S/16, S/16]."""
        if masks.shape[-1] > self.mask_size:
            masks = F.avg_pool2d(masks, masks.shape[-1] // self.mask_size)
        return self.mask_downscaling(masks.to(self.no_mask_embed.weight.dtype))

    def embed_no_mask(self, count: int) -> Tensor:
        """The dense embedding that stands for "no mask prompt", a broadcast view [N, C, S/16, S/16]."""
        return self.no_mask_embed.weight.view(1, -1, 1, 1).expand(count, -1, self.grid_size, self.grid_size)

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Embed the prompts of N masks. All positions are model-frame pixels.

        Args:
            points: coords [N, P, 2] as x, y, and labels [N, P], to which a padding point is appended without a box.
            boxes: [N, 4] or [N, 1, 4] as x0, y0, x1, y1.
            masks: [N, 1, S/4, S/4].

        Returns:
            Sparse [N, T, C] and dense [N, C, S/16, S/16] embeddings.
        """
        coords, labels = self.as_points(points, boxes)
        if coords is None:
            count = 1 if masks is None else len(masks)
            sparse = self.no_mask_embed.weight.new_zeros(count, 0, self.embed_dim)
        else:
            count = len(coords)
            sparse = self.embed_points(coords, labels)
        dense = self.embed_no_mask(count) if masks is None else self.embed_masks(masks)
        return sparse, dense

    @staticmethod
    def as_points(points: tuple[Tensor, Tensor] | None, boxes: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Write the boxes as two labelled points each, or pad the points where there is no box.

        Args:
            points: see `forward`.
            boxes: see `forward`.

        Returns:
            Coords [N, P, 2] and labels [N, P]; None twice without points and boxes.
        """
        parts = [] if points is None else [points]
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            corner_labels = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], device=boxes.device)
            parts.append((corners, corner_labels.expand(len(corners), 2)))
        elif points is not None:
            coords, labels = points
            parts.append((coords.new_zeros(len(coords), 1, 2), labels.new_full((len(labels), 1), PADDING)))
        if not parts:
            return None, None
        return torch.cat([c for c, _ in parts], dim=1), torch.cat([label for _, label in parts], dim=1)
