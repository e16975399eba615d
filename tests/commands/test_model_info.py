"""Counts equal what is built, and the facts' hand counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from headlift.commands.model_info import describe
from headlift.model.checkpoint import load_checkpoint
from headlift.model.sizes import CONFIGS, named_config


def test_base_has_the_parameters_of_the_hand_count() -> None:
    info = describe(named_config("base"))
    assert info.row("encoder.dinov2_vitg14").params == pytest.approx(1136e6, rel=0.005)
    assert info.row("decoder.layers").params == pytest.approx(126e6, rel=0.01)
    assert info.row("encoder.fuse").params == pytest.approx(7.5e6, rel=0.01)


def test_base_has_the_flops_of_the_hand_count() -> None:
    info = describe(named_config("base"))
    assert info.row("encoder.dinov2_vitg14").flops == pytest.approx(3.35e12, rel=0.01)
    assert info.row("decoder.layers").flops == pytest.approx(1.05e12, rel=0.03)
    assert info.row("sharpener").flops == pytest.approx(0.157e12, rel=0.02)


def test_dinov2_g_at_other_sizes_agrees_with_the_hand_count() -> None:
    base = named_config("base")
    for size, teraflops in ((224, 0.60), (518, 3.57)):
        config = replace(base, portrait_size=size, encoder=replace(base.encoder, image_size=size))
        assert describe(config).row("encoder.dinov2_vitg14").flops == pytest.approx(teraflops * 1e12, rel=0.02)


@pytest.mark.parametrize(
    ("backbone", "timm_name"),
    [
        ("dinov2_vits14", "vit_small_patch14_dinov2"),
        ("dinov2_vitl14_reg", "vit_large_patch14_reg4_dinov2"),
        ("dinov2_vitg14", "vit_giant_patch14_dinov2"),
        ("dinov2_vitg14_reg", "vit_giant_patch14_reg4_dinov2"),
    ],
)
def test_backbone_counts_are_those_of_the_network_itself(backbone: str, timm_name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(timm_name, num_classes=0)
    base = named_config("base")
    config = replace(base, encoder=replace(base.encoder, backbone=backbone, backbone_layers=(2,)))
    assert describe(config).row(f"encoder.{backbone}").params == sum(p.numel() for p in network.parameters())


def test_rows_add_up_to_the_parameters_of_the_model(tiny_checkpoint: Path) -> None:
    model, _ = load_checkpoint(tiny_checkpoint)
    assert describe(named_config("tiny")).trained_params == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_every_named_size_has_a_table_with_every_row(name: str) -> None:
    info = describe(named_config(name))
    assert all(row.module in info.table() for row in info.rows)
    assert info.trained_params > 0


def test_more_foreground_costs_more() -> None:
    config = named_config("light")
    few, many = (describe(config, foreground=f).row("decoder.layers").flops for f in (0.3, 0.9))
    assert few < many
