/* Counts at the kernel's own tracepoints. Compiled in the guest, with the headers of its kernel:
 * fields of sk_buff and numbers of drop reasons are different in each.
 */
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
/* BCC 0.26 has a uapi/linux/bpf.h of its own, without what this kernel's linux/bpf.h measures. */
struct bpf_refcount {
	u32 opaque;
} __attribute__((aligned(4)));
struct bpf_rb_root {
	u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_rb_node {
	u64 opaque[4];
} __attribute__((aligned(8)));
struct bpf_wq {
	u64 opaque[2];
} __attribute__((aligned(8)));
#endif
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/udp.h>
#include <net/dropreason.h>

#define SENT 1
#define RECEIVED 2

struct interface {
	char name[IFNAMSIZ];
};

struct passing {
	struct interface interface;
	u32 direction;
};

struct tally {
	u64 packets;
	u64 bytes;
};

struct drop {
	struct interface interface;
	u32 reason;
	u32 is_tc_ingress; /* By the headers; the reason's name is the running kernel's. */
	u64 location; /* Where in the kernel. */
};

/* What a packet on the underlay is, as anybody there sees it. Source and destination: ports of TCP
 * and UDP over IPv4, the first 16 bits of the addresses of IPv6.
 */
struct wire {
	u32 direction;
	u16 ethertype;
	u16 protocol;
	u16 source;
	u16 destination;
};

BPF_HASH(passed, struct passing, struct tally, 1024);
BPF_HASH(freed, struct drop, u64, 1024);
BPF_HASH(wires, struct wire, u64, 4096);

static inline void count_passing(struct passing *key, u32 bytes)
{
	struct tally none = {}, *tally = passed.lookup_or_try_init(key, &none);

	if (!tally)
		return;
	__sync_fetch_and_add(&tally->packets, 1);
	__sync_fetch_and_add(&tally->bytes, bytes);
}

static inline void count_wire(void *packet, u32 direction, u16 ethertype)
{
	struct wire key = { .direction = direction, .ethertype = ethertype };
	struct udphdr ports = {};
	struct ipv6hdr ip6 = {};
	struct iphdr ip = {};

	if (ethertype == ETH_P_IPV6) {
		bpf_probe_read_kernel(&ip6, sizeof(ip6), packet);
		key.protocol = ip6.nexthdr;
		key.source = bpf_ntohs(ip6.saddr.s6_addr16[0]);
		key.destination = bpf_ntohs(ip6.daddr.s6_addr16[0]);
	} else if (ethertype == ETH_P_IP) {
		bpf_probe_read_kernel(&ip, sizeof(ip), packet);
		key.protocol = ip.protocol;
		if (ip.protocol == IPPROTO_UDP || ip.protocol == IPPROTO_TCP) {
			bpf_probe_read_kernel(&ports, sizeof(ports), packet + sizeof(ip));
			key.source = bpf_ntohs(ports.source);
			key.destination = bpf_ntohs(ports.dest);
		}
	}
	wires.increment(key);
}

static inline u32 device_of(const struct sk_buff *skb, struct interface *interface)
{
	struct net_device *device = NULL;
	u32 ifindex = 0;

	bpf_probe_read_kernel(&device, sizeof(device), &skb->dev);
	if (!device)
		return 0;
	bpf_probe_read_kernel(&ifindex, sizeof(ifindex), &device->ifindex);
	bpf_probe_read_kernel_str(interface->name, sizeof(interface->name), device->name);
	return ifindex;
}

static inline u32 count_packet(const struct sk_buff *skb, u32 direction)
{
	struct passing key = { .direction = direction };
	u32 ifindex = device_of(skb, &key.interface), bytes = 0;

	bpf_probe_read_kernel(&bytes, sizeof(bytes), &skb->len);
	count_passing(&key, bytes);
	return ifindex;
}

static inline void count_on_underlay(const struct sk_buff *skb, u32 direction, u32 link_bytes)
{
	void *data = NULL;
	u16 ethertype = 0;

	bpf_probe_read_kernel(&data, sizeof(data), &skb->data);
	bpf_probe_read_kernel(&ethertype, sizeof(ethertype), &skb->protocol);
	count_wire(data + link_bytes, direction, bpf_ntohs(ethertype));
}

/* Raw tracepoints: the kernel lets a program at one interrupt another. At tracepoints of the other
 * kind, what comes while any program of theirs runs on the processor is not counted at all: a
 * packet that interrupts the count of a drop.
 */

/* Before segments that the driver cannot take are cut. */
RAW_TRACEPOINT_PROBE(net_dev_queue)
{
	count_packet((const struct sk_buff *)ctx->args[0], SENT);
	return 0;
}

/* Before the driver has it; afterwards it may be gone. */
RAW_TRACEPOINT_PROBE(net_dev_start_xmit)
{
	const struct sk_buff *skb = (const struct sk_buff *)ctx->args[0];
	struct interface interface = {};

	if (device_of(skb, &interface) == UNDERLAY)
		count_on_underlay(skb, SENT, ETH_HLEN);
	return 0;
}

/* Before clsact, and after GRO. */
RAW_TRACEPOINT_PROBE(netif_receive_skb)
{
	const struct sk_buff *skb = (const struct sk_buff *)ctx->args[0];

	if (count_packet(skb, RECEIVED) == UNDERLAY)
		count_on_underlay(skb, RECEIVED, 0);
	return 0;
}

RAW_TRACEPOINT_PROBE(kfree_skb)
{
	const struct sk_buff *skb = (const struct sk_buff *)ctx->args[0];
	struct drop key = { .location = ctx->args[1], .reason = ctx->args[2] };

	key.is_tc_ingress = key.reason == SKB_DROP_REASON_TC_INGRESS;
	device_of(skb, &key.interface);
	freed.increment(key);
	return 0;
}
