"""Masked autoencoder for the image encoder: it learns from photographs without masks.

He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners". Three patches of four are hidden and restored from
the rest. Of each cell of 2 x 2 patches one is shown (Li et al. 2022, "Uniform Masking"), so that what is shown is a
grid of half the size, on which windows and relative positions keep their meaning.
"""

import torch
from torch import Tensor, nn

from ..modeling.image_encoder import Block, ImageEncoderViT

CELL = 2  # patches along a cell's side, of which one is shown
LEAST_VARIANCE = 1e-4  # of a patch's pixels, normalised: half a grey level, below which it is noise


class MaskedAutoencoder(nn.Module):
    """An image encoder whose blocks see one patch of four, and a small decoder that restores the others.

    The encoder is built for half the image size and half the windows: the blocks' weights are those of the whole
    encoder, relative positions are stretched by `encoder_state`.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        window_size: int,
        global_attn_indexes: tuple[int, ...],
        decoder_dim: int = 96,
        decoder_depth: int = 2,
        decoder_heads: int = 3,
    ) -> None:
        """Raise ValueError for an `image_size` that is not a multiple of 2 patches."""
        super().__init__()
        if image_size % (CELL * patch_size):
            raise ValueError(f"image_size {image_size} is not a multiple of {CELL * patch_size}.")
        self.patch_size, grid = patch_size, image_size // patch_size
        self.encoder = ImageEncoderViT(
            image_size=image_size // CELL,
            patch_size=patch_size,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            window_size=-(-window_size // CELL),
            global_attn_indexes=global_attn_indexes,
            adapter=False,
        )
        self.encoder.neck.requires_grad_(False)  # it is learnt with the masks
        self.encoder.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, grid, grid, embed_dim), std=0.02))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.embed = nn.Linear(embed_dim, decoder_dim)
        self.hidden = nn.Parameter(nn.init.trunc_normal_(torch.empty(decoder_dim), std=0.02))
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, grid, grid, decoder_dim), std=0.02))
        layer = {"dim": decoder_dim, "num_heads": decoder_heads, "mlp_ratio": 4.0, "window": 0, "grid": grid}
        self.decoder = nn.Sequential(*(Block(**layer, adapter=False) for _ in range(decoder_depth)))
        self.restore = nn.Sequential(nn.LayerNorm(decoder_dim, eps=1e-6), nn.Linear(decoder_dim, 3 * patch_size**2))

    def forward(self, image: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Restore the hidden patches of normalised images.

        image: [B, 3, S, S]; shown: int64 [B, g/2, g/2] with g = S / patch, which patch of each cell is shown, 0 to 3
        in reading order. Returns the mean squared error of hidden patches, each patch around its own colour and in
        units of its own deviation, and all restored patches [B, g, g, 3 * patch^2] in that scale.
        """
        tokens = _cells(self.encoder.patch_embed(image) + self.encoder.pos_embed)
        x = tokens.gather(3, _index(shown, tokens.shape[-1])).squeeze(3)
        for block in self.encoder.blocks:
            x = block(x)
        x = self.embed(self.norm(x))
        cells = self.hidden.to(x.dtype).expand(*x.shape[:3], CELL**2, -1)
        cells = cells.scatter(3, _index(shown, x.shape[-1]), x[:, :, :, None])
        restored = self.restore(self.decoder(_grid(cells) + self.positions))
        error = (restored.float() - _targets(self.patches(image.float()))).square().mean(-1)
        hidden = ~_seen(shown)
        return (error * hidden).sum() / hidden.sum(), restored

    def patches(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, g, g, 3 * patch^2]."""
        side = self.patch_size
        x = image.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # B, 3, g, patch, g, patch
        return x.permute(0, 2, 4, 1, 3, 5).flatten(3)

    @torch.no_grad()
    def pictures(self, image: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder sees, 0 where it is hidden, and the photographs with hidden patches restored.

        Both are normalised images [B, 3, S, S]; a restored patch is given the colour and contrast of the true one,
        which the loss leaves out.
        """
        patches = self.patches(image)
        _, restored = self(image, shown)
        colour, deviation = _scale(patches)
        restored = restored.float() * deviation + colour
        seen = _seen(shown)[..., None]
        return self._image(patches * seen), self._image(torch.where(seen, patches, restored))

    def _image(self, patches: Tensor) -> Tensor:
        """The way back from `patches`."""
        x = patches.unflatten(3, (3, self.patch_size, self.patch_size))  # B, g, g, 3, patch, patch
        return x.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)

    def encoder_state(self, like: ImageEncoderViT) -> dict[str, Tensor]:
        """What was learnt, as part of the state of a whole encoder; its neck and adapters are left out."""
        own, found = self.encoder.state_dict(), {}
        for name, value in like.state_dict().items():
            if name in own and not name.startswith("neck."):
                found[name] = _stretched(own[name], len(value)) if ".rel_pos_" in name else own[name]
        return found


def _cells(x: Tensor) -> Tensor:
    """[B, g, g, C] -> [B, g/2, g/2, 4, C], the patches of each cell in reading order."""
    x = x.unflatten(2, (-1, CELL)).unflatten(1, (-1, CELL))
    return x.transpose(2, 3).flatten(3, 4)


def _grid(cells: Tensor) -> Tensor:
    """The way back from `_cells`."""
    x = cells.unflatten(3, (CELL, CELL)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)


def _seen(shown: Tensor) -> Tensor:
    """Which patches are shown: bool [B, g, g]."""
    return _grid(nn.functional.one_hot(shown, CELL**2)[..., None])[..., 0].bool()


def _index(shown: Tensor, channels: int) -> Tensor:
    """Index [B, g/2, g/2, 1, C] of the shown patch of each cell."""
    return shown[..., None, None].expand(*shown.shape, 1, channels)


def _scale(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Each patch's colour [.., 3 * patch^2], the mean of each channel, and its deviation from it [.., 1].

    He et al. take one mean of all channels. In a fundus photograph, which is red, the colour would be nearly all of
    what is left, and it is easily told from the patches beside.
    """
    channels = patches.unflatten(-1, (3, -1))
    colour = channels.mean(-1, keepdim=True).expand_as(channels).flatten(-2)
    return colour, ((patches - colour).square().mean(-1, keepdim=True) + LEAST_VARIANCE).sqrt()


def _targets(patches: Tensor) -> Tensor:
    """Each patch around its own colour, in units of its own deviation."""
    colour, deviation = _scale(patches)
    return (patches - colour) / deviation


def _stretched(table: Tensor, rows: int) -> Tensor:
    """Relative positions of the half grid [n, C] -> [rows, C]: a step there is two steps in the whole grid.

    Between them they are interpolated; beyond the half grid's largest distance it stands for all.
    """
    distance = (torch.arange(rows, device=table.device) - (rows - 1) / 2) / CELL
    place = (distance + (len(table) - 1) / 2).clamp(0, len(table) - 1)
    below = place.floor().long().clamp(max=len(table) - 2)
    return torch.lerp(table[below], table[below + 1], (place - below)[:, None].to(table.dtype))
