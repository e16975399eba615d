"""Synthetic heads: multi-view pictures with perfect labels, from CC0 assets that the user gives.

The way of a head: `assets` (files) -> `topology` (what vertices mean) -> `identity` (who) -> `surfaces`, `hair`
(parts) -> `head` (geometry) -> `appearance`, `lighting` (dressing) -> `renderer` (pictures) -> `generate` (files).
"""
