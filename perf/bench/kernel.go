package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"fairlead/perf/lab"
)

// The forwarders of the kernel's own: they work where frames are received, in
// NAPI threads on a CPU apart from the generator's.

// nftablesDNAT is how kube-proxy forwards in its nftables mode: a map of
// services leads to a chain that picks a backend by a random number, and
// conntrack remembers it.
var nftablesDNAT = contestant{
	name:      "nftables-dnat",
	what:      "the kernel's stack with conntrack: DNAT by nftables maps, as kube-proxy has them",
	inKernel:  true,
	midstream: true,
	refuse: func(k *kit, c Case) string {
		if _, err := exec.LookPath("nft"); err != nil {
			return "nft is not installed"
		}
		if limit := conntrackLimit(); c.Flows > limit {
			return fmt.Sprintf("conntrack holds %d flows here (sysctl net.netfilter.nf_conntrack_max)", limit)
		}
		return ""
	},
	start: startNFTables,
}

// conntrackLimit is how many flows conntrack may hold: a setting of the
// machine's that namespaces cannot raise. Where the module is not loaded yet it
// is unknown and taken for its usual value.
func conntrackLimit() int {
	const usual = 262144
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil {
		return usual
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return usual
	}
	return limit
}

func startNFTables(ctx context.Context, k *kit, w *world, c Case) (*forwarder, error) {
	f, err := startInKernel(k, w, objectProgPass, nil)
	if err != nil {
		return nil, err
	}
	if err := loadRules(ctx, w.in.Host, nftRules(w.of(c), c)); err != nil {
		return nil, errors.Join(err, f.stop())
	}
	detach := f.stop
	f.stop = func() error {
		return errors.Join(loadRules(context.Background(), w.in.Host, "flush ruleset\n"), detach())
	}
	return f, nil
}

func nftRules(a *addresses, c Case) string {
	var b strings.Builder
	family, addressType := "ip", "ipv4_addr"
	if c.IPv6 {
		family, addressType = "ip6", "ipv6_addr"
	}
	fmt.Fprintf(&b, "flush ruleset\ntable %s bench {\n", family)
	targets := make([]string, len(a.backends))
	for i, backend := range a.backends {
		fmt.Fprintf(&b, "chain endpoint%d { meta l4proto %s dnat to %s; }\n", i, c.Protocol, netip.AddrPortFrom(backend, servicePort))
		targets[i] = fmt.Sprintf("%d : goto endpoint%d", i, i)
	}
	fmt.Fprintf(&b, "chain service { numgen random mod %d vmap { %s }; }\n", len(targets), strings.Join(targets, ", "))
	fmt.Fprintf(&b, "map services {\ntype %s . inet_proto . inet_service : verdict\n"+
		"elements = { %s . %s . %d : goto service }\n}\n", addressType, a.vip, c.Protocol, servicePort)
	fmt.Fprintf(&b, "chain prerouting {\ntype nat hook prerouting priority dstnat; policy accept;\n"+
		"%s daddr . meta l4proto . th dport vmap @services\n}\n}\n", family)
	return b.String()
}

func loadRules(ctx context.Context, h *lab.Host, rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	p, err := h.Start(cmd)
	if err != nil {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(p.Output()))
	}
	return nil
}

// xdpEncapsulation is as much as a balancer in XDP could ever reach.
var xdpEncapsulation = contestant{
	name:     "xdp-encap",
	what:     "XDP program that puts every packet into the same IP tunnel: the kernel's limit",
	sink:     sinkXDP,
	inKernel: true,
	start: func(_ context.Context, k *kit, w *world, c Case) (*forwarder, error) {
		outIfindex := uint32(0)
		if w.out != w.in {
			outIfindex = uint32(w.out.Index)
		}
		outer, program := outerHeaders(w, c), objectProgEncapsulate
		if c.IPv6 {
			program = objectProgEncapsulate6
		}
		var words [7]uint64
		padded := append(bytes.Clone(outer), make([]byte, 8*len(words)-len(outer))...)
		for i := range words {
			words[i] = binary.NativeEndian.Uint64(padded[8*i:])
		}
		return startInKernel(k, w, program, map[string]any{
			objectVarOuter:      words,
			objectVarOuterSum:   uint32(sum(outer[ethernetLen:])),
			objectVarOutIfindex: outIfindex,
		})
	},
}

// outerHeaders are the Ethernet and IP headers of a tunnel to the first backend,
// with length and checksum as zero.
func outerHeaders(w *world, c Case) []byte {
	a := w.of(c)
	size, etherType, write, inner := ipv4Len, uint16(etherIPv4), writeIPv4, byte(protocolIPv4)
	if c.IPv6 {
		size, etherType, write, inner = ipv6Len, etherIPv6, writeIPv6, protocolIPv6
	}
	h := make([]byte, ethernetLen+size)
	copy(h, w.out.Peer.MAC)
	copy(h[6:], w.out.MAC)
	binary.BigEndian.PutUint16(h[12:], etherType)
	write(h[ethernetLen:], inner, a.gateway, a.backends[0])
	return h
}

// startInKernel attaches a program to the balancer's interface and gives the
// interface a thread of its own.
func startInKernel(k *kit, w *world, program string, variables map[string]any) (*forwarder, error) {
	attached, err := attachXDP(w.in, program, variables)
	if err != nil {
		return nil, err
	}
	threads, err := threadNAPI(w.in, k.cpus.worker)
	if err != nil {
		return nil, errors.Join(err, attached.Close())
	}
	return &forwarder{pids: threads.PIDs(), stop: func() error {
		return errors.Join(threads.Close(), attached.Close())
	}}, nil
}
