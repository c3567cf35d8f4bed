"""Breaks the kernels on purpose, one place at a time, and wants the tests on the emulator to notice.

Each mutation is a rule applied to one place of one file below kernels/: a guard dropped, a bound moved
by one, a barrier or a sum among lanes left out, a constant or a sign changed. The mutated file is
compiled beside the tree, linked into a copy of the test program, and the tests of the kernels run.
A mutation that no test notices is a failure, unless EQUIVALENT says why it
cannot be noticed.

Usage: mutate.py --build BUILD_FOLDER [--count N] [--seed N] [--list]
       without --count: every mutation
"""

import argparse
import pathlib
import random
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What it is called, what is looked for, what stands there instead.
RULES = [
    ("a guard dropped", r"if \([^;{}]*\) return;", "if (false) return;"),
    ("a bound moved", r" < ", " <= "),
    ("a bound moved back", r" >= ", " > "),
    ("a condition dropped", r" && ", " || "),
    ("a barrier left out", r"(__sync(threads|warp)|cluster_barrier)\(\);", ""),
    ("a wait left out", r"(mbarrier_wait\([^;]*\)|cp_async_wait<[^;]*>\(\));", ";"),
    ("a sum among lanes left out", r"= group_sum\((\w+), lanes\)", r"= \1"),
    ("half of the lanes left out", r"lanes / 2", "lanes / 4"),
    ("a constant halved", r"\b0\.5f\b", "0.25f"),
    ("a sign changed", r"(?<=[\w)\]]) - (?=[\w(])", " + "),
    ("a sum made a difference", r"(?<=[\w)\]]) \+ (?=[\w(])", " - "),
    ("an optional piece taken for given", r"if \(a\.\w+\) ", ""),
    ("padding taken for valid", r"if \(place\.valid\)", "if (true)"),
    ("the alignment not asked", r"\w+ % (4|alignof\(float4\)) == 0", "true"),
]

# Mutations that change no result: (a piece of the line, the rule), with the reason.
EQUIVALENT = {
    ("x < 0.0f ? u", "a bound moved"): "exp(-0) is 1: both sides are the same at 0",
    ("!(x < 0.0f)", "a bound moved"): "both branches are log(log 2) at 0",
    ("x < -20.0f ?", "a bound moved"): "both branches agree to rounding at -20",
    ("raw < -kLargestLogvar", "a bound moved"): "the bound itself either way",
}


class Mutation:
    def __init__(self, path, what, start, end, text):
        self.path, self.what, self.start, self.end, self.text = path, what, start, end, text
        source = path.read_text()
        self.line = source.count("\n", 0, start) + 1
        self.before = source.splitlines()[self.line - 1].strip()
        self.source = source[:start] + text + source[end:]

    def __str__(self):
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.what}: {self.before}"


def code_only(source):
    """The source with comments and #include lines blanked, at the same offsets."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r"//[^\n]*|^#[^\n]*", blank, source, flags=re.M)


def all_mutations():
    found = []
    for path in sorted((ROOT / "kernels").glob("*/*.cu*")):
        if path.name in ("runtime.cu", "launch.cuh", "cluster.cuh", "mma.cuh"):
            continue  # the host's side; single instructions, which the emulator replaces
        source = code_only(path.read_text())
        for what, pattern, text in RULES:
            for match in re.finditer(pattern, source):
                if source.rfind("template <", 0, match.start()) > source.rfind("\n", 0, match.start()):
                    continue
                mutation = Mutation(path, what, match.start(), match.end(), match.expand(text))
                if not any(piece in mutation.before and what == rule for piece, rule in EQUIVALENT):
                    found.append(mutation)
    return found


class Builder:
    """The commands that build the test program, replayed with other sources."""

    def __init__(self, build, folder):
        self.build, self.folder = build, folder
        commands = subprocess.run(["ninja", "-C", build, "-t", "commands", "seqvae_test_emulation"],
                                  capture_output=True, text=True, check=True).stdout.splitlines()
        self.compile = {}
        for command in commands:
            match = re.search(r" -o (\S+\.cu\.o) -c (\S+)", command)
            if match and "/kernels/" in match.group(2):
                self.compile[pathlib.Path(match.group(2))] = (match.group(1), command)
        self.link = next(c for c in commands if re.search(r" -o \S*seqvae_test_emulation(?=\s)", c))
        assert self.compile, "no kernel is compiled for seqvae_test_emulation"

    def run(self, command):
        return subprocess.run(command, shell=True, cwd=self.build, capture_output=True, text=True)

    def program_with(self, mutation):
        """Path of the program, or None where the mutated source does not compile."""
        shadow = self.folder / mutation.path.relative_to(ROOT)
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.write_text(mutation.source)
        link = self.link
        try:
            for source, (product, command) in self.compile.items():
                if mutation.path.suffix == ".cu" and source != mutation.path:
                    continue
                own = self.folder / (source.stem + ".o")
                # The mutated folder is searched before the tree's.
                command = command.replace(f" -I{ROOT} ", f" -I{self.folder} -I{ROOT} ", 1)
                command = re.sub(r"-MD -MT \S+ -MF \S+ ", "", command).replace(" -Werror ", " ")
                command = command.replace(f"-o {product}", f"-o {own}")
                if source == mutation.path:
                    command = command.replace(f"-c {source}", f"-c {shadow}")
                if self.run(command).returncode != 0:
                    return None
                link = link.replace(product, str(own))
            program = self.folder / "mutant"
            link = re.sub(r" -o \S*seqvae_test_emulation(?=\s)", f" -o {program}", link)
            done = self.run(link)
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)
            return program
        finally:
            shadow.unlink()


def noticed(program):
    try:
        done = subprocess.run([program, "--gtest_filter=-*Emulat*", "--gtest_brief=1",
                               "--gtest_fail_fast"], capture_output=True, timeout=300)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    mutations = all_mutations()
    if args.list:
        print(*mutations, sep="\n")
        return
    if args.count is not None:
        mutations = random.Random(args.seed).sample(mutations, min(args.count, len(mutations)))
    survivors = built = 0
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(args.build.resolve(), pathlib.Path(folder))
        for mutation in mutations:
            program = builder.program_with(mutation)
            if program is None:
                print(f"does not compile   {mutation}", flush=True)
                continue
            built += 1
            caught = noticed(program)
            survivors += not caught
            print(f"{'noticed ' if caught else 'SURVIVED'}           {mutation}", flush=True)
    print(f"{built} mutations, {survivors} survived")
    sys.exit(1 if survivors else 0)


main()
