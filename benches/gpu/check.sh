#!/usr/bin/env bash
# Checks that what build.sh put into this folder computes on a GPU what it should, most important first:
#
#     OUT/check.sh [--device cuda|cpu] [--seconds TIME] [--results FOLDER]
#
# Each part's output goes to FOLDER/PART.log while it runs, and its outcome into FOLDER/summary.txt as soon as it has
# ended, so that a run cut short keeps what it found. A part that has no time left of TIME (default 480) is cut or left
# out, and says so. The exit code is 0 if every part ran tests and none failed. `--device cpu` runs the same tests on a
# CPU, to try this out.
#
# Nothing is needed beside PyTorch, which PYTHON (default: python3) finds, and of which only the libraries are taken.
set -uo pipefail

here=$(cd -- "$(dirname -- "$0")" && pwd)
device=cuda seconds=480 results=results
while (($#)); do
    case $1 in
    --device) device=$2 ;;
    --seconds) seconds=$2 ;;
    --results) results=$2 ;;
    *) echo "usage: $0 [--device cuda|cpu] [--seconds TIME] [--results FOLDER]" >&2; exit 2 ;;
    esac
    shift 2
done
[[ $device == cuda || $device == cpu ]] || { echo "error: --device is cuda or cpu, not $device" >&2; exit 2; }
mkdir -p "$results"
results=$(cd -- "$results" && pwd)
summary=$results/summary.txt
: >"$summary"

torch=$("${PYTHON:-python3}" -c '
import importlib.util
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec else "")')
[[ -n $torch ]] || { echo "error: ${PYTHON:-python3} has no torch; name another Python in PYTHON" >&2; exit 2; }
export LD_LIBRARY_PATH=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export SELFCLS_BIN=$here/selfcls-cli SELFCLS_FIXTURES=$here/fixtures
# f32 is compared with f32; and no time goes into trying out kernels for shapes that occur once.
export NVIDIA_TF32_OVERRIDE=0 SELFCLS_CUDNN_BENCHMARK=0
# c10d of torch 2.11 writes all collectives of a process into one list, which several threads at once break (a crash in
# FlightRecorder::record). Only in these tests are ranks threads of one process.
export TORCH_FR_BUFFER_SIZE=0

failed=0
# part NAME LIMIT PROGRAM ARGUMENTS...: runs it for at most LIMIT seconds.
part() {
    local name=$1 limit=$2 log=$results/$1.log
    shift 2
    local left=$((seconds - SECONDS)) began=$SECONDS
    if ((left < 5)); then
        echo "$name: left out, no time" | tee -a "$summary"
        failed=1
        return
    fi
    timeout --kill-after=5 $((left < limit ? left : limit)) "$@" >"$log" 2>&1 </dev/null
    local code=$? outcome
    local passed not_run
    # A part that was cut has no sum of its own.
    passed=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log")
    [[ -n $passed ]] || passed=$(grep -cE '^test .* ok$' "$log")
    not_run=$(grep -E '^(test .*)?NOT RUN: ' "$log" | sed 's/.*NOT RUN: //' | sort -u)
    case $code in
    0) outcome=ok ;;
    124 | 137) outcome="CUT after $((SECONDS - began)) s" failed=1 ;;
    *) outcome="FAILED, exit code $code" failed=1 ;;
    esac
    # The list of devices is no test.
    if [[ $name != devices ]]; then
        ((code == 0 && passed == 0)) && outcome="NOTHING RAN" failed=1
        outcome+=", $passed tests passed"
    fi
    {
        echo "$name: $outcome, $((SECONDS - began)) s"
        grep -E '^test .* FAILED$' "$log" | sed 's/^test /    /'
        [[ -z $not_run ]] || sed 's/^/    not run: /' <<<"$not_run"
    } | tee -a "$summary"
}
# part_of NAME LIMIT THREADS TESTS...: these tests of `backends`, without which its program would run all that it has.
part_of() {
    local name=$1 limit=$2 threads=$3
    shift 3
    if (($# == 0)); then
        echo "$name: left out, NO SUCH TESTS in this build" | tee -a "$summary"
        failed=1
        return
    fi
    part "$name" "$limit" "$here/backends" --exact --test-threads="$threads" "$@"
}

# Every test of these modules of `backends` on the device.
tests_of() {
    "$here/backends" --list 2>/dev/null | sed -n 's/: test$//p' | grep "::$device::" | grep -E "^($(IFS='|'; echo "$*"))::"
}
mapfile -t kernels < <(tests_of aten::tests aten::copies)
mapfile -t ranks < <(tests_of aten::early aten::sync distributed | grep -v ::alone::)
case $device in
cuda) runs=gpus:: suite=tch-cuda ;;
cpu) runs=equality:: suite=tch:: ;;
esac

{ date -u +%F; nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null; } | tee -a "$summary"
part devices 60 "$here/selfcls-cli" devices
if [[ $device == cuda ]] && ! grep -q tch:cuda:0 "$results/devices.log"; then
    echo "libtorch sees no GPU: nothing was checked" | tee -a "$summary"
    cat "$results/devices.log"
    exit 1
fi
part_of kernels 120 4 "${kernels[@]}"
# A build without CUDA's headers has none of these, and on a CPU there is nothing to wait for.
has_waits=$("$here/backends" --list 2>/dev/null | grep 'waits::.*: test$')
if [[ $device == cuda || -n $has_waits ]]; then
    part waits 60 "$here/backends" waits:: --nocapture
else
    echo "waits: not in this build, and of GPUs only" | tee -a "$summary"
fi
part processes 120 "$here/processes" "$runs" --test-threads=1
# Through NCCL on a GPU.
part nccl 60 "$here/backends" "alone::$device::" --test-threads=1
part_of ranks 120 2 "${ranks[@]}"
part suite 240 "$here/suite" "$suite" --test-threads=4
sed -n 's/^parity | //p' "$results/suite.log" 2>/dev/null >"$results/parity.txt"
echo "in $results; $SECONDS s"
exit $failed
