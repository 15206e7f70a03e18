"""Exact nearest neighbours by brute force with torch or scikit-learn; called by benches/knn.rs."""

import argparse
import json
import os
import time


def status(key):
    """A figure of this process in MiB, as Linux accounts for it."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def torch_search(queries, references, k, threads):
    import torch

    torch.set_num_threads(threads)
    queries, references = torch.from_numpy(queries), torch.from_numpy(references).T

    def search():
        # In blocks, as the similarities of all queries would be gigabytes.
        return torch.cat([(block @ references).topk(k, dim=1).indices for block in queries.split(256)]).numpy()

    return search


def sklearn_search(queries, references, k, threads):
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    # Of unit vectors the Euclidean distance orders as the cosine does; scikit-learn is fastest at it.
    neighbours = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="euclidean").fit(references)

    def search():
        with threadpool_limits(threads):
            return neighbours.kneighbors(queries, return_distance=False)

    return search


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=["torch", "scikit-learn"], required=True)
    for name in ("--queries", "--references", "--neighbours"):
        parser.add_argument(name, required=True)
    for name in ("--dim", "--k", "--threads"):
        parser.add_argument(name, type=int, required=True)
    args = parser.parse_args()
    # Read by OpenMP when the libraries load it.
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import numpy as np

    queries, references = (np.fromfile(p, np.float32).reshape(-1, args.dim) for p in (args.queries, args.references))
    make = {"torch": torch_search, "scikit-learn": sklearn_search}[args.library]
    make(queries[:256], references, args.k, args.threads)()

    search = make(queries, references, args.k, args.threads)
    peak = None
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS:")
    except OSError:
        before = None
    start = time.perf_counter()
    found = search()
    seconds = time.perf_counter() - start
    if before is not None:
        peak = status("VmHWM:") - before
    found.astype(np.uint32).tofile(args.neighbours)
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


main()
