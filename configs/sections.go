package configs

import (
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// config reads the whole document. Its result means nothing when the reader
// has found something wrong.
func (r *reader) config(root *table) *Config {
	c := Default()
	if r.objects {
		r.onlyObjects(root)
	}
	r.node(root.sub("node", "[node]"), c)
	r.dataplane(root.sub("dataplane", "[dataplane]"), &c.Dataplane)
	r.xdp(root.sub("xdp", "[xdp]"), &c.XDP)
	r.store(root.sub("state", "[state]"), &c.Store)
	r.api(root.sub("api", "[api]"), &c.API)
	r.arp(root.sub("arp", "[arp]"), &c.ARP)
	r.metrics(root.sub("metrics", "[metrics]"), &c.Metrics)
	r.lifecycle(root.sub("lifecycle", "[lifecycle]"), &c.Lifecycle)
	r.cluster(root, c)
	r.interfaces(root.list("interface", "[[interface]]"), c)
	r.neighbors(root.list("neighbor", "[[neighbor]]"), c)
	r.bgp(root, &c.BGP)
	r.state(root, c)
	r.kubernetes(root, c)
	root.finish()
	return c
}

var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

func (r *reader) node(t *table, c *Config) {
	n := &c.Node
	n.Name = t.text("name", n.Name)
	if strings.ContainsFunc(n.Name, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }) || len(n.Name) > 253 {
		t.refuse("name", "%q is no name for a node: at most 253 bytes, no spaces, nothing unprintable", n.Name)
	}
	c.State.HashSeed = parseSeed(t.text("hash_seed", seedText))
	if c.State.HashSeed == ([2]uint64{}) {
		t.refuse("hash_seed", "all zeros are no seed")
	}
	n.LogLevel = logLevels[choice(t, "log_level", "info", "debug", "info", "warn", "error")]
	n.LogFormat = choice(t, "log_format", n.LogFormat, LogText, LogJSON)
	r.logLimits(t, n)
	t.finish()
}

func (r *reader) dataplane(t *table, d *Dataplane) {
	d.RingSize = t.integer("ring_size", d.RingSize, minRing, maxRing)
	if d.RingSize&(d.RingSize-1) != 0 {
		t.refuse("ring_size", "%d is not a power of two", d.RingSize)
	}
	d.Frames = t.integer("frames", d.Frames, minFrames, maxFrames)
	if !t.bad && d.Frames < 2*d.RingSize {
		t.refuse("frames", "%d frames are fewer than twice the ring size of %d, and one ring would starve the other", d.Frames, d.RingSize)
	}
	r.frameSize(t, d)
	d.FlowTableSize = t.integer("flow_table_size", d.FlowTableSize, minFlows, maxFlows)
	d.FlowMemo = choice(t, "flow_memo", d.FlowMemo, FlowMemoAuto, FlowMemoOn, FlowMemoOff)
	d.FlowMemoSize = t.countOrAuto("flow_memo_size", d.FlowMemoSize, maxFlows)
	d.Queues = t.countOrAuto("queues", d.Queues, maxQueues)
	d.CPUs = r.cpus(t)
	d.BusyPoll = t.duration("busy_poll", d.BusyPoll, 0, maxBusyPoll, time.Microsecond)
	d.BusyPollBudget = t.integer("busy_poll_budget", d.BusyPollBudget, 1, maxBusyPollBudget)
	d.HugePages = t.flag("huge_pages", d.HugePages)
	d.Spin = t.duration("spin", d.Spin, 0, maxSpin, time.Microsecond)
	d.User = r.user(t, d.User)
	t.finish()
}

// frameSize reads the layout of a frame, and sees to it that a full-sized
// packet fits.
func (r *reader) frameSize(t *table, d *Dataplane) {
	before := len(r.found)
	d.FrameSize = t.integer("frame_size", d.FrameSize, 2048, 4096)
	if d.FrameSize != 2048 && d.FrameSize != 4096 {
		t.refuse("frame_size", "%d is neither 2048 nor 4096", d.FrameSize)
	}
	d.Headroom = t.integer("headroom", d.Headroom, minHeadroom, maxHeadroom)
	if room := d.FrameSize - kernelHeadroom - d.Headroom; len(r.found) == before && room < leastFrame {
		t.refuse("headroom", "%d bytes of headroom and %d of the kernel's leave %d of a frame of %d; a full-sized packet needs %d",
			d.Headroom, kernelHeadroom, room, d.FrameSize, leastFrame)
	}
}

// cpus reads the list of CPUs to pin workers to.
func (r *reader) cpus(t *table) []int {
	v, there := t.get("cpus")
	if !there {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		t.refuse("cpus", "expected an array of CPU numbers, found %s", kind(v))
		return nil
	}
	var out []int
	for i, e := range list {
		n, ok := e.(int64)
		switch {
		case !ok:
			t.refuseElement("cpus", i, "expected a CPU number, found %s", kind(e))
		case n < 0 || n > maxCPU:
			t.refuseElement("cpus", i, "%d is out of range; it must be 0 to %d", n, maxCPU)
		case slices.Contains(out, int(n)):
			t.refuseElement("cpus", i, "CPU %d is listed twice", n)
		default:
			out = append(out, int(n))
		}
	}
	return out
}

// user reads the data process's user: a name or a number.
func (r *reader) user(t *table, fallback string) string {
	v, there := t.get("user")
	if !there {
		return fallback
	}
	name := ""
	switch v := v.(type) {
	case string:
		name = v
	case int64:
		name = strconv.FormatInt(v, 10)
	default:
		t.refuse("user", "expected a user name or number, found %s", kind(v))
		return fallback
	}
	if n, err := strconv.ParseInt(name, 10, 64); err == nil && (n < 0 || n >= 1<<32-1) {
		t.refuse("user", "%d is out of range; it must be 1 to 4294967294", n)
		return fallback
	} else if err == nil && n == 0 || name == "root" {
		t.refuse("user", "the data process must not run as root")
		return fallback
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == ':' || r == '/' || r >= 0x7f }) {
		t.refuse("user", "%q is not the name of a user", name)
		return fallback
	}
	return name
}

func (r *reader) xdp(t *table, x *XDP) {
	x.PinPath = t.text("pin_path", x.PinPath)
	if x.PinPath != "" && (!path.IsAbs(x.PinPath) || path.Clean(x.PinPath) != x.PinPath || strings.ContainsRune(x.PinPath, 0)) {
		t.refuse("pin_path", "%q is not a plain absolute path", x.PinPath)
	}
	t.finish()
}

func (r *reader) interfaces(list []*table, c *Config) {
	for i, t := range list {
		name := t.text("name", "")
		switch wrong := badInterfaceName(name); {
		case !t.require("name") || t.bad:
		case wrong != "":
			t.refuse("name", "%q is no name of an interface: %s", name, wrong)
		case slices.ContainsFunc(c.Interfaces, func(have Interface) bool { return have.Name == name }):
			t.refuse("name", "interface %q is listed twice", name)
		case i == maxInterfaces:
			t.refuse("name", "interface %q is one too many; there may be %d", name, maxInterfaces)
		}
		out := Interface{
			Name:       name,
			Queues:     t.countOrAuto("queues", c.Dataplane.Queues, maxQueues),
			XDPMode:    choice(t, "xdp_mode", XDPAuto, XDPAuto, XDPNative, XDPGeneric),
			ZeroCopy:   choice(t, "zero_copy", ZeroCopyAuto, ZeroCopyAuto, ZeroCopyOn, ZeroCopyOff),
			XDPTX:      choice(t, "xdp_tx", XDPTXAuto, XDPTXAuto, XDPTXOn, XDPTXOff),
			NeedWakeup: t.flag("need_wakeup", true),
			MTU:        t.integer("mtu", 0, minMTU, maxMTU),
		}
		if out.ZeroCopy == ZeroCopyOn && out.XDPMode == XDPGeneric {
			t.refuse("zero_copy", `zero-copy is impossible with xdp_mode = "generic"`)
		}
		out.MAC, _ = t.mac("mac")
		out.Gateway, _ = t.hostAddress("gateway")
		t.finish()
		c.Interfaces = append(c.Interfaces, out)
	}
}

// badInterfaceName says what keeps the kernel from having an interface of that
// name; "" when nothing does.
func badInterfaceName(name string) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "the kernel allows no such name"
	case len(name) > 15:
		return "it is longer than 15 bytes"
	case strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return "it has a slash, a colon, a space or an unprintable character"
	}
	return ""
}

func (r *reader) neighbors(list []*table, c *Config) {
	var names []string
	for _, i := range c.Interfaces {
		names = append(names, i.Name)
	}
	seen := make(map[string]bool, len(list))
	for _, t := range list {
		var out Neighbor
		var ok bool
		if out.Address, ok = t.hostAddress("address"); ok {
			if key := out.Address.String(); seen[key] {
				t.refuse("address", "neighbour %s is listed twice", key)
			} else {
				seen[key] = true
			}
		}
		out.MAC, _ = t.mac("mac")
		out.Interface = t.text("interface", "")
		if _, isText := t.data["interface"].(string); isText && !slices.Contains(names, out.Interface) {
			t.refuse("interface", "no [[interface]] has the name %q%s", out.Interface, r.suggest(out.Interface, names, `"%s"`))
		}
		for _, key := range []string{"address", "mac", "interface"} {
			t.require(key)
		}
		t.finish()
		c.Neighbors = append(c.Neighbors, out)
	}
}
