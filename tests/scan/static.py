"""What is found in the sources: by clippy, by cargo deny, and by counting what is unsafe."""

import re
import shutil
import subprocess
from pathlib import Path

from scanners import Inconclusive, run
from servers import OUTPUT, ROOT

# What the control crate does wrong: each has to be found.
CONTROL = """//! The control of the static checks: never use any of it.
#![allow(missing_docs)]
pub fn read(bytes: &[u8]) -> u8 {
    unsafe { *bytes.get_unchecked(9) }
}
pub fn later() {
    todo!()
}
"""


def control_crate():
    folder = OUTPUT / "control-crate"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "lib.rs").write_text(CONTROL)
    lints = re.search(r"\[workspace\.lints\.clippy\].*?\n\n", (ROOT / "Cargo.toml").read_text(), re.DOTALL)[0]
    manifest = '[package]\nname = "control"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n\n'
    (folder / "Cargo.toml").write_text(manifest + lints.replace("[workspace.lints.clippy]", "[lints.clippy]"))
    return folder


def clippy(name, folder, *options):
    """The lints that the workspace denies."""
    command = ["cargo", "clippy", "--manifest-path", str(folder / "Cargo.toml"), *options, "--message-format", "short"]
    text = run(name, [*command, "--", "-D", "warnings"])
    if "Finished" in text:
        return []
    found = re.findall(r"^\S+:\d+:\d+: error(?:\[\S+\])?: (.+?)$", text, re.MULTILINE)
    if not found:
        raise Inconclusive("clippy did not come to its end")
    return sorted(set(found))


def unsafe_outside_runtime(folder, pattern):
    """Files with unsafe code, where there should be none."""
    found = []
    for path in sorted(folder.glob(pattern)):
        code = re.sub(r"//.*|\"(?:[^\"\\\\]|\\\\.)*\"", "", path.read_text())
        if re.search(r"\bunsafe\s*(\{|fn|impl|extern)", code):
            found.append(f"unsafe code in {path.relative_to(folder)}")
    return found


def unsafe_count():
    """How many unsafe blocks, functions and implementations there are, file by file."""
    counts = {}
    for path in sorted((ROOT / "crates").glob("*/src/**/*.rs")):
        code = re.sub(r"//.*", "", path.read_text())
        count = len(re.findall(r"\bunsafe\s*(?:\{|fn|impl|extern)", code))
        if count:
            counts[str(path.relative_to(ROOT))] = count
    return counts


def has_advisories():
    homes = [Path.home() / ".cargo" / "advisory-dbs", Path.home() / ".cargo" / "advisory-db"]
    return bool(shutil.which("cargo-deny")) and any(home.exists() and any(home.iterdir()) for home in homes)


def advisories():
    """Known vulnerabilities of what this workspace is built from."""
    result = subprocess.run(
        ["cargo", "deny", "--offline", "check", "advisories"], cwd=ROOT, capture_output=True, text=True
    )
    text = result.stdout + result.stderr
    if "advisories ok" in text:
        return []
    found = re.findall(r"ID: (RUSTSEC-\S+)", text)
    if not found:
        raise Inconclusive(text.strip().splitlines()[-1] if text.strip() else "cargo deny said nothing")
    return sorted(set(found))
