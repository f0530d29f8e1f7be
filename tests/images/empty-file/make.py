# SPDX-License-Identifier: Apache-2.0
"""No byte at all."""

open("image", "wb").close()
