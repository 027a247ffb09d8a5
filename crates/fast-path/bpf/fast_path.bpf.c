/* Translates known packets at the egress of the TUN and hands them back to the kernel there.
 *
 * What is known comes from the process: flows, or a constant mapping. Everything else, and every
 * packet that is not plain, is passed up: TC_ACT_OK lets it go on into the TUN. A packet is either
 * passed up as it came or translated as a whole; all that can refuse it comes before its first change.
 *
 * Rules in brackets are those of docs/requirements.md.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "addresses.h"
#include "maps.h"

#define MAP(map_name, map_type, map_key, map_value, map_entries, map_options)                      \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, map_entries);                                                  \
		__uint(map_flags, map_options);                                                    \
		__type(key, map_key);                                                              \
		__type(value, map_value);                                                          \
	} map_name SEC(".maps")

struct ids {
	__u32 next[IDS];
};

/* Hash tables of the process, which writes them by itself: memory of both (src/table.rs). */
MAP(flows6, BPF_MAP_TYPE_ARRAY, __u32, struct bucket6, 1, BPF_F_MMAPABLE);
MAP(flows4, BPF_MAP_TYPE_ARRAY, __u32, struct bucket4, 1, BPF_F_MMAPABLE);
MAP(rows6, BPF_MAP_TYPE_HASH, struct row6_key, struct row, 262144, BPF_F_NO_PREALLOC);
MAP(rows4, BPF_MAP_TYPE_HASH, struct row4_key, struct row, 262144, BPF_F_NO_PREALLOC);
MAP(configs, BPF_MAP_TYPE_ARRAY, __u32, struct config, 2, 0);
MAP(states, BPF_MAP_TYPE_ARRAY, __u32, struct state, 1, 0);
MAP(epochs, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);
MAP(ids, BPF_MAP_TYPE_ARRAY, __u32, struct ids, 1, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct traffic, COUNTED, 0);

/* Bytes in front of the IP header: none at a TUN; an Ethernet header in a test run. */
const volatile __u32 LINK_HEADER = 0;
/* Buckets of each table of flows, and what their hashes are keyed with. */
const volatile __u32 BUCKETS = 1;
const volatile __u64 HASH_KEY[2] = {};
/* The processor may do loads in another order than the program: not x86. */
const volatile __u32 LOADS_PASS_LOADS = 1;

#define CSUM_TCP 16
#define CSUM_UDP 6
#define CSUM_ICMP 2
/* Where the identifier of an echo message is. */
#define IDENTIFIER 4

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
/* PSH, ACK and URG. */
#define TCP_OTHERS 0x38

#define LENGTH_MAX 65535
#define DF_THRESHOLD 1260

/* What was read of a packet. */
struct packet {
	/* Bytes behind the IP header, and of one segment of a super-packet. */
	__u32 payload;
	__u32 segment;
	__u32 segments;
	/* An echo message has its identifier for the port on the IPv6 side of the way, and zero for the
	 * other.
	 */
	__u16 src_port;
	__u16 dst_port;
	/* The checksum field. */
	__u16 check;
	__u8 protocol;
	__u8 tcp_flags;
	/* Of an ICMP message. */
	__u8 icmp_type;
};

/* The change of a transport header. */
struct change {
	/* New minus old: of the pseudo-header, and of what the checksum covers itself. */
	__u32 pseudo;
	__u32 covered;
	/* The sum of the old pseudo-header. */
	__u16 old_pseudo;
	__u8 new_ports;
	__u8 icmp_type;
	__u16 src_port;
	__u16 dst_port;
	/* The new checksum, where the program makes it itself. */
	__u16 check;
	__u8 by_helper;
};

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u32 fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

/* New minus old: subtraction is the addition of the complement. */
static __always_inline __u32 difference(__u64 new, __u64 old)
{
	return fold32(new + (__u16)~fold(old));
}

/* The change of what a transport checksum covers besides the pseudo-header. */
static __always_inline __u32 covered(const struct packet *packet, const struct change *change)
{
	__u64 new = bpf_htons((__u16)change->icmp_type << 8);
	__u64 old = bpf_htons((__u16)packet->icmp_type << 8);

	if (change->new_ports) {
		new += (__u64)change->src_port + change->dst_port;
		old += (__u64)packet->src_port + packet->dst_port;
	}
	return difference(new, old);
}

static __always_inline __u64 sum4(const __u32 *words)
{
	return (__u64)words[0] + words[1] + words[2] + words[3];
}

static __always_inline void count(__u32 what, __u32 bytes)
{
	struct traffic *traffic = bpf_map_lookup_elem(&counters, &what);

	if (traffic) {
		traffic->packets += 1;
		traffic->bytes += bytes;
	}
}

/* An IPv4 identification [X6-04], the first of as many as the packet has segments: all in the
 * program's lane, and not to be foretold without the key.
 */
static __always_inline __u16 identification(const struct config *config, __u32 src, __u32 dst,
					    __u32 protocol, __u32 segments)
{
	__u64 hash = ((__u64)src << 32 | dst) ^ config->id_key[0];
	__u32 zero = 0, mask = config->id_mask, place;
	struct ids *table = bpf_map_lookup_elem(&ids, &zero);
	__u32 *next;

	if (!table)
		return 0;
	hash *= config->id_key[1] | 1;
	hash ^= hash >> 32;
	hash = (hash ^ protocol ^ config->id_key[1]) * (config->id_key[0] | 1);
	hash ^= hash >> 29;
	hash *= config->id_key[1] | 1;
	hash ^= hash >> 32;
	next = &table->next[hash & (IDS - 1)];
	place = (__sync_fetch_and_add(next, segments) + (__u32)(hash >> 48)) & mask;
	/* They must not count on into the next lane; behind its end there is room again. */
	if (segments - 1 > mask - place && mask != 0xffff)
		place = (__sync_fetch_and_add(next, segments) + (__u32)(hash >> 48)) & mask;
	return config->id_lane | place;
}

/* Rows */

static __noinline const struct row *row_of_v4(const struct config *config, __u32 address)
{
	if (config->flags & F_FIRST && (address & config->first_mask4) == config->first.v4)
		return &config->first;
	_Pragma("clang loop unroll(disable)")
	for (int i = 0; i < LEVELS; i++) {
		struct row4_key key = { .generation = config->generation };
		const struct row *row;

		if (i >= config->level4_count)
			break;
		key.len = config->levels4[i].len;
		key.address = address & config->levels4[i].mask;
		row = bpf_map_lookup_elem(&rows4, &key);
		if (row)
			return row;
	}
	return 0;
}

static __noinline const struct row *row_of_v6(const struct config *config,
						   const struct address6 *address)
{
	if (config->flags & F_FIRST && (address->hi & config->first_mask6_hi) == config->first.hi &&
	    (address->lo & config->first_mask6_lo) == config->first.lo)
		return &config->first;
	_Pragma("clang loop unroll(disable)")
	for (int i = 0; i < LEVELS; i++) {
		struct row6_key key = { .generation = config->generation };
		const struct row *row;

		if (i >= config->level6_count)
			break;
		key.len = config->levels6[i].len;
		key.hi = address->hi & config->levels6[i].mask_hi;
		key.lo = address->lo & config->levels6[i].mask_lo;
		row = bpf_map_lookup_elem(&rows6, &key);
		if (row)
			return row;
	}
	return 0;
}

static __always_inline int is_hidden(const struct config *config, __u32 address)
{
	_Pragma("clang loop unroll(disable)")
	for (int i = 0; i < HIDDEN; i++) {
		if (i >= config->hidden_count)
			break;
		if ((address & config->hidden[i].mask) == config->hidden[i].address)
			return 1;
	}
	return 0;
}

/* The IPv4 form of `local` by a row, and of `remote` by a NAT64 prefix; or why not. */
static __always_inline int map_to_v4(const struct config *config, const struct address6 *local,
				     const struct address6 *remote, __u32 *local4, __u32 *remote4)
{
	const struct row *row = row_of_v6(config, local);
	const struct pref64 *pref64 = 0;

	if (!row)
		return UP_UNKNOWN;
	*local4 = to_v4(row, local);
	_Pragma("clang loop unroll(disable)")
	for (int i = 0; i < PREFIXES; i++) {
		if (i >= config->pref64_count)
			break;
		if (extract(&config->pref64s[i], remote, remote4)) {
			pref64 = &config->pref64s[i];
			break;
		}
	}
	if (!pref64)
		return UP_UNKNOWN;
	if (is_never_v4(*remote4) || (pref64->strict && !is_global_v4(*remote4)))
		return UP_ADDRESS;
	if (config->flags & F_GATEWAY && is_hidden(config, *remote4))
		return UP_ADDRESS;
	/* A host with a row of its own: a hairpin, for example. */
	return row_of_v4(config, *remote4) ? UP_ADDRESS : 0;
}

/* Twin of map_to_v4. */
static __always_inline int map_to_v6(const struct config *config, __u32 local, __u32 remote,
				     struct address6 *local6, struct address6 *remote6)
{
	const struct row *row = row_of_v4(config, local);

	if (!row || config->pref64_count == 0)
		return UP_UNKNOWN;
	to_v6(row, local, local6);
	if (is_never_v4(remote) || (config->pref64s[0].strict && !is_global_v4(remote)))
		return UP_ADDRESS;
	embed(&config->pref64s[0], remote, remote6);
	return row_of_v4(config, remote) ? UP_ADDRESS : 0;
}

/* A pointer out of the context. The compiler would make a number of 32 bits of it now and then, which
 * the verifier does not take for a pointer.
 */
#define POINTER(skb, member)                                                                       \
	({                                                                                         \
		const __u8 *pointer;                                                               \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                                              \
			     : "=r"(pointer)                                                       \
			     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, member)));       \
		pointer;                                                                           \
	})

/* The bytes from the IP header on, of which `length` can be read; 0 if the packet is shorter. */
static __always_inline const __u8 *pull(struct __sk_buff *skb, __u32 length)
{
	const __u8 *data = POINTER(skb, data);

	length += LINK_HEADER;
	if (data + length > POINTER(skb, data_end)) {
		if (bpf_skb_pull_data(skb, length))
			return 0;
		data = POINTER(skb, data);
		if (data + length > POINTER(skb, data_end))
			return 0;
	}
	return data + LINK_HEADER;
}

/* Reads a TCP header, `at` bytes behind the start of the IP header. */
static __always_inline int read_tcp(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	const __u8 *header = pull(skb, at + 20);
	__u32 gso = skb->gso_size, length;

	if (packet->payload < 20 || !header)
		return UP_MALFORMED;
	header += at;
	length = (header[12] >> 4) * 4;
	if (length < 20 || length > packet->payload)
		return UP_MALFORMED;
	packet->src_port = *(const __u16 *)header;
	packet->dst_port = *(const __u16 *)(header + 2);
	packet->tcp_flags = header[13];
	packet->check = *(const __u16 *)(header + CSUM_TCP);
	if (gso && length + gso < packet->payload) {
		packet->segment = length + gso;
		packet->segments = (packet->payload - length + gso - 1) / gso;
	}
	return 0;
}

/* Reads the header of a datagram or an echo message, whose requests and replies have these types. */
static __always_inline int read_other(struct __sk_buff *skb, __u32 at, struct packet *packet,
				      __u8 request, __u8 reply)
{
	const __u8 *header = pull(skb, at + 8);

	if (packet->payload < 8 || !header)
		return UP_MALFORMED;
	if (skb->gso_size)
		return UP_OFFLOAD;
	header += at;
	if (packet->protocol == IPPROTO_UDP) {
		packet->src_port = *(const __u16 *)header;
		packet->dst_port = *(const __u16 *)(header + 2);
		packet->check = *(const __u16 *)(header + CSUM_UDP);
		if (bpf_ntohs(*(const __u16 *)(header + 4)) != packet->payload)
			return UP_MALFORMED;
		return packet->check ? 0 : UP_CHECKSUM;
	}
	packet->icmp_type = header[0];
	if (request == 128)
		packet->src_port = *(const __u16 *)(header + IDENTIFIER);
	else
		packet->dst_port = *(const __u16 *)(header + IDENTIFIER);
	packet->check = *(const __u16 *)(header + CSUM_ICMP);
	return (header[0] == request || header[0] == reply) && header[1] == 0 ? 0 : UP_PROTOCOL;
}

/* May the flags of a TCP segment pass here? A flow's state is the worker's. */
static __always_inline int is_open(const struct config *config, const struct packet *packet,
				   int by_flow)
{
	__u8 flags = packet->tcp_flags;

	if (packet->protocol != IPPROTO_TCP)
		return 1;
	/* No flag at all is one of the combinations that the worker refuses [NC-20]. */
	if (by_flow)
		return !(flags & (TCP_SYN | TCP_FIN | TCP_RST)) && flags & TCP_OTHERS;
	return !(flags & TCP_SYN && config->flags & F_CLAMP);
}

/* Finds out how the checksum will change, and whether it can. */
static __always_inline int plan_checksum(const struct packet *packet, struct change *change)
{
	__u32 sum;

	if (packet->protocol == IPPROTO_TCP) {
		change->by_helper = 1;
		return 0;
	}
	/* A field that equals the pseudo-header's sum is most likely one that someone else has to
	 * complete. The helper knows for certain. A checksum of a tunnel's outer datagram, whose inner
	 * packet has such a field, is whole, which the helper does not know.
	 */
	if (packet->protocol == IPPROTO_UDP && packet->check == change->old_pseudo) {
		change->by_helper = 1;
		return 0;
	}
	if (packet->protocol != IPPROTO_UDP && packet->check == change->old_pseudo)
		return UP_CHECKSUM;
	sum = (__u16)~packet->check;
	change->check = ~fold((__u64)sum + change->pseudo + change->covered);
	if (change->check == 0) {
		if (packet->protocol != IPPROTO_UDP)
			return UP_CHECKSUM;
		change->check = 0xffff;
	}
	return 0;
}

/* Writes what changes in the transport header at `at`. */
static __always_inline int change_transport(struct __sk_buff *skb, __u32 at, __u8 protocol,
					    const struct change *change)
{
	__u32 field = protocol == IPPROTO_TCP ? CSUM_TCP :
		      protocol == IPPROTO_UDP ? CSUM_UDP :
						CSUM_ICMP;
	__u64 flags = protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	int error = 0;

	if (change->by_helper) {
		error |= bpf_l4_csum_replace(skb, at + field, 0, change->pseudo,
					     flags | BPF_F_PSEUDO_HDR) != 0;
		if (change->new_ports)
			error |= bpf_l4_csum_replace(skb, at + field, 0, change->covered, flags) !=
				 0;
	} else {
		error |= bpf_skb_store_bytes(skb, at + field, &change->check, 2, 0) != 0;
	}
	if (protocol == IPPROTO_ICMP) {
		__u16 identifier = change->src_port | change->dst_port;

		error |= bpf_skb_store_bytes(skb, at, &change->icmp_type, 1, 0) != 0;
		if (change->new_ports)
			error |= bpf_skb_store_bytes(skb, at + IDENTIFIER, &identifier, 2, 0) != 0;
	} else if (change->new_ports) {
		error |= bpf_skb_store_bytes(skb, at, &change->src_port, 4, 0) != 0;
	}
	return error;
}

static __always_inline void use(struct usage *usage, __u32 bytes)
{
	usage->last_used = bpf_ktime_get_coarse_ns();
	__sync_fetch_and_add(&usage->packets, 1);
	__sync_fetch_and_add(&usage->bytes, bytes);
}

static __always_inline __u32 epoch_now(void)
{
	__u32 zero = 0;
	const __u32 *epoch = bpf_map_lookup_elem(&epochs, &zero);

	return epoch ? *epoch : 0;
}

static __always_inline void load6(const __u32 *words, struct address6 *address)
{
	address->hi = (__u64)bpf_ntohl(words[0]) << 32 | bpf_ntohl(words[1]);
	address->lo = (__u64)bpf_ntohl(words[2]) << 32 | bpf_ntohl(words[3]);
}

static __always_inline void store6(const struct address6 *address, __u32 *words)
{
	words[0] = bpf_htonl(address->hi >> 32);
	words[1] = bpf_htonl(address->hi);
	words[2] = bpf_htonl(address->lo >> 32);
	words[3] = bpf_htonl(address->lo);
}

/* Flows */

static __always_inline __u64 hash(const __u64 *words, int count)
{
	__u64 hash = HASH_KEY[0];

	for (int i = 0; i < count; i++) {
		hash = (hash ^ words[i]) * (HASH_KEY[1] | 1);
		hash ^= hash >> 32;
	}
	/* Each bit of it depends on all of the keys' (the end of MurmurHash3). */
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
	hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
	return hash ^ hash >> 33;
}

static __always_inline __u32 bucket_of(__u32 hash)
{
	return (__u64)hash * BUCKETS >> 32;
}

static __always_inline __u32 tag_of(__u64 hash)
{
	return (__u32)(hash >> 16) | 1;
}

/* The place of a tag; WAYS if it is not there. Without a branch, so that the verifier has one way to
 * follow and not nine.
 */
static __always_inline __u32 way_of(const __u32 *tags, __u32 tag)
{
	__u32 way = 0, hits = 0;

	for (int i = 0; i < WAYS; i++) {
		__u64 differs = tags[i] ^ tag;
		__u32 hit;

		asm volatile("" : "+r"(differs));
		hit = (differs - 1) >> 63;
		hits += hit;
		way += hit * i;
	}
	return hits == 1 ? way & (WAYS - 1) : WAYS;
}

/* Reads the sequence of an entry after, and before, all other loads of it. */
static __always_inline __u32 sequence_of(__u32 *sequence)
{
	__u32 nothing = 0;

	if (!LOADS_PASS_LOADS)
		return *(volatile __u32 *)sequence;
	/* A full barrier. The compiler would make a load of it if it knew that nothing is added. */
	asm volatile("" : "+r"(nothing));
	return __sync_fetch_and_add(sequence, nothing);
}

#define FIND(table, bucket_type, entry_type, key, entry)                                           \
	do {                                                                                       \
		__u64 of_key = hash((const __u64 *)&(key), sizeof(key) / 8);                       \
		__u32 number = bucket_of(of_key);                                                  \
		struct bucket_type *bucket = bpf_map_lookup_elem(&(table), &number);               \
		__u32 way = bucket ? way_of(bucket->tags, tag_of(of_key)) : WAYS;                  \
                                                                                                   \
		if (way >= WAYS) {                                                                 \
			number = bucket_of(of_key >> 32);                                          \
			bucket = bpf_map_lookup_elem(&(table), &number);                           \
			way = bucket ? way_of(bucket->tags, tag_of(of_key)) : WAYS;                \
		}                                                                                  \
		(entry) = bucket && way < WAYS ? &bucket->entries[way] : 0;                        \
	} while (0)

#define compiler_barrier() asm volatile("" ::: "memory")

static __always_inline int same(const void *one, const void *other, int words)
{
	const __u64 *ones = one, *others = other;
	__u64 differs = 0;

	for (int i = 0; i < words; i++)
		differs |= ones[i] ^ others[i];
	return !differs;
}

/* IPv6 to IPv4. The twin is from_v4: the same steps in the same order. */
static __always_inline int from_v6(struct __sk_buff *skb, const struct config *config,
				   struct usage **usage)
{
	__u32 total = skb->len - LINK_HEADER;
	struct packet packet = {};
	struct change change = {};
	struct address6 src, dst;
	__u32 words[8], new_src = 0, new_dst = 0;
	__u64 old_sum, new_sum;
	struct iphdr new = {};
	const struct ipv6hdr *ip;
	int refused, by_flow = 0;
	__u8 hops;
	__u16 class;

	/* Read. */
	ip = (const struct ipv6hdr *)pull(skb, sizeof(*ip));
	if (!ip)
		return UP_MALFORMED;
	packet.payload = bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || packet.payload + sizeof(*ip) != total)
		return UP_MALFORMED;
	switch (ip->nexthdr) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_ICMPV6:
		break;
	case IPPROTO_FRAGMENT:
		return UP_FRAGMENT;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
		return UP_OPTIONS;
	default:
		return UP_PROTOCOL;
	}
	packet.protocol = ip->nexthdr;
	packet.segment = packet.payload;
	packet.segments = 1;
	__builtin_memcpy(words, &ip->saddr, sizeof(words));
	hops = ip->hop_limit;
	class = bpf_ntohs(*(const __u16 *)ip) >> 4 & 0xff;
	refused = packet.protocol == IPPROTO_TCP ? read_tcp(skb, sizeof(*ip), &packet) :
						   read_other(skb, sizeof(*ip), &packet, 128, 129);
	if (refused)
		return refused;
	if (hops <= 1)
		return UP_HOP_LIMIT;
	load6(words, &src);
	load6(words + 4, &dst);
	if (is_never_v6(&src) || is_never_v6(&dst))
		return UP_ADDRESS;
	if (config->flags & F_OWN6 && dst.hi == config->own6_hi && dst.lo == config->own6_lo)
		return UP_ADDRESS;
	/* Does it fit? [RFC 7915 section 5] */
	if (sizeof(new) + packet.payload > LENGTH_MAX ||
	    sizeof(new) + packet.segment > config->mtu4)
		return UP_TOO_BIG;

	/* Decide. */
	if (config->flags & F_FLOWS) {
		struct key6 key = {};
		struct entry6 *entry;

		__builtin_memcpy(key.src, words, 16);
		__builtin_memcpy(key.dst, words + 4, 16);
		key.src_port = packet.src_port;
		key.dst_port = packet.dst_port;
		key.protocol = packet.protocol;
		FIND(flows6, bucket6, entry6, key, entry);
		if (entry) {
			__u32 sequence = sequence_of(&entry->sequence), epoch;
			int is_this;

			compiler_barrier();
			is_this = same(&entry->key, &key, sizeof(key) / 8);
			epoch = entry->epoch;
			new_src = entry->src;
			new_dst = entry->dst;
			change.src_port = entry->src_port;
			change.dst_port = entry->dst_port;
			compiler_barrier();
			/* One that changed meanwhile is in other hands. */
			if (sequence & 1 || sequence_of(&entry->sequence) != sequence)
				return UP_STALE;
			if (is_this) {
				if (epoch != epoch_now())
					return UP_STALE;
				by_flow = 1;
				change.new_ports = 1;
				*usage = &entry->usage;
			}
		}
	}
	if (!by_flow) {
		__u32 local = 0, remote = 0;

		if (!(config->flags & F_MAPPED))
			return UP_UNKNOWN;
		if (config->flags & F_GATEWAY) {
			refused = map_to_v4(config, &src, &dst, &local, &remote);
			new_src = bpf_htonl(local);
			new_dst = bpf_htonl(remote);
		} else {
			refused = map_to_v4(config, &dst, &src, &local, &remote);
			new_src = bpf_htonl(remote);
			new_dst = bpf_htonl(local);
		}
		if (refused)
			return refused;
	}
	if (!is_open(config, &packet, by_flow))
		return UP_TCP_FLAGS;

	/* Plan the checksum. [L4] */
	old_sum = sum4(words) + sum4(words + 4);
	new_sum = (__u64)new_src + new_dst;
	change.old_pseudo = fold(old_sum + bpf_htonl(packet.payload) + bpf_htons(packet.protocol));
	if (packet.protocol == IPPROTO_ICMPV6) {
		change.icmp_type = packet.icmp_type == 128 ? 8 : 0;
		/* Only IPv6 has a pseudo-header. */
		change.pseudo = difference(0, change.old_pseudo);
		change.covered = covered(&packet, &change);
	} else {
		change.pseudo = difference(new_sum, old_sum);
		if (change.new_ports)
			change.covered = covered(&packet, &change);
	}
	refused = plan_checksum(&packet, &change);
	if (refused)
		return refused;

	/* The new header. [X6] */
	new.version = 4;
	new.ihl = 5;
	new.tos = config->flags & F_TOS ? config->tos : class;
	new.tot_len = bpf_htons(packet.payload + sizeof(new));
	new.ttl = hops - 1;
	new.protocol = packet.protocol == IPPROTO_ICMPV6 ? IPPROTO_ICMP : packet.protocol;
	new.saddr = new_src;
	new.daddr = new_dst;
	if (sizeof(new) + packet.segment > DF_THRESHOLD)
		new.frag_off = bpf_htons(0x4000);
	else
		new.id = bpf_htons(identification(config, new_src, new_dst, new.protocol,
						  packet.segments));
	{
		const __u16 *half = (const __u16 *)&new;
		__u32 sum = 0;

		for (int i = 0; i < 10; i++)
			sum += half[i];
		new.check = ~fold(sum);
	}

	/* Change. */
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return UP_KERNEL;
	if (change_transport(skb, LINK_HEADER + sizeof(new), new.protocol, &change) ||
	    bpf_skb_store_bytes(skb, LINK_HEADER, &new, sizeof(new), 0))
		return LOST;
	return CARRIED_6_TO_4;
}

/* IPv4 to IPv6. The twin is from_v6: the same steps in the same order. */
static __always_inline int from_v4(struct __sk_buff *skb, const struct config *config,
				   struct usage **usage)
{
	__u32 total = skb->len - LINK_HEADER;
	struct packet packet = {};
	struct change change = {};
	struct address6 src = {}, dst = {};
	__u32 old_src, old_dst, size;
	__u64 old_sum, new_sum;
	struct ipv6hdr new = {};
	const struct iphdr *ip;
	int refused, by_flow = 0, dont_fragment;
	__u8 hops, tos;

	/* Read. */
	ip = (const struct iphdr *)pull(skb, sizeof(*ip));
	if (!ip || ip->version != 4 || bpf_ntohs(ip->tot_len) != total)
		return UP_MALFORMED;
	if (ip->ihl != 5)
		return ip->ihl < 5 ? UP_MALFORMED : UP_OPTIONS;
	{
		const __u32 *words = (const __u32 *)ip;

		if (fold(sum4(words) + words[4]) != 0xffff)
			return UP_MALFORMED;
	}
	if (ip->frag_off & bpf_htons(0x3fff))
		return UP_FRAGMENT;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP &&
	    ip->protocol != IPPROTO_ICMP)
		return UP_PROTOCOL;
	packet.protocol = ip->protocol;
	packet.payload = total - sizeof(*ip);
	packet.segment = packet.payload;
	packet.segments = 1;
	old_src = ip->saddr;
	old_dst = ip->daddr;
	hops = ip->ttl;
	tos = ip->tos;
	dont_fragment = ip->frag_off & bpf_htons(0x4000);
	refused = packet.protocol == IPPROTO_TCP ? read_tcp(skb, sizeof(*ip), &packet) :
						   read_other(skb, sizeof(*ip), &packet, 8, 0);
	if (refused)
		return refused;
	if (hops <= 1)
		return UP_HOP_LIMIT;
	if (config->flags & F_OWN4 && bpf_ntohl(old_dst) == config->own4)
		return UP_ADDRESS;
	/* Does it fit? [RFC 7915 section 4] */
	size = sizeof(new) + packet.segment;
	if (size > (dont_fragment ? config->mtu6 : config->cut6))
		return UP_TOO_BIG;

	/* Decide. */
	if (config->flags & F_FLOWS) {
		struct key4 key = {};
		struct entry4 *entry;

		key.src = old_src;
		key.dst = old_dst;
		key.src_port = packet.src_port;
		key.dst_port = packet.dst_port;
		key.protocol = packet.protocol;
		FIND(flows4, bucket4, entry4, key, entry);
		if (entry) {
			__u32 sequence = sequence_of(&entry->sequence), epoch;
			int is_this;

			compiler_barrier();
			is_this = same(&entry->key, &key, sizeof(key) / 8);
			epoch = entry->epoch;
			__builtin_memcpy(&new.saddr, entry->src, 16);
			__builtin_memcpy(&new.daddr, entry->dst, 16);
			change.src_port = entry->src_port;
			change.dst_port = entry->dst_port;
			compiler_barrier();
			/* One that changed meanwhile is in other hands. */
			if (sequence & 1 || sequence_of(&entry->sequence) != sequence)
				return UP_STALE;
			if (is_this) {
				if (epoch != epoch_now())
					return UP_STALE;
				by_flow = 1;
				change.new_ports = 1;
				*usage = &entry->usage;
			}
		}
	}
	if (!by_flow) {
		if (!(config->flags & F_MAPPED))
			return UP_UNKNOWN;
		if (config->flags & F_GATEWAY)
			refused = map_to_v6(config, bpf_ntohl(old_dst), bpf_ntohl(old_src), &dst,
					    &src);
		else
			refused = map_to_v6(config, bpf_ntohl(old_src), bpf_ntohl(old_dst), &src,
					    &dst);
		if (refused)
			return refused;
		store6(&src, new.saddr.s6_addr32);
		store6(&dst, new.daddr.s6_addr32);
	}
	if (!is_open(config, &packet, by_flow))
		return UP_TCP_FLAGS;

	/* Plan the checksum. [L4] */
	old_sum = (__u64)old_src + old_dst;
	new_sum = sum4(new.saddr.s6_addr32) + sum4(new.daddr.s6_addr32);
	if (packet.protocol == IPPROTO_ICMP) {
		change.icmp_type = packet.icmp_type == 8 ? 128 : 129;
		/* Only IPv6 has a pseudo-header. */
		change.pseudo = fold32(new_sum + bpf_htonl(packet.payload) +
				       bpf_htons(IPPROTO_ICMPV6));
		change.covered = covered(&packet, &change);
		change.old_pseudo = 0;
	} else {
		change.old_pseudo =
			fold(old_sum + bpf_htons(packet.payload) + bpf_htons(packet.protocol));
		change.pseudo = difference(new_sum, old_sum);
		if (change.new_ports)
			change.covered = covered(&packet, &change);
	}
	refused = plan_checksum(&packet, &change);
	if (refused)
		return refused;

	/* The new header. [X4] */
	if (config->flags & F_TRAFFIC_CLASS)
		tos = config->traffic_class;
	*(__u32 *)&new = bpf_htonl(6u << 28 | (__u32)tos << 20);
	new.payload_len = bpf_htons(packet.payload);
	new.hop_limit = hops - 1;
	new.nexthdr = packet.protocol == IPPROTO_ICMP ? IPPROTO_ICMPV6 : packet.protocol;

	/* Change. */
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0))
		return UP_KERNEL;
	if (change_transport(skb, LINK_HEADER + sizeof(new), packet.protocol, &change) ||
	    bpf_skb_store_bytes(skb, LINK_HEADER, &new, sizeof(new), 0))
		return LOST;
	return CARRIED_4_TO_6;
}

static __always_inline int translate(struct __sk_buff *skb, struct usage **usage)
{
	__u32 zero = 0, slot;
	const struct state *state = bpf_map_lookup_elem(&states, &zero);
	const struct config *config;

	if (!state || state->paused)
		return UP_PAUSED;
	slot = state->slot & 1;
	config = bpf_map_lookup_elem(&configs, &slot);
	if (!config)
		return UP_PAUSED;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return from_v6(skb, config, usage);
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return from_v4(skb, config, usage);
	return UP_PROTOCOL;
}

SEC("classifier")
int fast_path(struct __sk_buff *skb)
{
	__u32 bytes = skb->len - LINK_HEADER;
	struct usage *usage = 0;
	int done = translate(skb, &usage);

	count(done, bytes);
	if (done == LOST)
		return TC_ACT_SHOT;
	if (done > LOST)
		return TC_ACT_OK;
	if (usage)
		use(usage, bytes);
	/* What comes out of a TUN has no mark. */
	skb->mark = 0;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* As everything beside it; the helpers it calls ask for no more. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
