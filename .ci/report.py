#!/usr/bin/env python3
"""Closes a `./dev test` run: says what failed, what was skipped and why, and counts.

A test that cannot run here prints one line `skipped: <reason>` and returns; this is where those lines surface,
since a runner hides the output of what passes. A skip that tests/skips.allowed does not list fails the run.

usage: report.py LOG_DIR JUNIT_XML ALLOWED
  LOG_DIR/steps    name <TAB> ok|FAILED <TAB> seconds      one line per step of ./dev
  LOG_DIR/skips    name <TAB> reason                       steps that ./dev left out, and #[ignore]d tests
  LOG_DIR/libtest  output of `cargo test -- --show-output`, where there was no nextest
"""

import fnmatch
import os
import re
import sys
import xml.etree.ElementTree as xml

SKIPPED = re.compile(r"^\s*skipped: (.+)$", re.MULTILINE)


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as text:
        return [line.rstrip("\n") for line in text]


def from_junit(path):
    """(name, passed, output) of each test; a name is `crate::binary::module::test`."""
    for case in xml.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        failed = case.find("failure") is not None or case.find("error") is not None
        output = "\n".join(part.text or "" for tag in ("system-out", "system-err") for part in case.findall(tag))
        yield name, not failed, output


def from_libtest(text):
    outputs = dict(re.findall(r"^---- (\S+) stdout ----\n(.*?)(?=^----|^successes:|^failures:|\Z)", text, re.M | re.S))
    for name, result in re.findall(r"^test (\S+) \.\.\. (ok|FAILED)$", text, re.M):
        yield name, result == "ok", outputs.get(name, "")


def allowed(path):
    """Pairs of patterns (name, reason); `#` starts a comment."""
    rules = [line.split("#", 1)[0].strip() for line in lines(path)]
    pairs = [tuple(rule.split(None, 1)) for rule in rules if rule]
    for pair in pairs:
        if len(pair) != 2:
            sys.exit(f"{path}: `{pair[0]}` stands without a reason")
    return pairs


def main(log, junit, allow):
    steps = [line.split("\t") for line in lines(os.path.join(log, "steps"))]
    failed = [f"step {name}" for name, result, _ in steps if result != "ok"]
    skips = [tuple(line.split("\t", 1)) for line in lines(os.path.join(log, "skips"))]
    passed = len(steps) - len(failed)

    libtest = os.path.join(log, "libtest")
    if os.path.exists(libtest):
        tests = list(from_libtest("\n".join(lines(libtest))))
    elif os.path.exists(junit):
        tests = list(from_junit(junit))
    else:
        tests = []
    for name, ok, output in tests:
        reason = SKIPPED.search(output)
        if not ok:
            failed.append(name)
        elif reason:
            skips.append((name, reason.group(1)))
        else:
            passed += 1
    if not tests:
        failed.append("no test ran")

    rules = allowed(allow)
    print("\n== summary")
    for name, result, seconds in steps:
        print(f"   {seconds:>5} s  {name:<12} {result}")
    for name, reason in sorted(skips):
        known = any(fnmatch.fnmatch(name, n) and fnmatch.fnmatch(reason, r) for n, r in rules)
        print(f"skipped: {name}: {reason}" + ("" if known else f"   (not in {allow}: this fails the run)"))
        if not known:
            failed.append(f"unlisted skip: {name}")
    for name in failed:
        print(f"FAILED: {name}")
    print(f"{passed} passed, {len(failed)} failed, {len(skips)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
