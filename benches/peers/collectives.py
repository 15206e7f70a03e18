"""Collective operations of torch.distributed; called by benches/collectives.rs, once for each rank.

Rank 0 prints an object of milliseconds by case.
"""

import argparse
import json
import os
import statistics
import time

import torch
import torch.distributed as dist


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    parser.add_argument("--case", action="append", required=True)
    for name in ("--threads", "--repeats", "--warmup"):
        parser.add_argument(name, type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cpu")
    if torch.cuda.is_available() and not args.cpu:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def synchronise():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    found = {}
    for case in args.case:
        operation, size = case.split(":")
        values = torch.ones(int(size) // 4, device=device)
        times = []
        for number in range(args.warmup + max(args.repeats, 1)):
            dist.barrier()
            synchronise()
            start = time.perf_counter()
            if operation == "all_reduce":
                # Ours leaves what it was given as it is.
                dist.all_reduce(values.clone(), dist.ReduceOp.MAX)
            else:
                # Into one tensor, as ours: a list of the parts would have to be copied together.
                gathered = torch.empty(dist.get_world_size() * len(values), device=device)
                dist.all_gather_into_tensor(gathered, values)
            synchronise()
            if number >= args.warmup:
                times.append((time.perf_counter() - start) * 1e3)
        found[case] = statistics.median(times)
    if dist.get_rank() == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
