#!/bin/sh
# Builds the program and the training benchmark against an installed PyTorch, and puts both into a folder that can be
# carried to a machine with a GPU and the same PyTorch:  benches/gpu/build.sh OUT
#
# PYTHON names the Python that has PyTorch (default: python3). The bindings are written for torch 2.9; newer ones have
# linked too (2.11.0), which is why another version is a warning and not an error.
set -eu

out=${1:?usage: benches/gpu/build.sh OUT}
python=${PYTHON:-python3}
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)

version=$("$python" -c 'import torch; print(torch.__version__)') || {
    echo "error: $python has no torch; install one with CUDA, or name another Python in PYTHON" >&2
    exit 1
}
case $version in
    2.9.*) ;;
    *) echo "warning: torch $version instead of 2.9" >&2; export LIBTORCH_BYPASS_VERSION_CHECK=1 ;;
esac

# torch-sys asks the program called python3.
mkdir -p "$out"
out=$(CDPATH= cd -- "$out" && pwd)
links=$(mktemp -d)
trap 'rm -rf "$links"' EXIT
ln -s "$(command -v "$python")" "$links/python3"
ln -s "$(command -v "$python")" "$links/python"

cd "$root"
# Libraries of CUDA may be absent where the binary is built; the machine that runs it has them.
env -u LIBTORCH PATH="$links:$PATH" LIBTORCH_USE_PYTORCH=1 \
    RUSTFLAGS="${RUSTFLAGS:-} -C link-args=-Wl,--unresolved-symbols=ignore-in-shared-libs" \
    cargo build --release -p selfcls-cli -p selfcls-benches --bins --benches \
    --features selfcls-cli/tch,selfcls-benches/tch --message-format=json-render-diagnostics |
    "$python" -c '
import json, shutil, sys
for line in sys.stdin:
    message = json.loads(line)
    name = message.get("target", {}).get("name")
    if message.get("executable") and name in ("selfcls-cli", "train_step"):
        shutil.copy2(message["executable"], sys.argv[1] + "/" + name)
' "$out"
cp "$root/benches/peers/train_step.py" "$root/benches/gpu/measure.py" "$out/"
echo "built $out/selfcls-cli and $out/train_step against torch $version; now run: $python $out/measure.py --help" >&2
