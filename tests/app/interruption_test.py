"""Training that is cut short: killed, asked to end, or refused by the disk. A small model of each kind
is trained once without interruption; whatever happens to the same training otherwise, --resume ends
in the same bytes, and a failure is one line that names the file.

Usage: interruption_test.py --program SEQVAE [unittest arguments]
"""

import argparse
import json
import os
import pathlib
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = None
FILES = ["best.safetensors", "config.json", "last.safetensors", "metrics.jsonl"]


def is_whole(checkpoint):
    """Whether the header of a safetensors file describes exactly the bytes that follow it."""
    data = checkpoint.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return 8 + size + max(ends) == len(data)


def metrics_of(run):
    """The lines of metrics without the one key that hangs on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


def inode_of(path):
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


class Interruption:
    """What any training withstands. A class of one kind says what is trained."""

    MODEL, SETTINGS = "", []

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = pathlib.Path(cls.folder.name)
        cls.data = cls.root / "data.npz"
        make = ["data", "make", "tracking", "--out", cls.data, "--quiet", "--steps", "20"]
        subprocess.run([PROGRAM, *make, "--train", "16", "--valid", "4", "--test", "4"], check=True)
        cls.truth = cls.root / "truth"
        started = time.monotonic()
        subprocess.run(cls.training(cls.truth), check=True)
        cls.seconds = time.monotonic() - started

    @classmethod
    def training(cls, run, *more):
        words = [PROGRAM, "train", "--model", cls.MODEL, "--data", cls.data, "--out", run, "--quiet"]
        words += ["--standardize", "--device", "cpu", "--threads", "1"]
        for setting in cls.SETTINGS:
            words += ["--set", setting]
        return words + list(more)

    def start(self, run, *more, **options):
        return subprocess.Popen(self.training(run, *more), text=True, stderr=subprocess.PIPE,
                                **options)

    def wait_for_checkpoints(self, child, run, count):
        """Returns once `count` checkpoints more have taken their place."""
        last = run / "last.safetensors"
        seen = inode_of(last)
        while count > 0:
            self.assertIsNone(child.poll(), "training ended before it was interrupted")
            now = inode_of(last)
            if now != seen:
                seen, count = now, count - 1
            time.sleep(0.0005)

    def kill(self, child):
        child.kill()
        child.communicate()
        self.assertEqual(child.returncode, -signal.SIGKILL)

    def expect_truth(self, run):
        self.assertEqual(sorted(os.listdir(run)), FILES)
        for name in ("last.safetensors", "best.safetensors", "config.json"):
            self.assertTrue((run / name).read_bytes() == (self.truth / name).read_bytes(), name)
        self.assertEqual(metrics_of(run), metrics_of(self.truth))

    def resume_to_truth(self, run):
        child = self.start(run, "--resume")
        _, err = child.communicate()
        self.assertEqual((child.returncode, err), (0, ""))
        self.expect_truth(run)

    def expect_failure(self, child, status, *texts):
        _, err = child.communicate()
        self.assertEqual(child.returncode, status, err)
        self.assertEqual(err.count("\n"), 1, err)
        self.assertTrue(err.startswith("seqvae: "), err)
        for text in texts:
            self.assertIn(str(text), err)

    def test_killed_at_random_moments(self):
        chance = random.Random(20)
        run = self.root / "killed"
        for i in range(4):
            child = self.start(run, *(["--resume"] if i > 0 else []))
            self.wait_for_checkpoints(child, run, 2)
            time.sleep(chance.random() * self.seconds / 20)
            self.kill(child)
            self.assertTrue(is_whole(run / "last.safetensors"))
            self.assertTrue(is_whole(run / "best.safetensors"))
        self.resume_to_truth(run)

    def test_killed_before_the_first_checkpoint(self):
        run = self.root / "early"
        child = self.start(run)
        while not (run / "config.json").exists():
            self.assertIsNone(child.poll())
        self.kill(child)
        self.resume_to_truth(run)

    def test_killed_inside_the_write_of_a_checkpoint(self):
        run = self.root / "inside"
        asides = []
        for i in range(20):  # the rename may win the race against the kill
            child = self.start(run, *(["--resume"] if i > 0 else []))
            self.wait_for_checkpoints(child, run, 1)
            while not any(name.startswith(".last.safetensors.") for name in os.listdir(run)):
                self.assertIsNone(child.poll(), "training ended before it was interrupted")
            self.kill(child)
            asides = [name for name in os.listdir(run) if name.startswith(".last.safetensors.")]
            if asides:
                break
        self.assertEqual(len(asides), 1, "no kill came inside a write")
        self.assertTrue(is_whole(run / "last.safetensors"))
        self.resume_to_truth(run)

    def test_signals_end_with_a_checkpoint(self):
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with self.subTest(number.name):
                run = self.root / number.name
                child = self.start(run)
                self.wait_for_checkpoints(child, run, 2)
                child.send_signal(number)
                self.expect_failure(child, status, "ed")
                self.assertTrue(is_whole(run / "last.safetensors"))
                self.assertEqual(sorted(os.listdir(run)), FILES)
                self.resume_to_truth(run)


class DeepModel(Interruption, unittest.TestCase):
    MODEL = "dmm"
    SETTINGS = ["configuration.z=3", "configuration.rnn=24", "configuration.emission=16",
                "configuration.transition=16", "train.batch_size=4", "train.max_steps=1600",
                "train.validate_every=20"]

    def test_two_at_once_in_one_folder(self):
        run = self.root / "twice"
        first = self.start(run)
        self.wait_for_checkpoints(first, run, 1)
        self.expect_failure(self.start(run, "--resume"), 2, run, "another process trains")
        _, err = first.communicate()
        self.assertEqual((first.returncode, err), (0, ""))
        self.expect_truth(run)

    def test_a_run_folder_that_cannot_be(self):
        for place in (self.data / "run", pathlib.Path("/proc/run")):
            self.expect_failure(self.start(place), 2, place)

    def test_a_run_folder_that_is_read_only(self):
        if os.geteuid() == 0:
            self.skipTest("root may write to a folder that is read-only")
        run = self.root / "read_only"
        child = self.start(run)
        self.wait_for_checkpoints(child, run, 2)
        run.chmod(0o500)
        try:
            self.expect_failure(child, 2, run / "", "cannot be written to")
            self.assertTrue(is_whole(run / "last.safetensors"))
        finally:
            run.chmod(0o700)
        self.resume_to_truth(run)

    def test_a_limit_on_the_size_of_files(self):
        """Between the checkpoints' sizes: best fits and last does not, so it keeps its old bytes."""
        run = self.root / "limited"
        child = self.start(run)
        self.wait_for_checkpoints(child, run, 2)
        self.kill(child)
        before = (run / "last.safetensors").read_bytes()
        most = len(before) - 1000

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        child = self.start(run, "--resume", preexec_fn=limit)
        self.expect_failure(child, 1, run / "last.safetensors", "cannot be written: File too large")
        self.assertTrue((run / "last.safetensors").read_bytes() == before)
        self.assertEqual(sorted(os.listdir(run)), FILES)
        self.resume_to_truth(run)

    def test_a_full_disk(self):
        disk = self.root / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk],
                                 stderr=subprocess.DEVNULL)
        if mounted.returncode != 0:
            self.skipTest("no small disk may be mounted here")
        try:
            run = disk / "run"
            child = self.start(run)
            self.wait_for_checkpoints(child, run, 2)
            self.kill(child)
            room = os.statvfs(disk)
            filler = disk / "filler"
            filler.write_bytes(b"x" * (room.f_bavail * room.f_bsize - 8192))
            before = (run / "last.safetensors").read_bytes()
            self.expect_failure(self.start(run, "--resume"), 1, run / "",
                                "cannot be written: No space left on device")
            self.assertTrue((run / "last.safetensors").read_bytes() == before)
            filler.unlink()
            self.resume_to_truth(run)
        finally:
            subprocess.run(["umount", disk], check=True)


class ExactModel(Interruption, unittest.TestCase):
    MODEL = "lgssm"
    SETTINGS = ["configuration.states=8", "train.iterations=800"]

    def test_a_checkpoint_that_does_not_fit_its_parameters(self):
        run = self.root / "misfit"
        child = self.start(run)
        self.wait_for_checkpoints(child, run, 2)
        self.kill(child)
        last = run / "last.safetensors"
        data = last.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        state = json.loads(header["__metadata__"]["state"])
        count = len(state["x"])
        for key, damaged, text in (
                ("x", state["x"][1:], f"state.x: has {count - 1} numbers, must have {count}"),
                ("changes", [row[1:] for row in state["changes"]], "state.changes[0]: has"),
                ("steps", state["steps"][1:], "state: has not as many changes as steps")):
            with self.subTest(key):
                header["__metadata__"]["state"] = json.dumps({**state, key: damaged})
                text_of_header = json.dumps(header).encode()
                text_of_header += b" " * (-len(text_of_header) % 8)
                last.write_bytes(struct.pack("<Q", len(text_of_header)) + text_of_header
                                 + data[8 + size :])
                self.expect_failure(self.start(run, "--resume"), 2, last, text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    arguments, rest = parser.parse_known_args()
    PROGRAM = arguments.program
    unittest.main(argv=[sys.argv[0], *rest])
