#!/usr/bin/env bash
# Builds the program, the training benchmark and the tests against a PyTorch, and puts them into a folder that can be
# carried to a machine with a GPU and the same PyTorch:  benches/gpu/build.sh OUT
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
programs=(selfcls-cli train_step backends suite processes)
for name in "${programs[@]}"; do rm -f "$out/$name"; done

cd "$root"
# Libraries of CUDA may be absent where the binary is built; the machine that runs it has them.
flags="${RUSTFLAGS:-} -C link-args=-Wl,--unresolved-symbols=ignore-in-shared-libs"
# The test of whether a step waits for the GPU needs more of CUDA's headers than the program (SELFCLS_BUILD_WAITS). The same
# packages, features and variables each time, so that what they depend on is built once.
cargo_release() {
    env -u LIBTORCH_USE_PYTORCH LIBTORCH="$torch" SELFCLS_BUILD_WAITS=1 RUSTFLAGS="$flags" cargo "$@" --release --locked \
        -p selfcls-cli -p selfcls-backends -p selfcls-tests -p selfcls-benches \
        --features selfcls-cli/tch,selfcls-tests/tch,selfcls-benches/tch --message-format=json-render-diagnostics |
        "$python" -c '
import json, shutil, sys
for line in sys.stdin:
    message = json.loads(line)
    name, executable = message.get("target", {}).get("name", ""), message.get("executable")
    name = name.removeprefix("selfcls_")
    if executable and name in sys.argv[2:]:
        shutil.copy2(executable, sys.argv[1] + "/" + name)
' "$out" "${programs[@]}"
}
cargo_release build --bin selfcls-cli --bench train_step
# The tests that check.sh runs: those of the kernels, of the method on every backend, and of many processes.
cargo_release test --no-run --lib --test suite --test processes
for name in "${programs[@]}"; do
    [[ -x $out/$name ]] || { echo "error: cargo built no $name" >&2; exit 1; }
done
# A third of their size is names that only a debugger asks for.
if command -v strip >/dev/null; then strip "${programs[@]/#/$out/}"; fi
cp "$root/benches/peers/train_step.py" "$root/benches/gpu/measure.py" "$root/benches/gpu/check.sh" "$out/"
mkdir -p "$out/fixtures"
cp "$root"/tests/fixtures/*.{json,safetensors,pth.tar} "$out/fixtures/"
echo "built ${programs[*]} in $out against torch $version; now run $out/check.sh and $python $out/measure.py --help" >&2
