/* Addresses: RFC 6052, RFC 7757, and what never crosses. All numbers are the machine's. */
#ifndef FAST_PATH_ADDRESSES_H
#define FAST_PATH_ADDRESSES_H

#include "maps.h"

struct address6 {
	__u64 hi;
	__u64 lo;
};

static __always_inline int within(__u32 address, __u32 network, int len)
{
	return (address ^ network) >> (32 - len) == 0;
}

#define NET(a, b, c, d) ((__u32)(a) << 24 | (b) << 16 | (c) << 8 | (d))

/* IPv4 addresses that are never embedded in an IPv6 address. */
static __always_inline int is_never_v4(__u32 address)
{
	__u32 first = address >> 24;

	if (first != 0 && first != 127 && first != 169 && first != 192 && first < 224)
		return 0;
	return first == 0 || first == 127 || first >= 224 ||
	       within(address, NET(169, 254, 0, 0), 16) ||
	       within(address, NET(192, 0, 0, 0), 29) ||
	       address == NET(192, 0, 0, 170) || address == NET(192, 0, 0, 171);
}

/* IPv4 addresses that the well-known prefix may carry (RFC 6052 section 3.1). */
static __always_inline int is_global_v4(__u32 address)
{
	if (address == NET(192, 0, 0, 9) || address == NET(192, 0, 0, 10))
		return 1;
	return !(within(address, NET(0, 0, 0, 0), 8) || within(address, NET(10, 0, 0, 0), 8) ||
		 within(address, NET(100, 64, 0, 0), 10) ||
		 within(address, NET(127, 0, 0, 0), 8) ||
		 within(address, NET(169, 254, 0, 0), 16) ||
		 within(address, NET(172, 16, 0, 0), 12) ||
		 within(address, NET(192, 0, 0, 0), 24) || within(address, NET(192, 0, 2, 0), 24) ||
		 within(address, NET(192, 88, 99, 0), 24) ||
		 within(address, NET(192, 168, 0, 0), 16) ||
		 within(address, NET(198, 18, 0, 0), 15) ||
		 within(address, NET(198, 51, 100, 0), 24) ||
		 within(address, NET(203, 0, 113, 0), 24) || address >= NET(224, 0, 0, 0));
}

/* IPv6 addresses that no router forwards. */
static __always_inline int is_never_v6(const struct address6 *address)
{
	__u64 middle = address->lo >> 32;

	return (address->hi == 0 && (middle == 0 || middle == 0xffff)) ||
	       address->hi >> 54 == 0x3fa || address->hi >> 56 == 0xff;
}

/* The IPv6 form of an IPv4 address (RFC 6052 section 2.3). */
static __always_inline void embed(const struct pref64 *pref64, __u32 v4, struct address6 *out)
{
	__u64 top = (__u64)v4 << 32;
	__u32 len = pref64->len;

	*out = (struct address6){ pref64->hi, pref64->lo };
	if (len == 96) {
		out->lo |= v4;
		return;
	}
	if (len < 64)
		out->hi |= top >> (len & 63);
	/* Byte 8 is left out. */
	out->lo = top << ((64 - len) & 63) >> 8;
}

/* The IPv4 address in an IPv6 address; 0 if it does not lie in the prefix. */
static __always_inline int extract(const struct pref64 *pref64, const struct address6 *address,
				   __u32 *v4)
{
	__u32 len = pref64->len;
	__u64 low;

	if (len == 96) {
		*v4 = address->lo;
		return address->hi == pref64->hi && (address->lo ^ pref64->lo) >> 32 == 0;
	}
	if ((address->hi ^ pref64->hi) >> ((64 - len) & 63))
		return 0;
	low = address->lo << 8 >> ((64 - len) & 63);
	if (len < 64)
		low |= address->hi << (len & 63);
	*v4 = low >> 32;
	return 1;
}

/* The IPv6 form of an IPv4 address that lies in the row (RFC 7757 section 3.3.1). */
static __always_inline void to_v6(const struct row *row, __u32 v4, struct address6 *out)
{
	__u32 len = row->len6;
	__u64 suffix;

	*out = (struct address6){ row->hi, row->lo };
	if (row->len4 >= 32)
		return;
	suffix = (__u64)(v4 << (row->len4 & 31)) << 32;
	if (len >= 64) {
		out->lo |= suffix >> (len & 63);
	} else {
		out->hi |= suffix >> (len & 63);
		if (len > 0)
			out->lo |= suffix << ((64 - len) & 63);
	}
}

/* The IPv4 form of an IPv6 address that lies in the row (RFC 7757 section 3.3.2). */
static __always_inline __u32 to_v4(const struct row *row, const struct address6 *address)
{
	__u32 len = row->len6;
	__u64 suffix;

	if (row->len4 >= 32)
		return row->v4;
	if (len >= 64) {
		suffix = address->lo << (len & 63);
	} else {
		suffix = address->hi << (len & 63);
		if (len > 0)
			suffix |= address->lo >> ((64 - len) & 63);
	}
	return row->v4 | (__u32)(suffix >> 32) >> (row->len4 & 31);
}

#endif
