"""Prints docs/benchmarks.md: what .ci/bench has measured, from the JSON of each run."""

import json
import pathlib
import sys

# The runs in the order of the page: the name of the file, and what is special about the run.
RUNS = [
    ("mix", "the default mix, across accounts"),
    ("direct", "the default mix, by a service in the workers' account"),
    ("cbor", "the default mix, in CBOR"),
    ("version", "`version` alone"),
    ("get-eventual", "`get` alone, `eventual`"),
    ("get", "`get` alone"),
    ("get-strong", "`get` alone, `strong`"),
    ("list", "`list` alone, of 20 items"),
    ("put", "`put` alone"),
    ("one-caller-get", "`get` alone, one caller"),
    ("one-caller-put", "`put` alone, one caller"),
    ("open", "the default mix, in an open loop at half of the first rate"),
    ("many-owners", "the default mix, 10,000 owners and no warm-up"),
    ("cold-list", "`list` once for each owner, by workers that have just started"),
    ("moved-list", "`list` once for each owner, on a shard that has never seen them"),
]
FIGURES = ["echo", "head", "compare_and_set", "bare_get", "bare_put"]
QUANTILES = ["p50", "p90", "p99", "p99_9", "max"]


def number(value):
    """A number with a comma between each three digits."""
    return f"{value:,.0f}"


def milliseconds(micros):
    """Microseconds as milliseconds with three digits."""
    if micros < 9_995:
        return f"{micros / 1_000:.2f}"
    return f"{micros / 1_000:.1f}" if micros < 99_950 else number(micros / 1_000)


def callers(count):
    return "one caller" if count == 1 else f"{number(count)} callers"


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def quantiles(latency):
    """The cells of the quantiles; empty ones if nothing was answered."""
    return [milliseconds(latency[name]) if latency else "" for name in QUANTILES]


def heading(first):
    return [first, "a second", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"]


def summary(runs):
    yield row(*heading("run"), "refused", "of the limit")
    yield row(*["---"] * 9)
    for name, words in RUNS:
        run = runs[name]
        share = run["share_of_limit"]
        refused = sum(run["refused"].values()) + sum(run["unanswered"].values())
        of_limit = "" if share is None else f"{share * 100:.1f} %"
        yield row(
            f"[{words}](#{name})", number(run["per_second"]), *quantiles(run["latency_us"]), number(refused), of_limit
        )


def section(name, words, run):
    asked = run["bench"]
    yield f"## {name}"
    yield ""
    rate = "in a closed loop"
    if asked["rate_per_second"] is not None:
        rate = f"at {number(asked['rate_per_second'])} requests a second"
    yield (
        f"This is {words}: `{asked['mix']}`, {callers(asked['callers'])}, {number(asked['owners'])} owners with "
        f"{asked['items']} items of {asked['item_bytes']} bytes, {asked['encoding'].upper()}, {rate}. They got their items "
        f"before, {number(run['owners_filled']['per_second'])} owners a second."
    )
    yield ""
    yield row(*heading("operation"))
    yield row(*["---"] * 7)
    for operation, counts in run["operations"].items():
        yield row(f"`{operation}`", number(counts["per_second"]), *quantiles(counts["latency_us"]))
    for figure in FIGURES if run["raw"] else []:
        counts = run["raw"][figure]
        words = figure.replace("_", " ")
        yield row(f"raw: {words}", number(counts["per_second"]), *quantiles(counts["latency_us"]))
    yield ""
    processor = ", ".join(f"{one['process']} {one['us_per_request']:.0f}" for one in run["processor"])
    yield f"Processor time for one request, in microseconds: {processor or 'not known'}."
    yield ""
    yield f"![The latencies of this run](benchmarks/{name}.svg)"
    yield ""


def page(runs):
    machine = runs["mix"]["machine"]
    memory = (machine["memory_bytes"] or 0) / (1 << 30)
    build = "a release build" if machine["is_release"] else "A DEBUG BUILD"
    yield "# Benchmarks"
    yield ""
    yield "`make bench` wrote this page. [Measure the speed](operations.md#measure-the-speed) explains its figures."
    yield ""
    yield (
        f"Machine: {machine['cores']} cores ({machine['model'] or 'model not known'}), {memory:.0f} GiB of memory, Linux "
        f"{machine['kernel']}. Everything runs on it: a shard of two workers, the NATS server, Postgres, and the callers; "
        f"for the last run two shards."
    )
    yield f"Program: version {machine['version']}, {build}, commit `{machine['commit']}`."
    yield ""
    yield from summary(runs)
    yield ""
    for name, words in RUNS:
        yield from section(name, words, runs[name])


def main():
    place = pathlib.Path(sys.argv[1])
    runs = {name: json.loads((place / f"{name}.json").read_text()) for name, _ in RUNS}
    wrong = [name for name, run in runs.items() if run["wrong"]]
    if wrong:
        sys.exit(f"replies were wrong: {', '.join(wrong)}")
    print("\n".join(page(runs)).rstrip())


main()
