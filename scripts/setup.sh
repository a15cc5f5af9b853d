#!/usr/bin/env bash
# Makes the environment in .venv from the pinned list in requirements.txt. Run by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: Python 3.11 or newer is needed; $python is $("$python" --version 2>&1). Give another one: make setup PYTHON=python3.11" >&2
    exit 2
}
echo "setup: installs at most 6,300 MB into .venv (torch with CUDA is most of it); one minute on a fast line, ten on a slow one"

if command -v uv >/dev/null 2>&1; then
    uv=uv
else
    uv=.uv/bin/uv
    [ -x "$uv" ] || { "$python" -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv; }
fi
[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv
export VIRTUAL_ENV="$PWD/.venv" UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300}

list=requirements.txt
if [ ! -e /proc/driver/nvidia/version ]; then
    # No NVIDIA driver: torch's CPU build is a tenth of the size, where its own index can be reached.
    if UV_HTTP_RETRIES=0 UV_HTTP_TIMEOUT=10 "$uv" pip install --quiet --torch-backend cpu \
        $(grep -E '^(torch|torchvision)==' requirements.txt | sed 's/ *;.*//') 2>/dev/null; then
        list=$(mktemp)
        trap 'rm -f "$list"' EXIT
        grep -vE '^(nvidia-|cuda-|triton)' requirements.txt >"$list"
        echo "setup: no NVIDIA driver found, using torch's CPU build"
    else
        echo "setup: no NVIDIA driver found, but torch's CPU build cannot be had here; using the default build"
    fi
fi
"$uv" pip install --quiet -r "$list"
"$uv" pip install --quiet --no-deps --editable .
# What every run imports is compiled now, so that the first run does not have to; half a minute.
echo "setup: compiling what a run imports"
PYTHONDONTWRITEBYTECODE= .venv/bin/python -c 'import mlflow, open_clip, peft, ray.tune, scipy.stats, sweeper.cli, sweeper.launch, torch' >/dev/null 2>&1 || true
touch .venv/.ready
echo "setup: done"
