#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# time limit: 240
#
# Damaged and odd images: tests/images/CASE/make.py makes one (its docstring says what is wrong with it), tests/images/CASE/expect says
# what must come of it. run.py has the words of that file. `run.sh CASE...` runs only these.
exec python3 "$(dirname "$0")/run.py" "$@"
