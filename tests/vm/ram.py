# SPDX-License-Identifier: Apache-2.0
"""What a file with a guest's memory says of its RAM, and what QEMU itself says of that.

The file: libvirt's head, then QEMU's stream (docs/devel/migration): sections of one byte of kind each; those of RAM hold pages, each
behind 8 bytes of address and flags. Of a page that is there more than once the last one counts.
"""
import os
import struct

PAGE = 4096
HEAD, HEAD_LENGTH_AT = 92, 20  # libvirt's, and where it says how much more there is of it
SECTION_START, SECTION_PART, SECTION_END, SECTION_FULL, SUBSECTION, CONFIGURATION, COMMAND, FOOTER = 1, 2, 3, 4, 5, 7, 8, 0x7e
FILLED, SIZES, WHOLE, END, SAME_BLOCK = 2, 4, 8, 0x10, 0x20
NO_RAM = range(0xa0000, 0x100000)  # of a PC: video memory, and ROM in the place of RAM


class Reader:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.at = HEAD + struct.unpack_from("<I", self.data, HEAD_LENGTH_AT)[0]
        assert self.take(4) == b"QEVM"
        self.take(4)

    def take(self, count):
        self.at += count
        assert self.at <= len(self.data), "the file ends too early"
        return self.data[self.at - count:self.at]

    def number(self, count):
        return int.from_bytes(self.take(count), "big")

    def name(self):
        return self.take(self.number(1)).decode()


def _subsection(reader):
    name = reader.name()
    reader.take(4)
    if name == "configuration/capabilities":
        for _ in range(reader.number(4)):
            reader.name()
    else:
        assert name == "configuration/target-page-bits", name
        reader.take(4)


def _pages(reader, pages, block):
    """The pages of one section, by block; the block of the last one."""
    while True:
        head = reader.number(8)
        address, flags = head & -PAGE, head & (PAGE - 1)
        if flags & END:
            return block
        if flags & SIZES:
            while address > 0:
                reader.name()
                address -= reader.number(8)
            continue
        if not flags & SAME_BLOCK:
            block = reader.name()
        assert flags & (FILLED | WHOLE), hex(head)
        pages[block, address] = reader.take(1) * PAGE if flags & FILLED else reader.take(PAGE)


def pages_of(path, block="pc.ram"):
    """{address: bytes} of a block of RAM."""
    reader, pages, last = Reader(path), {}, None
    while True:
        kind = reader.number(1)
        if kind == SECTION_FULL:  # of devices: RAM is over
            return {address: page for (name, address), page in pages.items() if name == block}
        if kind in (SECTION_START, SECTION_PART, SECTION_END):
            reader.take(4)
            if kind == SECTION_START:
                name = reader.name()
                assert name == "ram", name
                reader.take(8)
            last = _pages(reader, pages, last)
        elif kind == CONFIGURATION:
            reader.take(reader.number(4))
        elif kind == SUBSECTION:
            _subsection(reader)
        elif kind == COMMAND:
            reader.take(2)
            reader.take(reader.number(2))
        else:
            assert kind == FOOTER, f"a section of kind {kind}"
            reader.take(4)


def dump(guest, path):
    """All of the memory as QEMU has it now, of a guest that stands still."""
    guest.monitor("pmemsave", val=0, size=int(guest.options["memory"]) << 20, filename=path)


def differing(path, dumped):
    """The addresses of the pages in which the two differ."""
    pages, wrong = pages_of(path), []
    with open(dumped, "rb") as file:
        for address in range(0, os.path.getsize(dumped), PAGE):
            page = file.read(PAGE)
            if address not in NO_RAM and pages.get(address, bytes(PAGE)) != page:
                wrong.append(address)
    return wrong
