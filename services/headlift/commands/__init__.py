"""The commands of ``headlift``; each module has ``register(subparsers)``, as commands of other packages do."""
