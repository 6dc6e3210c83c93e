#!/usr/bin/env python3
"""Times the jobs of nano_bench.cpp beside twin.py's, eager and under torch.compile, on one machine in one call.

All programs are started, make everything they need and run each job twice; then they run it in turn, A B C A B C, and sleep while
another runs. Printed for each job: the median of the seconds with the least and the most, the median of the ratios to vggflow's time
of the same round with the least and the most, GFLOP, and the share of the rate of one large product of this machine and type, measured
in the same rounds. `--load busy` runs a busy process beside them. `--start` adds the time of the program's start.
"""
import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
JOBS = ("sample", "evaluate", "update", "step", "value")
PROGRAMS = ("vggflow", "eager", "compile")
# nano: width, layers, image and text tokens.
D, LAYERS, IMAGE, TEXT = 160, 6, 64, 12
TOKENS = IMAGE + TEXT


def giga_flop():
    """GFLOP of one forward pass of one sample and branch, and of one backward pass to the inputs: linear maps, attention, modulations."""
    linear = 2 * (LAYERS * 12 * D * D * TOKENS - 9 * D * D * TEXT) + 2 * D * (48 * IMAGE * 2 + 96 * TEXT) + LAYERS * 24 * D * D
    attention = LAYERS * 4 * TOKENS**2 * D
    return (linear + attention) * 1e-9, (linear + 2.5 * attention) * 1e-9


def job_gflop(job):
    """GFLOP of vggflow's passes through the flow's network (nano_bench.cpp lists them); None where most of a job is something else."""
    f, b = giga_flop()
    return {"sample": 32 * 20 * 2 * f, "evaluate": 64 * 20 * 2 * f, "update": (16 * 20 * 2 + 80 * 2 + 80) * f + 80 * b,
            "step": (16 * 20 * 2 + 80 * 2 + 80) * f + (80 + 160) * b, "product": 2 * 2048**3 * 1e-9}.get(job)


class Server:
    """A program that runs the jobs it reads from its input."""

    def __init__(self, command, threads):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"compare: {self.process.args[0]} ended at '{line}' with {self.process.wait()}")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def command_of(program, options, threads):
    if program == "vggflow":
        return [str(options.build / "bench" / "nano_bench"), "--serve", str(threads)]
    return [sys.executable, str(HERE / "twin.py"), "--serve", "--threads", str(threads)] + (["--compile"] if program == "compile" else [])


def runs(program, job):
    """torch.compile does not trace torch.func.jvp over a compiled module, and the twins have no product of their own."""
    return not (program == "compile" and job == "value") and (program == "vggflow" or job != "product")


@contextlib.contextmanager
def beside(load):
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if load == "busy" else None
    try:
        yield
    finally:
        if busy:
            busy.kill()
            busy.wait()


def spread(values, form="{:.2f}"):
    return f"{form} ({form} to {form})".format(statistics.median(values), min(values), max(values))


def measure(options, threads, dtype):
    """job -> program -> seconds of each round, under each load."""
    servers = {program: Server(command_of(program, options, threads), threads) for program in options.programs}
    jobs = [*options.jobs, "product"]
    times = {}
    asked = [(job, program) for job in jobs for program in options.programs if runs(program, job)]
    for job, program in asked:
        for _ in range(options.warm):
            servers[program].ask(f"{job}/{dtype}")
    graphs = servers["compile"].ask("graphs") if "compile" in servers else 0
    for load in options.load:
        with beside(load):
            for _ in range(options.rounds):
                for job, program in asked:
                    times.setdefault((load, job), {}).setdefault(program, []).append(servers[program].ask(f"{job}/{dtype}"))
    if "compile" in servers and servers["compile"].ask("graphs") != graphs:
        print("warning: torch.compile made graphs while it was timed")
    for server in servers.values():
        server.close()
    return times


def table(times, threads, dtype, load, jobs):
    product = job_gflop("product") / statistics.median(times[load, "product"]["vggflow"])
    for job in jobs:
        seconds, work = times[load, job], job_gflop(job)
        own = seconds["vggflow"]
        cells = [job, dtype, str(threads), load, spread(own)]
        for program in PROGRAMS[1:]:
            ratios = [a / b for a, b in zip(seconds.get(program, []), own)]
            cells += [spread(seconds[program]), spread(ratios)] if ratios else ["-", "-"]
        rate = work / statistics.median(own) if work else None
        cells += [f"{work:.0f}", f"{rate:.0f} of {product:.0f}, {100 * rate / product:.0f} %"] if work else ["-", "-"]
        print("| " + " | ".join(cells) + " |", flush=True)


def start_times(options):
    """Seconds of `sample` of 4 emoji until its network is there (it says so as the last thing before it is asked), and in all."""
    first, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.rounds + 1):
            begin = time.perf_counter()
            run = subprocess.Popen([str(options.build / "vggflow"), "sample", f"out={folder}/{i}", *SAMPLE_OF_FOUR], cwd=HERE.parent,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            next(line for line in run.stderr if line.startswith("Mmdit("))
            first.append(time.perf_counter() - begin)
            run.communicate()
            whole.append(time.perf_counter() - begin)
            if run.returncode != 0:
                sys.exit(f"compare: sample ended with {run.returncode}")
    print(f"sample of 4 emoji: {spread(first[1:])} s until the network is there, {spread(whole[1:])} s in all")


SAMPLE_OF_FOUR = ["images=4", "prompts=[red heart]"]


def machine(options):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    flags = cpu.string if cpu else ""
    kinds = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    commit = subprocess.run(["git", "-C", str(HERE.parent), "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "none"
    print(f"{cpu.group(1) if cpu else 'unknown processor'}, {os.cpu_count()} processors ({', '.join(kinds)}), load {os.getloadavg()[0]:.2f}, "
          f"commit {commit or 'unknown'}, torch {torch}, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC")
    if os.getloadavg()[0] > 0.5 and "idle" in options.load:
        print("warning: this machine is not idle")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--types", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--load", nargs="+", choices=("idle", "busy"), default=["idle", "busy"])
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=2, help="runs of each job before the first round")
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--json", type=pathlib.Path, help="file for the seconds of every round")
    options = parser.parse_args()
    options.programs = [p for p in PROGRAMS if p in options.programs or p == "vggflow"]
    if len(options.programs) > 1 and not importlib.util.find_spec("torch"):
        sys.exit(f"compare: {sys.executable} has no torch for the twins: set PYTHON to one that has, or pass --programs vggflow")
    machine(options)
    if options.start:
        start_times(options)
    print("| job | type | threads | load | vggflow s | eager s | eager / vggflow | torch.compile s | compile / vggflow | GFLOP | GF/s of product's |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    kept = {}
    for dtype in options.types:
        for threads in options.threads:
            times = measure(options, threads, dtype)
            for load in options.load:
                table(times, threads, dtype, load, options.jobs)
            kept.update({f"{job}/{dtype} {threads} {load}": seconds for (load, job), seconds in times.items()})
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
