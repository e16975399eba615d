"""Quaternions."""

import torch
from torch import Tensor

from headlift.model.gaussians import multiply_quats, quats_from_normals


def rotated(quats: Tensor, v: Tensor) -> Tensor:
    pure = torch.cat([torch.zeros_like(v[..., :1]), v], -1)
    conjugate = quats * torch.tensor([1.0, -1, -1, -1])
    return multiply_quats(multiply_quats(quats, pure), conjugate)[..., 1:]


def test_quats_from_normals_take_z_to_the_normal_even_backwards() -> None:
    normals = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    normals = torch.cat([normals, torch.tensor([[0.0, 0, -1], [0, 0, 1], [1e-4, 0, -1]])])
    turned = rotated(quats_from_normals(normals), torch.tensor([0.0, 0, 1]).expand_as(normals))
    torch.testing.assert_close(turned, torch.nn.functional.normalize(normals, dim=-1), atol=1e-3, rtol=0)
