package doctor

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// kernel looks at what the kernel must have and how it is set.
func (d *doctor) kernel() {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case err == nil:
		unix.Close(fd)
		d.ok("af_xdp", "", "the kernel has AF_XDP sockets")
	case errors.Is(err, unix.EPERM):
		d.add(Finding{Status: Warning, Check: "af_xdp", Found: "this process may not open AF_XDP sockets", Advice: "run the examination as root"})
	default:
		d.add(Finding{Status: Error, Check: "af_xdp", Found: fmt.Sprintf("the kernel opens no AF_XDP socket: %v", err), Advice: "boot a kernel with CONFIG_XDP_SOCKETS=y"})
	}
	switch jit, ok := number(d.sys.proc, "sys/net/core/bpf_jit_enable"); {
	case !ok:
		d.add(Finding{Status: Warning, Check: "bpf_jit", Found: "whether the kernel compiles BPF programs cannot be read", Advice: "look at net.core.bpf_jit_enable as root"})
	case jit == 0:
		d.add(Finding{Status: Warning, Check: "bpf_jit", Found: "BPF programs are interpreted: the XDP program takes several times as long",
			Advice: "have them compiled", Command: "sysctl -w net.core.bpf_jit_enable=1"})
	default:
		d.ok("bpf_jit", "", "BPF programs are compiled (net.core.bpf_jit_enable = %d)", jit)
	}
	if busy := d.cfg.Dataplane.BusyPoll; busy == 0 {
		if n, ok := number(d.sys.proc, "sys/net/core/busy_poll"); ok && n > 0 {
			d.add(Finding{Status: Warning, Check: "busy_poll", Found: fmt.Sprintf("every socket of the host is polled for %d us (net.core.busy_poll), which takes CPU time from the workers", n),
				Advice: "switch it off, and use busy_poll of [dataplane]", Command: "sysctl -w net.core.busy_poll=0"})
		}
	}
	d.conntrack()
}

// conntrack looks whether the host's own connections, health checks among them,
// are about to be refused. VIP traffic is not tracked.
func (d *doctor) conntrack() {
	count, ok1 := number(d.sys.proc, "sys/net/netfilter/nf_conntrack_count")
	most, ok2 := number(d.sys.proc, "sys/net/netfilter/nf_conntrack_max")
	switch {
	case !ok1 || !ok2 || most == 0:
	case count > most/10*8:
		d.add(Finding{Status: Warning, Check: "conntrack", Found: fmt.Sprintf("the host tracks %d connections of at most %d; when that is full, health checks are refused", count, most),
			Advice: "allow more of them", Command: fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*most)})
	default:
		d.ok("conntrack", "", "the host tracks %d connections of at most %d; VIP traffic is not among them", count, most)
	}
}

// clock looks whether the clock is kept right: logs, certificates of the API
// and drain deadlines depend on it.
func (d *doctor) clock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	const unsynchronized = 5 // TIME_ERROR
	switch {
	case err != nil:
		d.add(Finding{Status: Warning, Check: "time_sync", Found: fmt.Sprintf("ask the kernel for its clock: %v", err), Advice: "look whether chrony or systemd-timesyncd runs"})
	case state == unsynchronized || t.Status&unix.STA_UNSYNC != 0:
		d.add(Finding{Status: Warning, Check: "time_sync", Found: "nothing keeps the clock right: logs of several nodes do not fit together",
			Advice: "run chrony or systemd-timesyncd", Command: "timedatectl set-ntp true"})
	default:
		d.ok("time_sync", "", "the clock is synchronized, to within %d us", t.Maxerror)
	}
}
