"""Breaks the kernels on purpose, one place at a time, and wants their tests on the emulator to notice.

A fault is a rule applied to one place of a file below kernels/: a barrier or a wait left out, a bound
off by one, an index swapped, an accumulation overwritten, a length ignored, and others (RULES). Places
are drawn at random from all that the rules match. The broken file is compiled beside the tree, whose
own files are never touched, and linked into a copy of the test program, which runs the tests of the
file's family (FAMILIES): first as they are, where they have to pass, then with the fault, which they
have to notice, by a failure or by thrice the processor's time that they take without. A fault that
does not compile, or that changes no result (UNNOTICEABLE), is replaced by another draw.

Each result is a line of the state file; a run that was cut short goes on from there.

Usage: mutate.py --build BUILD_FOLDER [--count N] [--seed N] [--rule TEXT] [--below PREFIX]
                 [--state FILE] [--list]
       --count: faults to plant; without it all
       --rule: only rules whose name contains the text
       --below: only places in files whose path in kernels/ begins so
       --state: BUILD_FOLDER/faults.jsonl, if not given
       --list: the places, and plants nothing
Exit status 1 where a fault was not noticed.
"""

import argparse
import collections
import functools
import hashlib
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What it is called, what is looked for, what stands there instead.
RULES = [
    ("a barrier left out", r"\b(__sync(threads|warp)|cluster_barrier|lanes_?\.sync)\(\);", ";"),
    ("a wait left out", r"\b(mbarrier_wait|cp_async_wait<[^;<>]*>|exchange\.(wait|end))\([^;]*\);",
     ";"),
    ("a wait too short", r"\bcp_async_wait<", "cp_async_wait<1 + "),
    ("a send left out", r"\b(st_async|(exchange|scatter)\.send|cp_async4|cp_async_commit)\([^;]*\);",
     ";"),
    ("an arrival left out", r"\bmbarrier_arm\([^;]*\);", ";"),
    ("the other phase", r">> 1\) & 1", ">> 1) & 1 ^ 1"),
    ("one buffer for two", r"\b[ij] & 1\b", "0"),
    ("a bound moved out", r" < ", " <= "),
    ("a bound moved out", r" > ", " >= "),
    ("a bound moved in", r" <= ", " < "),
    ("a bound moved in", r" >= ", " > "),
    ("a bound moved in", r" < ", " + 1 < "),
    ("an index swapped", r"\[(?!\d+\]\[\d)([^][&]+)\]\[([^][]+)\]", r"[\2][\1]"),
    ("a component swapped", r"(?<!Idx)(?<!Dim)(?<!\ba)\.x\b", ".y"),
    ("a component swapped", r"(?<!\ba)\.y\b", ".x"),
    # Not the step of a loop.
    ("an accumulation overwritten", r" \+= (?![^;\n]*\) [{\w])", " = "),
    ("an accumulation overwritten", r"= fmaf\(([^,]*), ([^,]*), sums[^;]*\);", r"= \1 * \2;"),
    ("a length ignored", r"\blength_of\(a\.layout, [\w.]+\)", "static_cast<int>(a.layout.T)"),
    ("a length ignored", r"\blength_of\((a\.data\.layout|layout), b_?\)", r"\1.T"),
    ("a length ignored", r"\blayout\.lengths ([!=]= nullptr)", r"nullptr \1"),
    ("a length ignored", r"\blayout\.lengths\[[^]]*\]", "layout.T"),
    ("a length ignored", r"\blasts_to\(layout, [^()]*\)", "true"),
    ("padding taken for valid", r"if \(place\.valid\)", "if (true)"),
    ("a guard dropped", r"if \([^;{}]*\) (return|continue|break);", r"if (false) \1;"),
    ("a condition dropped", r" && ", " || "),
    ("an optional piece taken for given", r"if \(a\.\w+\) ", ""),
    ("the alignment not asked", r"\w+ % (4|alignof\(float4\)) == 0", "true"),
    ("a sum among lanes left out", r"\bgroup_sum\(([\w.]+), [\w.]+\)", r"\1"),
    ("half of the lanes left out", r"\blanes / 2", "lanes / 4"),
    ("a constant halved", r"\b0\.5f\b", "0.25f"),
    ("a sign changed", r"(?<=[\w)\]]) - (?=[\w(])", " + "),
    ("a sum made a difference", r"(?<=[\w)\]]) \+ (?=[\w(])", " - "),
]

# The host's side, single instructions that the emulator replaces, and what the host library shares.
NOT_KERNELS = {"runtime.cu", "runtime.hpp", "launch.cuh", "cluster.cuh", "mma.cuh", "blocks.hpp",
               "chunks.hpp", "extent.hpp", "gru_memory.hpp", "lstm_memory.hpp", "slices.hpp",
               "memory.hpp", "gradient_sums.hpp", "weight_gradients.hpp", "products.hpp"}

# The tests of a file: those of the first key that its path below kernels/ begins with.
ROWS = "*CudaRowContract*:*CudaDraw*"
BUT = "-*IsNearDouble*/0:*IsNearDouble*/3"  # the longest; 2 and 6 have two clusters, 5 runs backward
FAMILIES = {
    "categorical/": ROWS,
    "chain/": "*CudaChain*-*cluster16:*H33*",  # the longest
    "common/": ROWS + ":*Gaussian*:*Move*:*CudaSum*:*LogMeanExp*:*AdamW*:*CudaDense*:"
                      "*CudaProducts*:*CudaMatrix*",
    "dense/weight_gradients": "*WeightGradients*",
    "dense/tile.cuh": "*WeightGradients*:*CudaProducts*",
    "dense/": "*CudaDense*:*CudaProducts*:*WeightGradients*",
    "elementwise/matrix_product": "*CudaMatrixProduct*",
    "elementwise/": ROWS,
    "gaussian/": "*Gaussian*:*CudaRowContract*",
    "kalman/": "*CudaKalman*",
    "likelihood/": ROWS + ":*Poisson*",
    "movement/": "*Move*:*Particles*",
    "optimizer/": "*AdamW*",
    "recurrence/cells": "*CudaRowContract*cell*",
    "recurrence/gru": "*CudaGru*" + BUT,
    "recurrence/lstm": "*CudaLstm*" + BUT,
    "recurrence/": "*CudaGru*:*CudaLstmGradients*:*CudaLstmRows*:*CudaLstm*/5:*CudaLstm*/7" + BUT,
    "reduce/log_mean_exp": "*LogMeanExp*",
    "reduce/": "*CudaSumOverTime*:*CudaSumOverRows*",
}

# Faults that change no result: the rule, why, and the pieces of source around the place.
UNNOTICEABLE = [
    ("a bound moved out", "both sides are the same at the bound",
     ["x < 0.0f ? u", "x < 0.0f ? 0.0f : x", "l < 0.0f ? 0.0f : l", "below = x < 0.0f",
      "x > 0.0f ? x", "y > 0.0f ? 1.0f : 1.0f + y", "x < -20.0f ?", "a < b || isnan(b)",
      "value < other || isnan", "length < other", "other > chosen", "raw < -kLargestLogvar",
      "raw > kLargestLogvar", "v < a.low    ?", "v > a.high ? a.high", "length < 0 ? 0",
      "length < T ?", "length < a.rows ?", "lengths[b] < T)"]),
    ("a bound moved out", "a float is never a sum of such doubles to the bit", ["u > cumulative"]),
    ("a bound moved in", "the last quad goes by its elements then",
     ["i + 4 <= count", "i + 4 <= a.count"]),
    ("a bound moved in", "powers of two below eight are below seven",
     ["apart < 8; apart *= 2", "cluster < 8 && 2 *"]),
    ("a bound moved in", "no test has memory for 2^32 elements", ["rows >= kMost /"]),
    ("a barrier left out", "a __syncthreads stands between two sends, too",
     ["__syncwarp();  // after what was sent before"]),
    ("a barrier left out", "the shuffles and the __syncthreads that follow bring the lanes together",
     ["((i - 1) >> 1) & 1);\n    __syncwarp();"]),
    ("a barrier left out", "a block ends with its last thread, and its finishing warps have waited",
     ["__syncthreads();  // all that was sent here is in"]),
    ("a sum made a difference", "of a step only its parity counts there",
     ["exchange.send(j + 1", "scatter.send(i + 1"]),
    ("a sum made a difference", "a cluster's CTAs in another order are the same CTAs",
     ["(rank_ + static_cast<unsigned>(lane() / 8 + i)) % kCluster"]),
    ("a bound moved out", "a pivot of zero is zero either way, and none lies on another bound",
     ["pivot > noise ? pivot"]),
    ("a bound moved out", "the one CTA of a cluster has rank 0", ["blocks > 1 ? static_cast<int>(cl"]),
    ("a guard dropped", "what goes back from the first step is read by nobody",
     ["if (t == 0) return;\n    for (int j = kept_.gains.count"]),
    ("a bound moved out", "room for more rows than there are changes no result",
     ["x.rows > 4", "x.rows > 2"]),
    ("a barrier left out", "a row is filled by the lanes that wrote it, or that have met since",
     ["lanes_.sync();  // rows of a step that broke"]),
    ("a bound moved out", "of one row an addend and a bias are the same", ["stride == 0 && M > 1"]),
    ("a bound moved in", "the map of a chunk without steps is the identity",
     ["chunk.number == 0 || chunk.begin >= chunk.end"]),
    ("a bound moved in", "of so few rows either kernel may sum", ["a.rows <= kFewRows"]),
    ("a bound moved in", "how a chain is divided changes no result", ["cycles < least"]),
    ("a sign changed", "how a chain is divided changes no result", ["(a.rows + group - 1) / group"]),
    ("a sum made a difference", "how a chain is divided changes no result",
     ["(N + 3) / 4 >= ctas"]),
    ("a bound moved in", "how many gradients go in one launch changes no result",
     ["gradients.count < Gradients::kMost"]),
    ("a bound moved out", "no sequence has a step there, so that nothing is done",
     ["for (int j = 0; j < a.layout.T; ++j) {\n    dense(product, stream);"]),
]


class Fault:
    def __init__(self, path, rule, start, end, text):
        self.path, self.rule = path, rule
        source = path.read_text()
        self.source = source[:start] + text + source[end:]
        line, column = source.count("\n", 0, start) + 1, start - source.rfind("\n", 0, start)
        change = " ".join(f"{source[start:end].strip()} -> {text.strip()}".split())
        self.name = f"{path.relative_to(ROOT)}:{line}:{column}: {rule}: {change}"
        self.below = path.relative_to(ROOT / "kernels").as_posix()
        self.tests = next(tests for key, tests in FAMILIES.items() if self.below.startswith(key))
        # Why nothing can notice it, or None: a piece that the place lies in says so.
        self.excuse = next((why for of, why, pieces in UNNOTICEABLE if of == rule for piece in pieces
                            if end <= source.rfind(piece, 0, start + len(piece)) + len(piece)), None)

    def __str__(self):
        return self.name


def code_only(source):
    """The source with comments, preprocessor lines, template heads and assertions blanked, and
    declarations of arrays, at the same offsets."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    source = re.sub(r"//[^\n]*|^#[^\n]*", blank, source, flags=re.M)
    source = re.sub(r"template <[^\n]*|static_assert[^;]*;", blank, source)
    arrays = r"\b(float|double|int|unsigned|uint4)\b[ (&]+\w+\)?(\[[^][]+\])+"
    return re.sub(arrays, blank, source)


def all_faults(text):
    for path in sorted((ROOT / "kernels").glob("*/*")):
        if path.name in NOT_KERNELS:
            continue
        source = code_only(path.read_text())
        for rule, pattern, replacement in RULES:
            if text not in rule:
                continue
            for match in re.finditer(pattern, source):
                instead = match.expand(replacement)
                if instead != match.group(0):
                    yield Fault(path, rule, match.start(), match.end(), instead)


@functools.cache
def included(path):
    """The files below kernels/ that a file includes, and those that they include."""
    direct = re.findall(r'^#include "(kernels/[^"]+)"', path.read_text(), flags=re.M)
    return {ROOT / name for name in direct}.union(*(included(ROOT / name) for name in direct))


class Builder:
    """The commands that build the test program, replayed with other sources."""

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        target = ["ninja", "-C", build, "seqvae_test_emulation"]
        subprocess.run(target, stdout=subprocess.DEVNULL, check=True)
        commands = subprocess.run(target[:3] + ["-t", "commands"] + target[3:], capture_output=True,
                                  text=True, check=True).stdout.splitlines()
        self.compile = {}
        for command in commands:
            match = re.search(r" -o (\S+\.cu\.o) -c (\S+/kernels/\S+)", command)
            if match:
                self.compile[pathlib.Path(match.group(2))] = (match.group(1), command)
        assert self.compile, "no kernel is compiled for seqvae_test_emulation"
        self.link = next(c for c in commands if re.search(r" -o \S*seqvae_test_emulation(?=\s)", c))
        self.program = build / re.search(r" -o (\S*seqvae_test_emulation)\s", self.link).group(1)

    def run(self, command):
        return subprocess.run(command, shell=True, cwd=self.build, capture_output=True, text=True,
                              env=dict(os.environ, CCACHE_DISABLE="1"))

    def program_with(self, fault):
        """Path of the program, or None where the broken source does not compile."""
        shadow = self.folder / fault.path.relative_to(ROOT)
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.write_text(fault.source)
        link = self.link
        try:
            for source, (product, command) in self.compile.items():
                if fault.path != source and fault.path not in included(source):
                    continue
                own = self.folder / product.replace("/", "_")
                # The folder of the broken file is searched before the tree.
                command = command.replace(f" -I{ROOT} ", f" -I{self.folder} -I{ROOT} ", 1)
                command = re.sub(r"-MD -MT \S+ -MF \S+ ", "", command).replace(" -Werror ", " ")
                command = command.replace(f"-o {product}", f"-o {own}")
                if source == fault.path:
                    command = command.replace(f"-c {source}", f"-c {shadow}")
                if self.run(command).returncode != 0:
                    return None
                link = link.replace(product, str(own))
            assert link != self.link, f"no kernel includes {fault.path}"
            program = self.folder / "broken"
            done = self.run(re.sub(r" -o \S*seqvae_test_emulation(?=\s)", f" -o {program}", link))
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)
            return program
        finally:
            shadow.unlink()


def failure_of(program, tests, limit=None):
    """The first test that fails, or None; how many seconds of a processor they took."""
    def limit_itself():
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))

    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [program, f"--gtest_filter={tests}", "--gtest_brief=1", "--gtest_fail_fast"]
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT,
                                preexec_fn=limit_itself).returncode
        output.seek(0)
        text = output.read()
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    if status == 0 and not re.search(r"^\[=+\] [1-9]\d* tests? from", text, flags=re.M):
        sys.exit(f"no test is called {tests}")
    failed = re.search(r"^\[  FAILED  \] ([^\s,]+)", text, flags=re.M)
    if status == 0 or failed:
        return failed and failed[1], seconds
    return "time" if status == -signal.SIGXCPU else f"exit status {status}", seconds


class State:
    """What a run knows, as lines of a file: what it is of, seconds of tests, results of faults."""

    def __init__(self, path, of):
        self.path, self.seconds, self.results = path, {}, {}
        lines = path.read_text().split("\n")[:-1] if path.exists() else []  # the last was cut short
        path.write_text("".join(line + "\n" for line in lines))
        if not lines:
            self.add(of)
        elif json.loads(lines[0]) != of:
            sys.exit(f"{path} is of another seed, rule or tree: remove it, or name another by --state")
        for line in map(json.loads, lines[1:]):
            self.take(line)

    def add(self, line):
        self.take(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def take(self, line):
        if "tests" in line:
            self.seconds[line["tests"]] = line["seconds"]
        elif "fault" in line:
            self.results[line["fault"]] = line


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rule", default="")
    parser.add_argument("--below", default="")
    parser.add_argument("--state", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    faults = [f for f in all_faults(args.rule) if f.below.startswith(args.below)]
    if args.list:
        print(*faults, sep="\n")
        return
    # By the seed and their names, so that a change to one kernel leaves the others' order.
    faults.sort(key=lambda fault: hashlib.sha256(f"{args.seed} {fault}".encode()).digest())
    count = len(faults) if args.count is None else args.count
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder goes

    outcomes = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(args.build.resolve(), pathlib.Path(folder))
        tree = hashlib.sha256(builder.program.read_bytes())
        for fault in faults:
            tree.update(f"{fault}\n".encode())
        state = State(args.state or args.build / "faults.jsonl",
                      {"seed": args.seed, "rule": args.rule, "below": args.below,
                       "tree": tree.hexdigest()})

        def seconds_of(tests):
            """Of the tests as they are, which have to pass."""
            if tests not in state.seconds:
                failed, seconds = failure_of(builder.program, tests)
                if failed:
                    sys.exit(f"{failed} fails without a fault")
                state.add({"tests": tests, "seconds": round(seconds, 1)})
            return state.seconds[tests]

        def result_of(fault):
            result = {"fault": str(fault)}
            if fault.excuse:
                return dict(result, outcome="unnoticeable", by=fault.excuse)
            program = builder.program_with(fault)
            if program is None:
                return dict(result, outcome="not compiled")
            failed, seconds = failure_of(program, fault.tests, 10 + 3 * int(seconds_of(fault.tests)))
            return dict(result, outcome="noticed" if failed else "SURVIVED", by=failed,
                        seconds=round(seconds, 1))

        for tests in sorted({fault.tests for fault in faults[:count]}):
            seconds_of(tests)
        for fault in faults:
            if outcomes["noticed"] + outcomes["SURVIVED"] == count:
                break
            if str(fault) not in state.results:
                state.add(result_of(fault))
            result = state.results[str(fault)]
            outcomes[result["outcome"]] += 1
            print(f"{result['outcome']:12} {fault}  [{result.get('by') or ''}]", flush=True)
    planted = outcomes["noticed"] + outcomes["SURVIVED"]
    print(f"{planted} planted, {outcomes['noticed']} noticed, {outcomes['SURVIVED']} survived; "
          f"replaced: {outcomes['not compiled']} not compiled, "
          f"{outcomes['unnoticeable']} that change no result")
    sys.exit(1 if outcomes["SURVIVED"] else 0)


if __name__ == "__main__":
    main()
