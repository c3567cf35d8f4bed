#!/usr/bin/env python3
"""Times a program of this library and its peers in alternation, and checks that they agree first.

    bench/compare.py --name dmm_step --ours "build/release/bench/bench_step --case FILE --serve" \
        --peer "python bench/peers/dmm.py --variant rows --serve" [--peer ...] \
        [--peak "build/release/bench/bench_peak --threads N"] [--out FILE.json]

Every program speaks the protocol of bench/peers/README.md. First all losses at the case's
parameters and noise must agree to 1e-5 (norms of gradients or moments to 1e-4), relative to the
first peer's.
Then, `--rounds` times, each program in turn does one untimed step (the others have emptied the
caches) and one timed step; a peer whose best of two rounds is over three times the fastest peer's
rests from then on. At the end this library's program is asked what a new batch shape costs
it. --peak names a program that measures, before all that, what this machine can do at most; its line
is stored beside the times. Exit status 1: they disagree or a program failed; 2: bad usage."""

import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import threading
import time

LOSS_BOUND, NORM_BOUND = 1e-5, 1e-4
TRIES, HOPELESS = 2, 3  # after as many rounds a peer that takes so many times the fastest's rests
ANSWER_SECONDS = 600  # JAX compiles before it answers


class Failed(Exception):
    pass


class Program:
    """A running program that answers commands line by line."""

    def __init__(self, role, command):
        self.role, self.command, self.seconds = role, command, []
        try:
            self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise Failed(f"{command}: {error}") from error
        self.about = self.read()

    def read(self):
        """The next line that is a JSON object; a program that is silent too long is killed."""
        watchdog = threading.Timer(ANSWER_SECONDS, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                if line.startswith("{"):
                    answer = json.loads(line)
                    if "error" in answer:
                        raise Failed(f"{self.command}: {answer['error']}")
                    return answer
        finally:
            watchdog.cancel()
        raise Failed(f"{self.command}: no answer within {ANSWER_SECONDS} s, or it ended")

    def ask(self, command):
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Failed(f"{self.command}: it ended") from error
        return self.read()

    def close(self):
        try:
            self.process.communicate("quit\n", timeout=10)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self.process.kill()

    def result(self):
        program, *rest = shlex.split(self.command)
        return {"role": self.role, "command": shlex.join([os.path.basename(program), *rest]),
                "about": self.about, "agreement": self.agreement,
                "min_ms": round(1e3 * min(self.seconds), 3),
                "median_ms": round(1e3 * statistics.median(self.seconds), 3),
                "milliseconds": [round(1e3 * second, 3) for second in self.seconds]}


def check_agreement(programs):
    """Losses against the first peer's; a program without a comparable loss answers null."""
    reference = None
    for program in sorted(programs, key=lambda p: p.role == "ours"):
        found = program.agreement = program.ask("loss")
        if found["loss"] is None:
            continue
        reference = reference or found
        for key, bound in (("loss", LOSS_BOUND), ("gradient_norm", NORM_BOUND),
                           ("moments_norm", NORM_BOUND)):
            if key in found and key in reference:
                error = abs(found[key] - reference[key]) / abs(reference[key])
                if not error <= bound:
                    raise Failed(f"{program.command}: {key} {found[key]!r}, the first peer's is "
                                 f"{reference[key]!r}: differs by more than {bound}, relative")


def hopeless(program, programs):
    """A peer that will not be the fastest one: its further rounds would only take time."""
    if program.role == "ours" or len(program.seconds) < TRIES:
        return False
    return min(program.seconds) > HOPELESS * min(min(p.seconds) for p in programs if p.role == "peer")


def peak(command):
    """The line of a program that measures this machine."""
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True,
                              timeout=ANSWER_SECONDS)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise Failed(f"{command}: {error}") from error


def machine():
    wanted = {"vendor_id", "model name", "cpu family", "model", "cache size"}
    with open("/proc/cpuinfo") as file:
        fields = dict(map(str.strip, line.split(":", 1)) for line in file if ":" in line)
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1])
    return {key: fields[key] for key in sorted(wanted & fields.keys())} | {
        "cores": len(os.sched_getaffinity(0)), "memory_GiB": round(memory / 2**20, 1),
        "avx512": "avx512f" in fields.get("flags", "").split()}


def commit():
    """The commit measured, with a + where the tree has changes beside results."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False,
                              cwd=pathlib.Path(__file__).resolve().parents[1]).stdout.strip()
    changed = git("status", "--porcelain", "--", ".", ":!bench/results")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def line(program):
    about = program["about"]
    return f"{about['program']} {about.get('variant', '')}".strip() + \
        f": {program['min_ms']:.1f} ({program['median_ms']:.1f}) ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True)
    parser.add_argument("--ours", help="command; without it the peers alone are timed")
    parser.add_argument("--peer", action="append", required=True, help="command; may be repeated")
    parser.add_argument("--peak", help="command that prints the machine's peaks")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", help="JSON file to write")
    chosen = parser.parse_args()

    programs = []
    try:
        peaks = peak(chosen.peak) if chosen.peak else None
        for role, command in ([("ours", chosen.ours)] if chosen.ours else []) + [
                ("peer", command) for command in chosen.peer]:
            programs.append(Program(role, command))
        check_agreement(programs)
        for _ in range(chosen.rounds):
            taking_part = [program for program in programs if not hopeless(program, programs)]
            for program in taking_part:
                program.ask("run")
                program.seconds.append(program.ask("run")["seconds"])
                time.sleep(0.02)  # its threads stop spinning before the next one's turn
        shapes = programs[0].ask("shapes") if chosen.ours else None
        results = [program.result() for program in programs]
    except Failed as failure:
        print(f"compare: {failure}", file=sys.stderr)
        sys.exit(1)
    finally:
        for program in programs:
            program.close()

    least = {role: min((r["min_ms"] for r in results if r["role"] == role), default=None)
             for role in ("ours", "peer")}
    report = {"name": chosen.name, "commit": commit(), "machine": machine(),
              "rounds": chosen.rounds, "load1": round(os.getloadavg()[0], 2),
              "ratio": round(least["peer"] / least["ours"], 3) if chosen.ours else None,
              "peak": peaks, "new_shape": shapes or None, "programs": results}
    text = json.dumps(report, indent=1)
    if chosen.out:
        path = pathlib.Path(chosen.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        print(f"{chosen.name}: " + "; ".join(map(line, results)) + f"; ratio {report['ratio']}")
    else:
        print(text)


if __name__ == "__main__":
    main()
