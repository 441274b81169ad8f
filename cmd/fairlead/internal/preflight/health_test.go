package preflight

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	m := newMachine(t)
	m.address(m.veth("eth0", 1500, 1), "198.18.10.1/24")
	dir := t.TempDir()
	empty, program := dir+"/empty.pem", dir+"/program"
	for name, mode := range map[string]os.FileMode{empty: 0o600, program: 0o755} {
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	pool := func(name, health string) string {
		return "[[pool]]\nname = \"" + name + "\"\n[pool.health]\n" + strings.ReplaceAll(health, "; ", "\n") + "\n[[pool.backend]]\naddress = \"198.18.10.11:80\"\n"
	}
	service := func(pool, vip, method string) string {
		return "[[service]]\nname = \"" + pool + "\"\nvip = \"" + vip + "\"\nprotocol = \"tcp\"\nport = 80\npool = \"" + pool + "\"\nmethod = \"" + method + "\"\n"
	}
	c := &checker{cfg: parse(t, pool("good", "type = \"tls\"; source = \"198.18.10.1\"; tls.ca_file = \"\"")+
		pool("local", "type = \"exec\"; source = \"127.0.0.5\"; exec.command = [ \""+program+"\" ]")+
		pool("source", "type = \"tcp\"; source = \"198.18.10.9\"")+
		pool("file", "type = \"https\"; tls = { verify = true, ca_file = \"/nowhere.pem\" }")+
		pool("empty", "type = \"tls\"; tls = { verify = true, ca_file = \""+empty+"\" }")+
		pool("gone", "type = \"exec\"; exec.command = [ \"/nowhere\" ]")+
		pool("data", "type = \"exec\"; exec.command = [ \""+empty+"\" ]")+
		pool("direct", "type = \"tcp\"; path = \"direct\"")+service("direct", "198.18.0.1", "l2"))}
	c.health()
	want := []string{
		"warning health checks of pool source: they cannot be made: their source 198.18.10.9 is not an address of this host",
		"warning health checks of pool file: they cannot be made: ca_file: open /nowhere.pem: no such file or directory",
		"warning health checks of pool empty: they cannot be made: ca_file: " + empty + " has no certificate in PEM form",
		"warning health checks of pool gone: they cannot be made: stat /nowhere: no such file or directory",
		"warning health checks of pool data: they cannot be made: " + empty + " is not a program",
	}
	var got []string
	for _, f := range c.found {
		got = append(got, f.Level.String()+" "+f.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for pool, want := range map[string]bool{"direct": false, "l2": true, "nat": false} {
		method := "l2"
		if pool == "nat" {
			method = "nat\"\n[[snat]]\naddress = \"198.18.10.77"
		}
		c := &checker{cfg: parse(t, simplePool(pool)+service(pool, "198.18.0.1", method))}
		if got := c.tunneled(&c.cfg.State.Pools[0]); got != want {
			t.Errorf("pool %s is checked through the method: %t, want %t", pool, got, want)
		}
	}
}

func simplePool(name string) string {
	path := "auto"
	if name == "direct" {
		path = "direct"
	}
	return "[[pool]]\nname = \"" + name + "\"\nhealth = { type = \"tcp\", path = \"" + path + "\" }\nbackend = [ { address = \"198.18.10.11:80\" } ]\n"
}
