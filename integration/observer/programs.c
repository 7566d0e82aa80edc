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

/* Before segments that the driver cannot take are cut. */
TRACEPOINT_PROBE(net, net_dev_queue)
{
	struct passing key = { .direction = SENT };

	TP_DATA_LOC_READ_STR(&key.interface, name, sizeof(key.interface));
	count_passing(&key, args->len);
	return 0;
}

/* Before the driver has it; afterwards it may be gone. */
TRACEPOINT_PROBE(net, net_dev_start_xmit)
{
	const struct sk_buff *skb = args->skbaddr;

	if (skb->dev->ifindex == UNDERLAY)
		count_wire(skb->data + ETH_HLEN, SENT, bpf_ntohs(skb->protocol));
	return 0;
}

/* Before clsact, and after GRO. */
TRACEPOINT_PROBE(net, netif_receive_skb)
{
	struct passing key = { .direction = RECEIVED };
	const struct sk_buff *skb = args->skbaddr;

	TP_DATA_LOC_READ_STR(&key.interface, name, sizeof(key.interface));
	count_passing(&key, args->len);
	if (skb->dev->ifindex == UNDERLAY)
		count_wire(skb->data, RECEIVED, bpf_ntohs(skb->protocol));
	return 0;
}

TRACEPOINT_PROBE(skb, kfree_skb)
{
	struct drop key = { .reason = args->reason, .location = (u64)args->location };
	const struct sk_buff *skb = args->skbaddr;
	const struct net_device *device = skb->dev;

	key.is_tc_ingress = args->reason == SKB_DROP_REASON_TC_INGRESS;
	if (device)
		bpf_probe_read_kernel(&key.interface, sizeof(key.interface), device->name);
	freed.increment(key);
	return 0;
}
