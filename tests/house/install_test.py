"""Installs the library into a temporary prefix, builds each example against it with find_package and
with pkg-config, and runs both."""
import argparse
import os
import pathlib
import shlex
import subprocess
import tempfile


def run(*command, environment=None, **options):
    print("$", shlex.join(map(str, command)), flush=True)
    return subprocess.run(list(map(str, command)), check=True, text=True,
                          env={**os.environ, **(environment or {})}, **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--examples", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--sanitize", default="")
    parser.add_argument("--libdir", required=True)
    args = parser.parse_args()
    sanitize = f"-fsanitize={args.sanitize}" if args.sanitize else ""
    with tempfile.TemporaryDirectory(prefix="seqvae-install-") as folder:
        folder = pathlib.Path(folder)
        installed = folder / "first"
        run("cmake", "--install", args.build, "--prefix", installed, "--component", "library",
            stdout=subprocess.DEVNULL)
        # The package may move: nothing in it knows where it was installed.
        prefix = folder / "prefix"
        installed.rename(prefix)

        packages = {"PKG_CONFIG_PATH": str(prefix / args.libdir / "pkgconfig")}
        flags = run("pkg-config", "--cflags", "--libs", "seqvae", environment=packages,
                    stdout=subprocess.PIPE).stdout
        for example in args.examples:
            build = folder / "build" / example.name
            run("cmake", "-S", example, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_COMPILER={args.compiler}",
                f"-DCMAKE_CXX_FLAGS={sanitize}",
                "-DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF", stdout=subprocess.DEVNULL)
            run("cmake", "--build", build)
            run(build / example.name)

            alone = folder / example.name
            run(args.compiler, "-std=c++20", "-O1", *shlex.split(sanitize), example / "main.cpp",
                *shlex.split(flags), "-o", alone)
            run(alone, environment={"LD_LIBRARY_PATH": str(prefix / args.libdir)})


main()
