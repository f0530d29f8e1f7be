# SPDX-License-Identifier: Apache-2.0
"""Not a qcow2 image."""

open("image", "wb").write(bytes(range(256)) * 16)
