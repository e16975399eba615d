"""``python -m headlift.model.splat.build [--force]``: compiles the native rasteriser, as the deploy scripts do."""

from __future__ import annotations

import sys

from headlift.errors import BackendUnavailableError
from headlift.model.splat.library import build_native

if __name__ == "__main__":
    try:
        print(build_native(force="--force" in sys.argv[1:]).name)
    except BackendUnavailableError as error:
        sys.exit(f"headlift: {error}")
