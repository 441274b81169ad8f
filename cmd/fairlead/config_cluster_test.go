package main

import (
	"strings"
	"testing"
	"time"

	"fairlead/controlplane/api"
)

// TestResultOfAChangeInACluster: nodes that were not asked, and what they do not
// know, stand before what has changed; a history says on which node.
func TestResultOfAChangeInACluster(t *testing.T) {
	var out strings.Builder
	err := writeResult(&out, &api.ConfigResult{
		Changed: true, Version: api.ConfigVersion{Number: 7, Summary: "+1 service"},
		Warnings: []string{`node "lb3" was not asked (dead); it takes the change over when it is back`},
	}, time.Unix(0, 0))
	const want = "warning: node \"lb3\" was not asked (dead); it takes the change over when it is back\nversion 7 is in force: +1 service\n"
	if err != nil || out.String() != want {
		t.Errorf("%v, written\n%swant\n%s", err, out.String(), want)
	}
	for _, c := range []struct{ user, node, want string }{{"root", "", "root"}, {"root", "lb2", "root on lb2"}, {"", "lb2", "on lb2"}} {
		if got := historyAuthor(&api.ConfigVersion{User: c.user, Node: c.node}); got != c.want {
			t.Errorf("author %q, want %q", got, c.want)
		}
	}
	out.Reset()
	at := time.Unix(0, 0)
	writeDesired(&out, &api.Desired{Version: 3, Time: &at, Source: "api", User: "root", Node: "lb2"}, at)
	if !strings.HasSuffix(out.String(), "(api, root, on node lb2)\n") {
		t.Errorf("written %s", out.String())
	}
}
