/* What lies in the maps: the same bytes for the program and for the process (src/layout.rs).
 *
 * Addresses and ports in keys and entries of flows are in network byte order; all other numbers are
 * the machine's.
 */
#ifndef FAST_PATH_MAPS_H
#define FAST_PATH_MAPS_H

#include <linux/types.h>

/* Flows */

struct key6 {
	__u32 src[4];
	__u32 dst[4];
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
	__u8 zero[3];
};

struct key4 {
	__u32 src;
	__u32 dst;
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
	__u8 zero[3];
};

struct usage {
	__u64 last_used;
	__u64 packets;
	__u64 bytes;
};

/* The sequence is odd while the entry is being written, and after it has been removed. */
struct entry6 {
	__u32 sequence;
	__u32 epoch;
	struct usage usage;
	struct key6 key;
	__u32 src;
	__u32 dst;
	__u16 src_port;
	__u16 dst_port;
	__u32 zero;
};

struct entry4 {
	__u32 sequence;
	__u32 epoch;
	struct usage usage;
	struct key4 key;
	__u32 src[4];
	__u32 dst[4];
	__u16 src_port;
	__u16 dst_port;
	__u32 zero;
};

/* An entry lies in one of the two buckets of its key. Its tag is there once in a bucket, and never zero:
 * that is an empty place.
 */
#define WAYS 8

struct bucket6 {
	__u32 tags[WAYS];
	struct entry6 entries[WAYS];
};

struct bucket4 {
	__u32 tags[WAYS];
	struct entry4 entries[WAYS];
};

/* The constant mapping */

#define LEVELS 8
#define PREFIXES 4
#define HIDDEN 16

/* An explicit mapping: an IPv4 prefix and an IPv6 prefix. */
struct row {
	__u64 hi;
	__u64 lo;
	__u32 v4;
	__u32 len4;
	__u32 len6;
	__u32 zero;
};

/* A row is found by its masked address, the length of its prefix and the mapping it belongs to. */
struct row4_key {
	__u32 generation;
	__u32 len;
	__u32 address;
};

struct row6_key {
	__u32 generation;
	__u32 len;
	__u64 hi;
	__u64 lo;
};

/* A prefix length that occurs among the rows, longest first. */
struct level4 {
	__u32 len;
	__u32 mask;
};

struct level6 {
	__u64 mask_hi;
	__u64 mask_lo;
	__u32 len;
	__u32 zero;
};

/* A NAT64 prefix (RFC 6052). */
struct pref64 {
	__u64 hi;
	__u64 lo;
	__u32 len;
	/* No IPv4 address that is not global (RFC 6052 section 3.1). */
	__u32 strict;
};

struct network4 {
	__u32 address;
	__u32 mask;
};

#define F_MAPPED 0x001
#define F_GATEWAY 0x002
#define F_FLOWS 0x004
#define F_TOS 0x008
#define F_TRAFFIC_CLASS 0x010
#define F_OWN4 0x020
#define F_OWN6 0x040
#define F_CLAMP 0x080
#define F_FIRST 0x100

struct config {
	__u64 id_key[2];
	__u64 own6_hi;
	__u64 own6_lo;
	struct row first;
	struct pref64 pref64s[PREFIXES];
	struct level6 levels6[LEVELS];
	struct level4 levels4[LEVELS];
	struct network4 hidden[HIDDEN];
	__u32 pref64_count;
	__u32 level6_count;
	__u32 level4_count;
	__u32 hidden_count;
	__u32 first_mask4;
	__u32 generation;
	__u64 first_mask6_hi;
	__u64 first_mask6_lo;
	__u32 own4;
	__u32 flags;
	__u32 mtu4;
	__u32 mtu6;
	/* The longest IPv6 packet made from an IPv4 packet that may be cut. */
	__u32 cut6;
	__u32 tos;
	__u32 traffic_class;
	/* IPv4 identifications: the high bits that are the program's, and the low bits that count. */
	__u32 id_lane;
	__u32 id_mask;
	__u32 zero;
};

/* Which of the two configurations is in force. */
struct state {
	__u32 slot;
	__u32 paused;
};

/* Counters */

struct traffic {
	__u64 packets;
	__u64 bytes;
};

enum counted {
	CARRIED_6_TO_4,
	CARRIED_4_TO_6,
	LOST,
	/* From here on: passed up. */
	UP_UNKNOWN,
	UP_STALE,
	UP_TCP_FLAGS,
	UP_FRAGMENT,
	UP_OPTIONS,
	UP_PROTOCOL,
	UP_CHECKSUM,
	UP_HOP_LIMIT,
	UP_TOO_BIG,
	UP_MALFORMED,
	UP_OFFLOAD,
	UP_ADDRESS,
	UP_PAUSED,
	UP_KERNEL,
	COUNTED,
};

/* Counters of IPv4 identifications: a power of two. */
#define IDS 2048

#endif
