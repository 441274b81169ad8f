package bugreport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// files are what is read of the machine.
var files = []string{
	"/proc/version", "/proc/cpuinfo", "/proc/meminfo", "/proc/interrupts", "/proc/softirqs", "/proc/net/softnet_stat", "/proc/net/dev",
	"/proc/net/snmp", "/proc/net/netstat", "/proc/net/sockstat", "/proc/loadavg", "/proc/uptime", "/proc/modules", "/etc/os-release",
}

// settings are the kernel's settings that matter to a load balancer.
var settings = []string{
	"/proc/sys/net/core/bpf_*", "/proc/sys/net/core/netdev_*", "/proc/sys/net/core/rmem_*", "/proc/sys/net/core/wmem_*", "/proc/sys/net/core/busy_*",
	"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/*/rp_filter", "/proc/sys/net/ipv4/conf/*/arp_*",
	"/proc/sys/net/ipv4/neigh/default/*", "/proc/sys/net/ipv6/conf/*/forwarding", "/proc/sys/vm/nr_hugepages", "/proc/sys/kernel/unprivileged_bpf_disabled",
}

// commands are asked where they are installed. Each only looks.
var commands = [][]string{
	{"uname", "-a"}, {"ip", "-details", "-statistics", "link"}, {"ip", "address"}, {"ip", "rule"}, {"ip", "route", "show", "table", "all"},
	{"ip", "-6", "route", "show", "table", "all"}, {"ip", "-statistics", "neigh"}, {"systemctl", "--no-pager", "status", "fairlead"},
}

// perInterface are asked for each interface that the node drives.
var perInterface = [][]string{
	{"ethtool", "-i"}, {"ethtool", "-k"}, {"ethtool", "-l"}, {"ethtool", "-g"}, {"ethtool", "-x"}, {"ethtool", "-S"},
}

// Machine adds what is found out about the machine that this process runs on,
// and about some of its interfaces.
func (r *Report) Machine(ctx context.Context, interfaces []string) error {
	for _, path := range files {
		text, err := readFile(path)
		if err := r.Add("machine"+path, text, err); err != nil {
			return err
		}
	}
	if err := r.Add("machine/settings.txt", readSettings(), nil); err != nil {
		return err
	}
	for _, command := range commands {
		if err := r.command(ctx, command); err != nil {
			return err
		}
	}
	for _, name := range interfaces {
		for _, command := range perInterface {
			if err := r.command(ctx, append(command[:len(command):len(command)], name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxItem+1))
	if text == nil {
		text = []byte{}
	}
	return text, err
}

func readSettings() []byte {
	var out bytes.Buffer
	for _, pattern := range settings {
		paths, _ := filepath.Glob(pattern) // the patterns are well-formed
		for _, path := range paths {
			if text, err := readFile(path); err == nil {
				fmt.Fprintf(&out, "%s = %s\n", strings.ReplaceAll(strings.TrimPrefix(path, "/proc/sys/"), "/", "."), strings.TrimSpace(string(text)))
			}
		}
	}
	return out.Bytes()
}

// command adds what a command says. One that is not installed is listed as such.
func (r *Report) command(ctx context.Context, command []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out := &bounded{left: MaxItem + 1}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stdout, c.Stderr, c.WaitDelay = out, out, time.Second
	err := c.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return r.Add(commandFile(command), nil, err)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return r.Add(commandFile(command), append([]byte{}, out.text.Bytes()...), err)
}

// commandFile is the name of the file for what a command says.
func commandFile(command []string) string {
	return "machine/" + strings.ReplaceAll(strings.Join(command, "_"), "/", "-") + ".txt"
}

// bounded keeps so many bytes and drops the rest.
type bounded struct {
	text bytes.Buffer
	left int
}

// Write never fails, so that the command goes on.
func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.text.Write(p[:n])
	b.left -= n
	return len(p), nil
}
