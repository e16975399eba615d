"""The blocks compute what their names say."""

from __future__ import annotations

import pytest
import torch

from headlift.model.layers import Attention, CrossAttentionBlock, fourier_features, sine_positions


def block(residual: str) -> CrossAttentionBlock:
    torch.manual_seed(0)
    return CrossAttentionBlock(16, 4, 2.0, 12, residual).eval()  # type: ignore[arg-type]


def test_paper_residual_bypasses_the_attention() -> None:
    layer, x, context = block("paper"), torch.randn(2, 5, 16), torch.randn(2, 7, 12)
    attended = x + layer.attn(layer.norm_attn(x), context)
    torch.testing.assert_close(layer(x, context), x + layer.mlp(layer.norm_mlp(attended)))


def test_standard_residual_keeps_the_attention() -> None:
    layer, x, context = block("standard"), torch.randn(2, 5, 16), torch.randn(2, 7, 12)
    attended = x + layer.attn(layer.norm_attn(x), context)
    torch.testing.assert_close(layer(x, context), attended + layer.mlp(layer.norm_mlp(attended)))


@pytest.mark.parametrize("residual", ["paper", "standard"])
def test_without_attention_the_context_does_not_matter(residual: str) -> None:
    layer, x = block(residual), torch.randn(2, 5, 16)
    one, two = (layer(x, torch.randn(2, 7, 12), attends=False) for _ in range(2))
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert not torch.allclose(one, x)


def test_masked_context_has_no_influence() -> None:
    layer, x, context = block("standard"), torch.randn(2, 5, 16), torch.randn(2, 7, 12)
    mask = torch.tensor([[True] * 4 + [False] * 3] * 2)
    torch.testing.assert_close(layer(x, context, mask), layer(x, context[:, :4]))


def test_attention_is_softmax_of_scaled_products() -> None:
    torch.manual_seed(0)
    attn, x, context = Attention(8, 1, 6), torch.randn(1, 3, 8), torch.randn(1, 4, 6)
    k, v = attn.to_kv(context).chunk(2, -1)
    weights = (attn.to_q(x) @ k.mT / 8**0.5).softmax(-1)
    torch.testing.assert_close(attn(x, context), attn.to_out(weights @ v))


def test_sine_positions_tell_every_patch_apart() -> None:
    positions = sine_positions(6, 16)
    assert positions.shape == (36, 16)
    assert float((torch.cdist(positions, positions) + torch.eye(36) * 9).min()) > 0.1


def test_fourier_features_change_smoothly_and_tell_millimetres_apart() -> None:
    xyz = torch.tensor([[0.05, 0.0, 0.09], [0.051, 0.0, 0.09], [0.1, 0.0, 0.0]])
    near, far = torch.cdist(fourier_features(xyz), fourier_features(xyz))[0, 1:]
    assert 0.05 < near < 0.5 * far


@pytest.mark.parametrize("masked", [False, True])
def test_half_precision_training_attends_as_inference_does(masked: bool) -> None:
    """Gradients in half precision take another road on a CPU; it leads to the same place."""
    torch.manual_seed(3)
    attention = Attention(32, 4, 16)
    x, context = torch.randn(2, 7, 32), torch.randn(2, 9, 16)
    mask = torch.arange(9) < torch.tensor([[9], [5]]) if masked else None
    wanted = attention(x, context, mask)
    exact = torch.autograd.grad(wanted.square().sum(), list(attention.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(x, context, mask)
        with torch.no_grad():
            quiet = attention(x, context, mask)
    rough = torch.autograd.grad(found.float().square().sum(), list(attention.parameters()))
    assert torch.allclose(found.float(), quiet.float(), atol=0.01)
    assert torch.allclose(found.float(), wanted, atol=0.02)
    for a, b in zip(rough, exact, strict=True):
        assert float((a - b).norm()) < 0.03 * float(b.norm()) + 0.02
