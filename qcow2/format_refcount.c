/* SPDX-License-Identifier: Apache-2.0
 *
 * One count in a refcount block, FORMAT.md §7.3: 1 to 64 bits wide. Counts narrower than a byte fill each byte from its least
 * significant bit on; wider ones are big-endian.
 */
#include "qcow2/format.h"

uint64_t refcount_get(const uint8_t *block, unsigned order, uint64_t index)
{
	switch (order) {
	case 3:
		return block[index];
	case 4:
		return get_be16(block + index * 2);
	case 5:
		return get_be32(block + index * 4);
	case 6:
		return get_be64(block + index * 8);
	default: {
		uint64_t bit = index << order;

		return block[bit / 8] >> bit % 8 & refcount_max(order);
	}
	}
}

static void put_bits(uint8_t *byte, unsigned shift, uint64_t mask, uint64_t value)
{
	*byte = (uint8_t)((*byte & ~(mask << shift)) | (value & mask) << shift);
}

void refcount_put(uint8_t *block, unsigned order, uint64_t index, uint64_t value)
{
	switch (order) {
	case 3:
		block[index] = (uint8_t)value;
		break;
	case 4:
		put_be16(block + index * 2, (uint16_t)value);
		break;
	case 5:
		put_be32(block + index * 4, (uint32_t)value);
		break;
	case 6:
		put_be64(block + index * 8, value);
		break;
	default: {
		uint64_t bit = index << order;

		put_bits(block + bit / 8, bit % 8, refcount_max(order), value);
	}
	}
}
