"""Synthetic heads: multi-view pictures with perfect labels, from CC0 and MIT assets that the user gives and from code.

The way of a head: `base.assets` (files) -> `base.topology` (what vertices mean) -> `base.identity` (who) -> `skin`,
`hair`, `wear` (parts) -> `source.head` (geometry) -> `source.appearance` (colours, light) -> `render` (pictures) ->
`labels`, `generate` (files) -> `targets`, `prepare` (anchor targets for training).
"""
