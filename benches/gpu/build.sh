#!/usr/bin/env bash
# Builds the program and the training benchmark against a PyTorch, and puts both into a folder that can be carried to
# a machine with a GPU and the same PyTorch:  benches/gpu/build.sh OUT
#
# PYTHON names the Python that has PyTorch (default: python3). It need not be able to import it: `pip install
# --no-deps torch==2.11.0` is enough to build on a machine without CUDA. The bindings are written for torch 2.9; newer
# ones have linked too (2.11.0), which is why another version is a warning and not an error.
set -euo pipefail

out=${1:?usage: benches/gpu/build.sh OUT}
python=${PYTHON:-python3}
root=$(cd -- "$(dirname -- "$0")/../.." && pwd)

# Found without being imported.
torch=$("$python" -c '
import importlib.util
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec else "")')
if [[ -z $torch ]]; then
    echo "error: $python has no torch; pip install it there, or name another Python in PYTHON" >&2
    exit 1
fi
version=$("$python" -c '
import runpy, sys
print(runpy.run_path(sys.argv[1] + "/version.py")["__version__"])' "$torch")
if [[ $version != 2.9.* ]]; then
    echo "warning: torch $version instead of 2.9" >&2
    export LIBTORCH_BYPASS_VERSION_CHECK=1
fi

mkdir -p "$out"
out=$(cd -- "$out" && pwd)
rm -f "$out/selfcls-cli" "$out/train_step"

cd "$root"
# Libraries of CUDA may be absent where the binary is built; the machine that runs it has them.
env -u LIBTORCH_USE_PYTORCH LIBTORCH="$torch" \
    RUSTFLAGS="${RUSTFLAGS:-} -C link-args=-Wl,--unresolved-symbols=ignore-in-shared-libs" \
    cargo build --release -p selfcls-cli -p selfcls-benches --bin selfcls-cli --bench train_step \
    --features selfcls-cli/tch,selfcls-benches/tch --message-format=json-render-diagnostics |
    "$python" -c '
import json, shutil, sys
for line in sys.stdin:
    message = json.loads(line)
    name = message.get("target", {}).get("name")
    if message.get("executable") and name in ("selfcls-cli", "train_step"):
        shutil.copy2(message["executable"], sys.argv[1] + "/" + name)
' "$out"
for name in selfcls-cli train_step; do
    [[ -x $out/$name ]] || { echo "error: cargo built no $name" >&2; exit 1; }
done
cp "$root/benches/peers/train_step.py" "$root/benches/gpu/measure.py" "$out/"
echo "built $out/selfcls-cli and $out/train_step against torch $version; now run: $python $out/measure.py --help" >&2
