# Sourced by deploy/demo and deploy/test: makes .venv from pinned versions and builds the native rasteriser.
# A second run finds its stamp and takes no time.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${HEADLIFT_VENV:-$ROOT/.venv}"
# PyTorch's own index holds CPU builds a tenth of the size; HEADLIFT_TORCH_INDEX names another one, or "" for none.
TORCH_INDEX="${HEADLIFT_TORCH_INDEX-https://download.pytorch.org/whl/cpu}"

export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # spinning threads slow everything on shared cores

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'headlift: %s\n' "$*" >&2; exit 1; }

find_python() {
  local candidate
  for candidate in "${HEADLIFT_PYTHON:-}" python3.12 python3.11 python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; then
      printf '%s' "$candidate"
      return
    fi
  done
  die "Python 3.11 or 3.12 with venv is needed and none was found on PATH. Install one, or name it in HEADLIFT_PYTHON."
}

# Prints the options that make pip take the small CPU builds, or nothing: with a GPU, or where that index does not answer at once.
torch_options() {
  [ -n "$TORCH_INDEX" ] || return 0
  command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && return 0
  "$1" - "$TORCH_INDEX" <<'PY' >/dev/null 2>&1 && printf -- '--index-url %s' "$TORCH_INDEX"
import sys, urllib.request
urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=3).read(1)
PY
  return 0
}

# setup EXTRAS: makes the environment with these extras of pyproject.toml.
setup() {
  local extras="$1" stamp want python options
  stamp="$VENV/.headlift-setup"
  want="$(cat "$ROOT/pyproject.toml" "$ROOT/deploy/constraints.txt" | sha256sum | cut -d' ' -f1)"
  if [ ! -f "$stamp" ] || ! grep -qx "$want $extras" "$stamp"; then
    if [ ! -x "$VENV/bin/python" ]; then
      python="$(find_python)" || exit 1
      say "Making $(basename "$VENV") with $python"
      "$python" -m venv "$VENV" || die "could not make $VENV; on Debian install python3-venv."
    fi
    options="$(torch_options "$VENV/bin/python")"
    say "Installing torch ${options:+(CPU builds) }- the large part, a few minutes the first time"
    # shellcheck disable=SC2086 -- options are words
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check $options -c "$ROOT/deploy/constraints.txt" torch torchvision 2> >(grep -v '^WARNING: Location' >&2) ||
      die "pip could not install torch and torchvision; see the message above."
    case ",$extras," in
      *,dev,* | *,sam2,*)
        # In an environment of its own its build would fetch torch again. The tests that need it skip without it.
        say "Installing sam2, whose image encoder is one of the losses"
        { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c "$ROOT/deploy/constraints.txt" 'setuptools>=80' wheel &&
          SAM2_BUILD_CUDA=0 "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation -c "$ROOT/deploy/constraints.txt" 'sam2==1.1.0' 2> >(grep -v '^WARNING: Location' >&2); } ||
          say "sam2 could not be installed; its tests will say so."
        ;;
    esac
    say "Installing headlift[$extras] and what it needs"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c "$ROOT/deploy/constraints.txt" -e "$ROOT[$extras]" 2> >(grep -v '^WARNING: Location' >&2) ||
      die "pip could not install headlift; see the message above."
    # One line for each set of extras that is in: a demo after a test has nothing left to do.
    touch "$stamp"
    grep -q "^$want " "$stamp" || : > "$stamp"
    echo "$want $extras" >> "$stamp"
  fi
  # Small networks that heads are made better with. Where they cannot be fetched it says so in a line, and heads are
  # made without them.
  "$VENV/bin/headlift" models install >/dev/null || true
  "$VENV/bin/python" -m headlift.model.splat.build || say "The native rasteriser could not be built; the slow fallback is used."
}
