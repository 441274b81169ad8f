package doctor

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// rulesWithin bounds how long a firewall's rules may take to list, and maxRules
// how much of them is read.
const (
	rulesWithin = 5 * time.Second
	maxRules    = 8 << 20
)

// firewall looks for rules about addresses that the host's firewall never sees
// a packet of: the XDP program takes them before.
func (d *doctor) firewall() {
	vips := make(map[netip.Addr]bool)
	for i := range d.cfg.State.VIPs {
		vips[d.cfg.State.VIPs[i].Address] = true
	}
	for i := range d.cfg.State.Services {
		vips[d.cfg.State.Services[i].VIP] = true
	}
	if len(vips) == 0 {
		return
	}
	listed := false
	for _, list := range [][]string{{"nft", "list", "ruleset"}, {"iptables-legacy-save"}, {"ip6tables-legacy-save"}} {
		if _, err := exec.LookPath(list[0]); err != nil {
			continue
		}
		rules, err := output(list)
		if err != nil {
			d.add(Finding{Status: Warning, Check: "firewall", Found: fmt.Sprintf("the rules cannot be listed: %v", err), Advice: "run the examination as root", Command: strings.Join(list, " ")})
			continue
		}
		listed = true
		if rule, vip := about(rules, vips); rule != "" {
			d.add(Finding{Status: Warning, Check: "firewall", Subject: vip.String(), Found: fmt.Sprintf("the host's firewall has a rule about a VIP, which never sees its packets: %q", rule),
				Advice: "use source_ranges of the service in its place"})
			return
		}
	}
	if listed {
		d.ok("firewall", "", "the host's firewall has no rule about a VIP")
	}
}

func output(command []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), rulesWithin)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", command[0], err, strings.TrimSpace(complaint.String()))
	}
	return string(out.Next(maxRules)), nil
}

// addressText finds what may be an address or a prefix.
var addressText = regexp.MustCompile(`[0-9a-fA-F]*[.:][0-9a-fA-F:.]*(?:/[0-9]{1,3})?`)

// about is the first rule that names a VIP, or a prefix with one in it that is at
// least a quarter of its family's bits long.
func about(rules string, vips map[netip.Addr]bool) (rule string, vip netip.Addr) {
	for line := range strings.Lines(rules) {
		for _, word := range addressText.FindAllString(line, -1) {
			if a, err := netip.ParseAddr(word); err == nil && vips[a] {
				return strings.TrimSpace(line), a
			}
			p, err := netip.ParsePrefix(word)
			if err != nil || p.Bits() < p.Addr().BitLen()/4 {
				continue // so much is not about us
			}
			for a := range vips {
				if p.Contains(a) {
					return strings.TrimSpace(line), a
				}
			}
		}
	}
	return "", netip.Addr{}
}
