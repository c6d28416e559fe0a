"""Puts mistakes into what decides about security, one at a time, and shows those that no test notices: `make mutants`.

    python tools/mutants.py [NAME...]

NAME is a module or a function, with wildcards: 'peerauth.policy.resolve*'. Which modules are mutated, and which tests
have to notice, is in pyproject.toml under tool.mutmut. The tool works on a copy of the tree, in mutants/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant

ROOT = Path(__file__).resolve().parent.parent
MUTMUT = Path(sys.executable).with_name("mutmut")
UNNOTICED = ("survived", "no tests")


def unnoticed() -> list[str]:
    """The mutants that every test passed with, or that no test reaches."""
    said = subprocess.run([MUTMUT, "results"], capture_output=True, text=True, check=True).stdout
    found = (line.strip().partition(": ") for line in said.splitlines())
    return [name for name, _, result in found if result in UNNOTICED]


def difference(mutant: str) -> str:
    """What the mistake is: the lines that it removes and adds."""
    lines = get_diff_for_mutant(mutant).splitlines()
    return "\n".join(line for line in lines if line[:1] in "+-" and line[:3] not in {"+++", "---"})


def main() -> int:
    """Returns the exit code of the tool; 0 whatever went unnoticed, which is for a person to judge."""
    os.chdir(ROOT)
    shutil.rmtree("mutants", ignore_errors=True)  # what an earlier run found may have been of other tests
    workers = str(len(os.sched_getaffinity(0)))
    code = subprocess.run([MUTMUT, "run", "--max-children", workers, *sys.argv[1:]], check=False).returncode
    if code:
        return code
    found = unnoticed()
    for mutant in found:
        print(f"\n{mutant}\n{difference(mutant)}")
    print(f"\n{len(found)} mutants went unnoticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
