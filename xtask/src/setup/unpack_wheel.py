"""Unpacks chosen files of a wheel: python -c ... WHEEL TARGET FROM>TO..."""

import os
import shutil
import sys
import zipfile

wheel, target, *rules = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for rule in rules:
        start, _, replacement = rule.partition(">")
        chosen = [
            entry
            for entry in archive.infolist()
            if entry.filename.startswith(start) and not entry.is_dir()
        ]
        if not chosen:
            sys.exit(f"{os.path.basename(wheel)} holds no {start}")
        for entry in chosen:
            name = replacement + entry.filename[len(start) :]
            if ".." in name.split("/"):
                sys.exit(f"{os.path.basename(wheel)} holds a file with the name {entry.filename}")
            path = os.path.join(target, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(entry) as source, open(path, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
