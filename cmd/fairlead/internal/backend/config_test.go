package backend

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/xdp/decap"
)

func TestParseConfig(t *testing.T) {
	got, err := ParseConfig(
		[]string{"eth0", "eth1", "eth0"},
		[]string{"198.18.0.10", "2001:db8::10", "198.18.0.10", "2001:DB8:0::10"},
		[]string{"198.18.10.1", "198.18.10.0/24", "2001:db8:10::/64", "2001:db8::1", "198.18.10.1/32"},
		6081, "native", "/sys/fs/bpf/here", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Interfaces: []string{"eth0", "eth1"},
		VIPs:       []netip.Addr{netip.MustParseAddr("198.18.0.10"), netip.MustParseAddr("2001:db8::10")},
		From: []netip.Prefix{
			netip.MustParsePrefix("198.18.10.1/32"), netip.MustParsePrefix("198.18.10.0/24"),
			netip.MustParsePrefix("2001:db8:10::/64"), netip.MustParsePrefix("2001:db8::1/128"),
		},
		GUEPort: 6081, Mode: decap.ModeNative, PinPath: "/sys/fs/bpf/here", Report: time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestParseConfigErrors(t *testing.T) {
	for _, c := range []struct {
		interfaces, vips, from []string
		port                   uint16
		mode, pin              string
		report                 time.Duration
		want                   []string
	}{
		{want: []string{"--interface is needed: name the interface that load balancers' packets arrive on"}},
		{interfaces: []string{""}, want: []string{"--interface is needed: name the interface that load balancers' packets arrive on"}},
		{
			vips: []string{"", "vip.example", "198.18.0.0/24", "198.18.0.256", "fe80::1%eth0", "::ffff:198.18.0.1", "0.0.0.0", "::", "224.0.0.5", "ff02::1", "127.0.0.1", "::1", "169.254.1.1", "fe80::1"},
			want: []string{
				"--interface is needed: name the interface that load balancers' packets arrive on",
				"--vip : not an IP address",
				"--vip vip.example: not an IP address",
				"--vip 198.18.0.0/24: not an IP address",
				"--vip 198.18.0.256: not an IP address",
				"--vip fe80::1%eth0: has a zone; write the plain address",
				"--vip ::ffff:198.18.0.1: IPv4-mapped; write it as 198.18.0.1",
				"--vip 0.0.0.0: not an address that clients can reach",
				"--vip ::: not an address that clients can reach",
				"--vip 224.0.0.5: not an address that clients can reach",
				"--vip ff02::1: not an address that clients can reach",
				"--vip 127.0.0.1: not an address that clients can reach",
				"--vip ::1: not an address that clients can reach",
				"--vip 169.254.1.1: not an address that clients can reach",
				"--vip fe80::1: not an address that clients can reach",
			},
		},
		{
			interfaces: []string{"eth0"},
			from:       []string{"lb1", "198.18.0.0/33", "198.18.0.1/24", "2001:db8::1/64", "::ffff:198.18.0.1", "::ffff:198.18.0.0/120", "fe80::1%eth0"},
			want: []string{
				"--from lb1: not an IP address or prefix",
				"--from 198.18.0.0/33: not an IP address or prefix",
				"--from 198.18.0.1/24: bits are set after the prefix; write it as 198.18.0.0/24",
				"--from 2001:db8::1/64: bits are set after the prefix; write it as 2001:db8::/64",
				"--from ::ffff:198.18.0.1: IPv4-mapped; write it as 198.18.0.1",
				"--from ::ffff:198.18.0.0/120: IPv4-mapped; write it as an IPv4 prefix",
				"--from fe80::1%eth0: has a zone; write the plain address",
			},
		},
		{
			interfaces: []string{"eth0"}, mode: "fast", report: -time.Second,
			want: []string{"--mode fast: it must be auto, native, generic or none", "--report -1s: it must not be negative"},
		},
		{
			interfaces: []string{"eth0"}, mode: "none", pin: "/sys/fs/bpf", from: []string{"198.18.0.1"},
			want: []string{
				"--mode none without --vip leaves nothing to do",
				"--mode none checks no packet: --from has no effect with it",
				"--mode none has no program: --pin has no effect with it",
			},
		},
	} {
		if c.mode == "" {
			c.mode = "auto"
		}
		_, err := ParseConfig(c.interfaces, c.vips, c.from, max(c.port, 1), c.mode, c.pin, c.report)
		if want := strings.Join(c.want, "\n"); err == nil || err.Error() != want {
			t.Errorf("%+v:\n%v\nwant:\n%s", c, err, want)
		}
	}
	if _, err := ParseConfig([]string{"eth0"}, nil, nil, 0, "auto", "", 0); err == nil || err.Error() != "--gue-port 0: it must be 1 to 65535" {
		t.Error(err)
	}
}

func TestMissingCapabilities(t *testing.T) {
	const admin, bpf, sys = uint64(1) << unix.CAP_NET_ADMIN, uint64(1) << unix.CAP_BPF, uint64(1) << unix.CAP_SYS_ADMIN
	for _, c := range []struct {
		mode decap.Mode
		have uint64
		want string
	}{
		{decap.ModeAuto, admin | bpf, ""},
		{decap.ModeAuto, admin | sys, ""},
		{decap.ModeAuto, ^uint64(0), ""},
		{decap.ModeAuto, 0, "CAP_NET_ADMIN and CAP_BPF missing: run it as root, or give it the capabilities"},
		{decap.ModeAuto, admin, "CAP_BPF missing: run it as root, or give it the capabilities"},
		{decap.ModeAuto, bpf | sys, "CAP_NET_ADMIN missing: run it as root, or give it the capabilities"},
		{ModeNone, admin, ""},
		{ModeNone, bpf, "CAP_NET_ADMIN missing: run it as root, or give it the capabilities"},
	} {
		got := ""
		if err := missing(c.mode, c.have); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s with %#x: %q, want %q", c.mode, c.have, got, c.want)
		}
	}
}
