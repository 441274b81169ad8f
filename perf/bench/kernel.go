package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
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
	if err := loadRules(ctx, w, nftRules(w, c)); err != nil {
		return nil, errors.Join(err, f.stop())
	}
	detach := f.stop
	f.stop = func() error {
		return errors.Join(loadRules(context.Background(), w, "flush ruleset\n"), detach())
	}
	return f, nil
}

func nftRules(w *world, c Case) string {
	var b strings.Builder
	fmt.Fprintf(&b, "flush ruleset\ntable ip bench {\n")
	targets := make([]string, len(w.backends))
	for i, backend := range w.backends {
		fmt.Fprintf(&b, "chain endpoint%d { meta l4proto %s dnat to %s:%d; }\n", i, c.Protocol, backend, servicePort)
		targets[i] = fmt.Sprintf("%d : goto endpoint%d", i, i)
	}
	fmt.Fprintf(&b, "chain service { numgen random mod %d vmap { %s }; }\n", len(targets), strings.Join(targets, ", "))
	fmt.Fprintf(&b, "map services {\ntype ipv4_addr . inet_proto . inet_service : verdict\n"+
		"elements = { %s . %s . %d : goto service }\n}\n", vip, c.Protocol, servicePort)
	fmt.Fprintf(&b, "chain prerouting {\ntype nat hook prerouting priority dstnat; policy accept;\n"+
		"ip daddr . meta l4proto . th dport vmap @services\n}\n}\n")
	return b.String()
}

func loadRules(ctx context.Context, w *world, rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	p, err := w.in.Host.Start(cmd)
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
	start: func(_ context.Context, k *kit, w *world, _ Case) (*forwarder, error) {
		outIfindex := uint32(0)
		if w.out != w.in {
			outIfindex = uint32(w.out.Index)
		}
		outer := outerHeaders(w)
		var words [5]uint64
		padded := append(bytes.Clone(outer), make([]byte, 8*len(words)-len(outer))...)
		for i := range words {
			words[i] = binary.NativeEndian.Uint64(padded[8*i:])
		}
		return startInKernel(k, w, objectProgEncapsulate, map[string]any{
			objectVarOuter:      words,
			objectVarOuterSum:   uint32(sum(outer[ethernetLen:])),
			objectVarOutIfindex: outIfindex,
		})
	},
}

// outerHeaders are the Ethernet and IPv4 headers of a tunnel to the first
// backend, with length and checksum as zero.
func outerHeaders(w *world) []byte {
	h := make([]byte, ethernetLen+ipv4Len)
	copy(h, w.out.Peer.MAC)
	copy(h[6:], w.out.MAC)
	binary.BigEndian.PutUint16(h[12:], 0x0800)
	ip := h[ethernetLen:]
	ip[0] = 0x45
	ip[8] = 64
	ip[9] = protocolIPIP
	copy(ip[12:], w.gateway.AsSlice())
	copy(ip[16:], w.backends[0].AsSlice())
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
