"""Compile gsplat's CUDA kernels into its package, as its own source build would: the image then needs no nvcc.

gsplat's wheel carries sources that are compiled on first use; a module ``gsplat.csrc`` beside them is taken instead.
TORCH_CUDA_ARCH_LIST says for which GPUs; none need be here.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

from torch.utils.cpp_extension import load

NAME = "csrc"


def compile_gsplat(target: Path | None = None) -> Path:
    """The compiled module; ``target`` is the folder that gets it, by default gsplat's own."""
    spec = importlib.util.find_spec("gsplat")  # found, not imported: importing would compile
    if spec is None or spec.origin is None:
        sys.exit("gsplat is not installed; pip install gsplat first.")
    package = Path(spec.origin).parent
    cuda = package / "cuda"
    sources = [*sorted(cuda.glob("csrc/*.cu")), *sorted(cuda.glob("csrc/*.cpp")), cuda / "ext.cpp"]
    with tempfile.TemporaryDirectory() as scratch:
        load(
            name=NAME,
            sources=[str(path) for path in sources],
            extra_include_paths=[str(cuda / "include"), str(cuda / "csrc/third_party/glm")],
            extra_cflags=["-O3", "-Wno-attributes"],
            extra_cuda_cflags=["-O3", "-use_fast_math"],
            build_directory=scratch,
            is_python_module=False,  # it cannot be imported where no driver is
            verbose=True,
        )
        return Path(shutil.copy(Path(scratch) / f"{NAME}.so", target or package))


if __name__ == "__main__":
    print(compile_gsplat(Path(sys.argv[1]) if sys.argv[1:] else None))
