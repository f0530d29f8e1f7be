# SPDX-License-Identifier: Apache-2.0
"""What the test scripts of this folder share: the lines that tests/run counts, and a rig for the length of a script."""
import contextlib
import os
import sys
import tempfile

from records import Wrong
from rig import Rig, RigError, why_not

LONG = os.environ.get("LONG") == "1"


class Report:
    def __init__(self):
        self.failed = 0

    @contextlib.contextmanager
    def test(self, name):
        """`ok NAME` or `not ok NAME`, by what the block raises."""
        try:
            yield
        except (Wrong, RigError, AssertionError, OSError) as why:
            self.failed += 1
            print(f"{type(why).__name__}: {why}".rstrip())
            print(f"not ok {name}", flush=True)
        else:
            print(f"ok {name}", flush=True)

    def finish(self):
        sys.exit(1 if self.failed else 0)


@contextlib.contextmanager
def rig_for_test():
    """A rig in TEST_TMP, which ends with the block or with this process; the script is skipped where there can be none."""
    why = why_not()
    if why:
        print(why)
        sys.exit(77)
    with contextlib.ExitStack() as stack:
        folder = os.environ.get("TEST_TMP")
        if not folder or len(os.path.realpath(folder)) > 70:  # a socket's path may have no more than 107 bytes
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="qsnap-vm.", dir="/var/tmp"))
        yield stack.enter_context(Rig(os.path.join(folder, "rig")))
