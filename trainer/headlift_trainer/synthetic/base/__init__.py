"""MakeHuman's base mesh and what all parts of a head are built on: assets, regions, identity, shells, textures."""
