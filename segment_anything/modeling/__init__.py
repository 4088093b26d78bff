"""The network: image encoder, prompt encoder, mask decoder and the model that joins them."""

from .detail_head import HEADS, DetailHead
from .image_encoder import ImageEncoderViT
from .mask_decoder import MaskDecoder
from .prompt_encoder import PromptEncoder
from .sam import Sam
from .transformer import TwoWayTransformer

__all__ = ["HEADS", "DetailHead", "ImageEncoderViT", "MaskDecoder", "PromptEncoder", "Sam", "TwoWayTransformer"]
