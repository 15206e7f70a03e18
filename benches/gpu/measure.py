#!/usr/bin/env python3
"""Measures training on a GPU: the step beside PyTorch's, memory, gaps, and CIFAR-10 to a result. One command:

    benches/gpu/build.sh gpu && python3 gpu/measure.py --cifar10 cifar10 --out gpu/results.json

Of CIFAR-10 it takes six minutes. The two parts before it are given `--seconds` together, and begin with what a ResNet-18
does: what there is no time left for is left out, and says so. `--rounds 1` halves the first.

Nothing but PyTorch and torchvision is needed beside what build.sh puts into its folder. Each part writes its figures
into the results as soon as it has them, with the date, the hardware and the versions, so that a run cut short keeps
what it measured. `--device cpu` runs the same on a CPU, to try the script out.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Our precision and the peer's arguments. PyTorch gets what its users would give it.
MODES = {
    "f32": ["--channels-last"],
    "bf16": ["--channels-last", "--amp=bfloat16"],
    "fp16": ["--channels-last", "--amp=float16"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu (default: cuda:0)")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="file for the figures (default: results.json)")
    parser.add_argument("--parts", default="step,profile,cifar10", help="which parts, in order (default: all)")
    parser.add_argument("--cases", default="resnet18 cifar 2x32 b512:adamw,resnet18 2x32 b64,resnet50 2x224+6x96 b64,vit_tiny 2x224 b64:adamw",
                        help="cases of the step benchmark, parts of their names, separated by commas, each with its optimiser "
                             "(:larc, :adamw; default larc) (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=480, help="time for the parts step and profile together (default: 480)")
    parser.add_argument("--modes", default="f32,bf16", help=f"precisions out of {', '.join(MODES)} (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of either side, for what a CPU does")
    parser.add_argument("--cifar10", type=Path, help="folder with train and test, a sub-folder per class, for the part cifar10")
    parser.add_argument("--minutes", type=float, default=6.0, help="time for the training of the part cifar10 (default: 6)")
    parser.add_argument("--set", action="append", default=[], metavar="--KEY=VALUE",
                        help="one more argument for `selfcls-cli train` in the part cifar10; may be repeated")
    args = parser.parse_args()
    for mode in args.modes.split(","):
        if mode not in MODES:
            parser.error(f"there is no precision {mode}; there are {', '.join(MODES)}")
    args.deadline = time.monotonic() + args.seconds
    args.measured = {}  # milliseconds of our step, by precision and case

    environment = dict(os.environ)
    libraries = library_path()
    environment["LD_LIBRARY_PATH"] = ":".join(filter(None, [libraries, environment.get("LD_LIBRARY_PATH")]))
    results = {"date": datetime.date.today().isoformat(), **hardware(args.device), "parts": {}}

    def keep(part, figures):
        results["parts"][part] = figures
        partial = args.out.with_name(args.out.name + ".partial")
        partial.write_text(json.dumps(results, indent=1) + "\n")
        partial.replace(args.out)

    parts = {"step": step, "profile": profile, "cifar10": cifar10}
    for name in args.parts.split(","):
        if name not in parts:
            parser.error(f"there is no part {name}; the parts are {', '.join(parts)}")
    for name in args.parts.split(","):
        began = time.monotonic()
        try:
            parts[name](args, environment, lambda figures: keep(name, figures))
        except (subprocess.SubprocessError, OSError, ValueError) as problem:
            figures = results["parts"].get(name)
            keep(name, {"failed": str(problem)} if figures is None else {"failed": str(problem), "figures": figures})
            print(f"{name} failed: {problem}", file=sys.stderr)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(args.out)


def library_path():
    import torch

    return str(Path(torch.__file__).parent / "lib")


def hardware(device):
    import torch

    facts = {"torch": torch.__version__, "processor": processor(), "cores": os.cpu_count(), "device": device}
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def backend(args):
    return f"tch:{args.device}"


def runs(args):
    """Case, optimiser and precision of each measurement: all of a case before the next one."""
    for case in args.cases.split(","):
        case, _, optimizer = case.partition(":")
        for mode in args.modes.split(","):
            yield case, optimizer or "larc", mode


def benchmark(args, case, optimizer, mode, *more):
    command = [HERE / "train_step", "--backend", backend(args), "--precision", mode, "--optimizer", optimizer]
    command += ["--case", case, "--json", "--warmup", args.warmup, "--threads", args.threads, *more]
    return list(map(str, command))


def started(command, environment):
    # In a session of its own, so that its peer ends with it.
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)


def finished(process, seconds):
    """The objects that it printed, within this time; and how it failed, if it did."""
    failure = None
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        failure = f"cut after {seconds:.0f} s"
    if process.returncode != 0:
        failure = failure or f"exit code {process.returncode}"
    return list(objects_of(output)), failure


def objects_of(text):
    """The JSON objects among the lines, but one that its writer was ended in."""
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:
                continue


def step(args, environment, keep):
    """The step in every precision and case, ours and PyTorch's in alternation."""
    figures = []
    for case, optimizer, mode in runs(args):
        figure = {"precision": mode, "optimizer": optimizer}
        left = args.deadline - time.monotonic()
        if left <= 0:
            figures.append({**figure, "case": case, "left_out": "no time"})
            keep(figures)
            continue
        command = benchmark(args, case, optimizer, mode, "--rounds", args.rounds, "--steps", args.steps,
                            "--peer-python", sys.executable, "--peer-script", HERE / "train_step.py")
        command += [f"--peer-arg={value}" for value in [f"--device={args.device}", *MODES[mode]]]
        lines, failure = finished(started(command, environment), left)
        if not lines and not failure:
            failure = "it measured nothing: no case has this in its name"
        if failure:
            lines.append({"case": case, "failed": failure})
        figures += [{**figure, **line} for line in lines]
        for line in lines:
            print(mode, line.get("case"), "ratio", line.get("ratio"), line.get("failed", ""), file=sys.stderr)
            if line.get("ours"):
                args.measured[mode, case, optimizer] = line["ours"]
        keep(figures)


# The counters say what the GPU did over up to a second: so long they still know of what was before.
SETTLING_SECONDS = 1.0
MEASURING_SECONDS = 5.0


def profile(args, environment, keep):
    """Whether the GPU waits for the host. Steps are handed over without waiting for any: `host_ms` is how long that
    takes for one, `ours_ms` how long the GPU needs for it. Where the host takes as long as the GPU, the GPU has gaps.
    Beside that, the memory of the whole process and what the GPU's own counters say while nothing but steps runs; with
    NVIDIA's Nsight Systems installed, a trace of each case, to be looked at."""
    if not args.device.startswith("cuda"):
        keep({"not_run": "the profile reads the counters of an NVIDIA GPU"})
        return
    figures = []
    index = args.device.partition(":")[2] or "0"
    query = ["nvidia-smi", "-i", index, "--query-gpu=timestamp,utilization.gpu,memory.used,power.draw",
             "--format=csv,noheader,nounits"]
    for case, optimizer, mode in runs(args):
        figure = {"precision": mode, "case": case, "optimizer": optimizer}
        left = args.deadline - time.monotonic()
        if left <= 0:
            figures.append({**figure, "left_out": "no time"})
            keep(figures)
            continue
        # As many as take long enough for the counters, where the part before has told how long one takes.
        milliseconds = args.measured.get((mode, case, optimizer))
        steps = 10 * args.steps if milliseconds is None else 1 + int(1e3 * (SETTLING_SECONDS + MEASURING_SECONDS) / milliseconds)
        command = benchmark(args, case, optimizer, mode, "--whole", "--rounds", 1, "--steps", steps)
        trace = args.out.with_name(f"{args.out.stem}-{mode}-{case.replace(' ', '_')}")
        if shutil.which("nsys"):
            command = ["nsys", "profile", "--trace=cuda,cudnn", "--force-overwrite=true", f"--output={trace}", *command]
        idle = samples_of(subprocess.run(query, stdout=subprocess.PIPE, text=True).stdout)
        ours = started(command, environment)
        watch = subprocess.Popen([*query, "-lms", "100"], stdout=subprocess.PIPE, text=True)
        try:
            lines, failure = finished(ours, left)
        finally:
            watch.terminate()
        samples = samples_of(watch.communicate()[0])
        failure = failure or (None if lines else "it measured nothing: no case has this in its name")
        line = {"failed": failure} if failure else lines[-1]
        # What came before is loading and trying out, not training.
        began, ended = line.get("began") or 0, line.get("ended") or 0
        steady = sorted(row[1] for row in samples if began + SETTLING_SECONDS <= row[0] <= ended)
        figures.append({
            **figure, "ours_ms": line.get("ours"), "host_ms": line.get("host_ms"), "steps": steps,
            "failed": line.get("failed"), "samples": len(steady),
            "gpu_busy_percent_median": steady[len(steady) // 2] if steady else None,
            "tensors_mib_peak": line.get("peak_mib", [None])[0],
            "memory_mib_peak": max((row[2] for row in samples), default=0) - idle[0][2] if samples and idle else None,
            "power_w_peak": max((row[3] for row in samples), default=None),
        })
        keep(figures)


def samples_of(text):
    """The rows of numbers that nvidia-smi printed, the first of them a time in seconds since 1970."""
    rows = []
    for line in text.splitlines():
        try:
            moment, *values = line.split(",")
            moment = datetime.datetime.strptime(moment.strip(), "%Y/%m/%d %H:%M:%S.%f").timestamp()
            rows.append([moment, *map(float, values)])
        except ValueError:  # "[N/A]", or a line cut short
            continue
    return [row for row in rows if len(row) == 4]


def cifar10(args, environment, keep):
    """The preset cifar10 for as long as the time allows; then its clusters on the test images, head by head."""
    if args.cifar10 is None:
        keep({"not_run": "no folder was given with --cifar10"})
        return
    program, run = HERE / "selfcls-cli", args.out.with_name(args.out.stem + "-cifar10")
    train = [program, "train", "--preset", "cifar10", "--data", args.cifar10 / "train", "--out", run,
             "--backend", backend(args), *args.set]
    began = time.monotonic()
    process = subprocess.Popen(list(map(str, train)), env=environment, stdout=subprocess.DEVNULL)
    try:
        process.wait(timeout=60 * args.minutes)
    except subprocess.TimeoutExpired:
        process.terminate()  # It writes a checkpoint first.
        process.wait(timeout=120)
    seconds = time.monotonic() - began
    lines = [line for line in objects_of((run / "metrics.jsonl").read_text()) if line.get("kind") != "step"]
    done = subprocess.run(
        list(map(str, [program, "eval", "clusters", run, "--data", args.cifar10 / "test", "--head", "all", "--json",
                       "--backend", backend(args)])),
        env=environment, stdout=subprocess.PIPE, text=True)
    clusters = json.loads(done.stdout) if done.returncode == 0 else {"failed": f"exit code {done.returncode}"}
    keep({"command": " ".join(map(str, train[1:])), "seconds": round(seconds, 1), "epochs": lines, "clusters": clusters})


if __name__ == "__main__":
    main()
