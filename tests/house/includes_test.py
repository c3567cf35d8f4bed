"""Which room may include which: the arrows of the house, and what stands above the kernels.

Usage: includes_test.py SOURCE_FOLDER. Prints each line that breaks a rule; exit status 1 then.
"""
import pathlib
import re
import sys

# Room: the rooms that it may include, besides itself. `core` and `io` stand under all of them.
PUBLIC = {
    "core": [],
    "io": ["core"],
    "kernels": ["core"],
    "data": ["core", "io", "kernels"],
    "graph": ["core", "io", "kernels"],
    "nn": ["core", "io", "kernels", "graph"],
    "models": ["core", "io", "kernels", "graph", "nn", "data"],
    "analysis": ["core", "io", "kernels", "graph", "nn", "data", "models"],
    "inference": ["core", "io", "kernels", "graph", "nn", "data", "models"],
    "train": ["core", "io", "kernels", "graph", "nn", "data", "models", "inference"],
}
# host/ROOM implements include/seqvae/ROOM. host/cpu implements the contracts; nothing but itself
# sees its headers. host/app stands above everything.
HOST = dict(PUBLIC, cpu=["core", "kernels"], app=list(PUBLIC))
# A contract's workspace is measured by host/kernels and laid out by its twin in host/cpu.
SHARED = [("cpu", "kernels")]
# Model names that only models and what stands above it may know.
MODELS = ["lgssm", "rvae", "storn", "vrnn", "srnn", "dkf", "dmm", "kvae", "rssm"]

INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]')
CUDA_HEADER = re.compile(r"^(cuda|cublas|curand|cub/|cooperative_groups|mma\.h|kernels/)")
CUDA_BRANCH = re.compile(r"\bif\s*(constexpr\s*)?\(.*\b(is_)?cuda\b|#\s*if.*\b(__CUDACC__|SEQVAE_CUDA\b)")


def room_of(path):
    """('public' or 'host', room) of a path in the tree, or of an include."""
    parts = pathlib.PurePosixPath(path).parts
    if parts[:2] == ("include", "seqvae"):
        return "public", parts[2]
    if parts[0] == "seqvae":
        return "public", parts[1]
    if parts[0] == "host":
        return "host", parts[1]
    return None, None


def broken_rules(path, text):
    kind, room = room_of(path)
    table = PUBLIC if kind == "public" else HOST
    if room not in table:
        yield 0, f"{room} is no room of the house"
        return
    allowed = set(table[room]) | {room}
    below_models = room in ("core", "io", "kernels", "data", "graph", "nn", "cpu")
    contracts_and_below = room in ("core", "kernels", "cpu")
    for number, line in enumerate(text.splitlines(), 1):
        found = INCLUDE.match(line)
        if found:
            target_kind, target = room_of(found.group(1))
            if target_kind == "public" and target not in allowed:
                yield number, f"{room} may not include {target}"
            if target_kind == "host":
                if kind == "public":
                    yield number, "a public header may not include host/"
                elif target != room and (room, target) not in SHARED:
                    yield number, f"host/{target} is private: host/{room} may not include it"
            if CUDA_HEADER.match(found.group(1)) and (kind == "public" or not contracts_and_below):
                yield number, "a CUDA header above kernels/"
            continue
        code = line.split("//")[0]
        if not contracts_and_below and room != "app" and CUDA_BRANCH.search(code):
            yield number, "a branch on CUDA above kernels/"
        if below_models:
            for model in MODELS:
                if re.search(rf"\b{model}\b", code, re.IGNORECASE):
                    yield number, f"{room} knows the model {model}"


def check_itself():
    """The rules see what they should: each line breaks one."""
    for path, line in [
        ("include/seqvae/graph/graph.hpp", '#include "seqvae/models/model.hpp"'),
        ("include/seqvae/core/error.hpp", '#include "seqvae/io/file.hpp"'),
        ("include/seqvae/kernels/dense.hpp", "#include <cuda_runtime.h>"),
        ("include/seqvae/kernels/dense.hpp", '#include "host/cpu/product.hpp"'),
        ("host/graph/executor.cpp", '#include "host/cpu/product.hpp"'),
        ("host/train/trainer.cpp", "  if (device.is_cuda() || cuda) {"),
        ("host/nn/layers.cpp", "void vrnn();"),
        ("host/attic/old.cpp", ""),
    ]:
        if not list(broken_rules(path, line)):
            raise SystemExit(f"the rules do not see {line!r} in {path}")


def main():
    check_itself()
    source = pathlib.Path(sys.argv[1])
    broken = 0
    for folder in ("include", "host"):
        for file in sorted((source / folder).rglob("*")):
            if file.suffix not in (".hpp", ".cpp", ".h"):
                continue
            path = file.relative_to(source).as_posix()
            for number, rule in broken_rules(path, file.read_text()):
                print(f"{path}:{number}: {rule}")
                broken += 1
    sys.exit(1 if broken else 0)


main()
