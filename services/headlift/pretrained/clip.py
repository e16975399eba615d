"""CLIP (Radford et al., ICML 2021) from files on disk, through open_clip: words and pictures on one sphere.

Files: what open_clip publishes for ViT-L-14 and ViT-B-32, as safetensors (``open_clip_model.safetensors``) or as plain
tensors (``open_clip_pytorch_model.bin``, safely read). OpenAI's own ``.pt`` files are TorchScript and are
not read; open_clip publishes the same weights as ViT-L-14-quickgelu and ViT-B-32-quickgelu.

Legend: S picture side, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.pretrained.tensors import read_tensors

_MEAN, _SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_GREY = 0.5  # behind matted portraits: a black background reads as night
_PAGE = "https://github.com/mlfoundations/open_clip"


class Clip:
    """A frozen CLIP as an embedder of styles; safe to call from several threads."""

    def __init__(self, network: Any, tokenizer: Any, side: int) -> None:
        """Join them; see ``load_clip``."""
        self._network, self._tokenizer, self._side = network, tokenizer, side
        self._device = next(network.parameters()).device

    @torch.no_grad()
    def embed_text(self, text: str, about: Tensor | None = None) -> Tensor:
        """[D] unit. With ``about``, the step from "a person" to the text, taken from there (as StyleGAN-NADA does)."""
        plain, *rest = self._embed_texts([text] if about is None else [text, "a photo of a person"])
        return plain if about is None else F.normalize(about.to(plain) + plain - rest[0], dim=-1)

    @torch.no_grad()
    def embed_picture(self, rgba: Tensor) -> Tensor:
        """[4, S, S] RGB multiplied by alpha, and alpha -> [D] unit."""
        return self.embed_pictures(rgba[None])[0]

    @torch.no_grad()
    def embed_pictures(self, rgba: Tensor) -> Tensor:
        """[B, 4, S, S] -> [B, D] unit."""
        over_grey = rgba[:, :3] + (1 - rgba[:, 3:]) * _GREY
        resized = F.interpolate(over_grey.float(), (self._side, self._side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, spread = (resized.new_tensor(v)[:, None, None] for v in (_MEAN, _SPREAD))
        embedding: Tensor = self._network.encode_image(((resized - mean) / spread).to(self._device), normalize=True)
        return embedding.float().cpu()

    def unknown_words(self, text: str) -> list[str]:
        """None: CLIP reads pieces of words."""
        return []

    def named(self, text: str) -> Mapping[str, str]:
        """Nothing: CLIP keeps no list."""
        return {}

    def _embed_texts(self, texts: list[str]) -> Tensor:
        embedding: Tensor = self._network.encode_text(self._tokenizer(texts).to(self._device), normalize=True)
        return embedding.float().cpu()


def load_clip(
    path: Path | str, name: str, device: torch.device | str = "cpu", *, config: Mapping[str, Any] | None = None
) -> Clip:
    """A CLIP from a file.

    Args:
        path: The weights.
        name: open_clip's name of the architecture, such as ViT-L-14.
        device: Where it runs.
        config: An architecture in open_clip's own form, in place of the named one.

    Raises:
        MissingWeightsError: There is no such file, or open_clip is not installed.
        CorruptWeightsError: The file does not hold that architecture.
        InvalidInputError: open_clip has no architecture of that name.
    """
    try:
        import open_clip
    except ImportError as error:
        raise MissingWeightsError("CLIP needs open_clip: pip install headlift[clip].") from error
    source = Path(path)
    architecture = config if config is not None else open_clip.get_model_config(name)
    if architecture is None:
        raise InvalidInputError(f"open_clip has no architecture {name!r}; take ViT-L-14 or ViT-B-32.", field="clip")
    if not source.is_file():
        raise MissingWeightsError(f"There is no CLIP file {source.name}; open_clip's page {_PAGE} has {name}.")
    tensors = read_tensors(source)
    # OpenAI's weights were trained with a cheaper GELU, which open_clip names apart.
    network = open_clip.CLIP(**{**architecture, "quick_gelu": name.endswith("-quickgelu")})
    try:
        network.load_state_dict({k: v for k, v in tensors.items() if k not in ("context_length", "vocab_size")})
    except RuntimeError as error:
        raise CorruptWeightsError(f"{source.name} does not hold a CLIP of the architecture {name}.") from error
    network = network.to(device).eval().requires_grad_(False)
    side = architecture["vision_cfg"]["image_size"]
    return Clip(
        network, open_clip.SimpleTokenizer(context_length=architecture["text_cfg"]["context_length"]), int(side)
    )
